"""Every command of the pages is run as it is written, in the page's order, by a reader with an empty home."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import PAGES, fences, inline_codes
from page_session import PageSession

ON_NO_NODE = ("docs/agents.md", "docs/api.md", "docs/operating.md", "docs/testing.md")
PLAYED_ELSEWHERE = ("docs/compose.md", "docs/dev.md", "docs/regtest.md")
"""Pages that need real nodes: tests/regtest plays them, or runs what they describe."""
WITHOUT_COMMANDS = ("docs/incidents.md", "docs/index.md", "docs/money.md", "docs/safety.md")
SHOWN = ("text", "mermaid")


@pytest.mark.timeout(900)  # a page of forty commands, on a machine that does other things, too
@pytest.mark.parametrize("page", ON_NO_NODE)
def test_a_page_that_needs_no_node_works_as_it_is_written(page: str, tmp_path: Path) -> None:
    PageSession(page, folder=tmp_path).play()


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    kinds = ("file ", "run", "prints", "terminal ", "again ", "not run, ")
    silent = [
        fence.code
        for fence in fences(page)
        if fence.language not in SHOWN and not fence.marker.startswith(kinds)
    ]
    assert silent == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_file_that_a_reader_has_to_write_is_named_to_the_reader(page: str) -> None:
    files = [fence.marker.removeprefix("file ") for fence in fences(page) if fence.marker.startswith("file ")]
    assert [name for name in files if name not in inline_codes(page)] == []


def test_every_page_is_played_or_has_nothing_to_play() -> None:
    known = {*ON_NO_NODE, *PLAYED_ELSEWHERE, *WITHOUT_COMMANDS}
    assert known == {page for page in PAGES if re.fullmatch(r"docs/[^/]+\.md", page)}
    assert [page for page in WITHOUT_COMMANDS if {one.language for one in fences(page)} - set(SHOWN)] == []
