"""The site that `make pages` builds: every page is in its menu, and it takes nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import pytest
from docs_pages import PAGES, REPOSITORY, fences

ZENSICAL = str(Path(sys.executable).with_name("zensical"))
LOADING = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}
FETCHED = re.compile(r"""url\(["']?(?:https?:)?//""")
"""In a style sheet: a font or picture of somebody else's."""


class Loaded(HTMLParser):
    """What a browser fetches by itself for one page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = dict(attrs).get(LOADING.get(tag, ""))
        if wanted is not None:
            self.urls.append(wanted)


def settings() -> dict[str, object]:
    described = tomllib.loads((REPOSITORY / "zensical.toml").read_text())
    return cast("dict[str, object]", described["project"])


def menu(entries: object) -> list[str]:
    """The pages of the menu, in its order."""
    found: list[str] = []
    for entry in cast("list[dict[str, object]]", entries):
        for value in entry.values():
            found += [value] if isinstance(value, str) else menu(value)
    return found


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a copy of the pages; `http_proxy` and its kin lead nowhere, so that nothing can be fetched."""
    (folder / "zensical.toml").write_bytes((REPOSITORY / "zensical.toml").read_bytes())
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [ZENSICAL, "build", "--strict", "--clean"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **nowhere},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def copy_pages(folder: Path) -> None:
    for file in (REPOSITORY / "docs").rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    copy_pages(folder)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / str(settings()["site_dir"])


def test_every_page_is_in_the_menu_once_and_the_menu_has_no_other() -> None:
    pages = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    assert sorted(menu(settings()["nav"])) == sorted(pages)


def test_a_page_of_the_menu_is_built_with_its_pictures(site: Path) -> None:
    missing = [page for page in menu(settings()["nav"]) if not (site / page).with_suffix(".html").is_file()]
    assert missing == []
    assert {file.name for file in (site / "images").iterdir()} == {
        file.name for file in (REPOSITORY / "docs" / "images").iterdir()
    }


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    fetched: dict[str, list[str]] = {}
    for file in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(file.read_text())
        assert parser.urls, file
        fetched[file.name] = [url for url in parser.urls if re.match(r"(https?:)?//", url)]
    assert {name: urls for name, urls in fetched.items() if urls} == {}
    assert [file.name for file in site.rglob("*.css") if FETCHED.search(file.read_text())] == []


def test_no_page_of_the_site_has_a_diagram_that_a_browser_would_fetch_a_program_for() -> None:
    drawn = [
        page
        for page in PAGES
        if page.startswith("docs/")
        for fence in fences(page)
        if fence.language == "mermaid"
    ]
    assert drawn == []


@pytest.mark.parametrize("broken", ["[gone](gone.md)", "[gone](money.md#gone)"])
def test_a_broken_link_fails(broken: str, tmp_path: Path) -> None:
    copy_pages(tmp_path)
    page = tmp_path / "docs" / "index.md"
    page.write_text(f"{page.read_text()}\n{broken}\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "index.md" in done.stdout + done.stderr
