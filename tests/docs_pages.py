"""The repository's pages as the tests of the documents read them: code fences, commands, links, paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    *sorted(str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").rglob("*.md")),
)

_FENCE = re.compile(
    r"(?:^<!-- snippet: (?P<marker>[^>]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code; `marker` says how it is tested, and is empty where nothing says so."""

    language: str
    code: str
    marker: str = ""


def page_text(page: str) -> str:
    """Return a page."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def fences(page: str) -> list[Fence]:
    """Return the blocks of code of a page."""
    return [
        Fence(found["language"], found["code"], found["marker"] or "")
        for found in _FENCE.finditer(page_text(page))
    ]


def snippet(marker: str) -> str:
    """Return the README's block of this marker."""
    (code,) = (fence.code for fence in fences("README.md") if fence.marker == marker)
    return code


def inline_codes(page: str) -> list[str]:
    """Return what stands in backticks outside of blocks."""
    return _INLINE.findall(_FENCE.sub("", page_text(page)))


def named_tests(text: str) -> set[str]:
    """Return the tests that a text names in backticks."""
    return {code for code in _INLINE.findall(text) if code.startswith("test_")}


def existing_tests() -> set[str]:
    """Return the name of every test function of the repository."""
    text = "\n".join(file.read_text() for file in (REPOSITORY / "tests").rglob("test_*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def links(page: str) -> list[str]:
    """Return the targets of links into the repository."""
    return [target for target in _LINK.findall(page_text(page)) if "://" not in target]


def table_rows(page: str) -> list[tuple[str, ...]]:
    """Return the cells of every row of the page's tables, in order."""
    lines = _FENCE.sub("", page_text(page)).splitlines()
    return [
        tuple(cell.strip().replace("<wbr>", "") for cell in line.strip("|").split("|"))
        for line in lines
        if line.startswith("|") and not set(line) <= set("|-: ")
    ]


def commands(program: str) -> list[tuple[str, ...]]:
    """Return every command line of a program that the pages name, up to its first option."""
    found: set[tuple[str, ...]] = set()
    for page in PAGES:
        lines = [line for fence in fences(page) if fence.language == "sh" for line in fence.code.splitlines()]
        for line in lines + inline_codes(page):
            words = line.partition("#")[0].split()
            if words and words[0] == program:
                found.add(tuple(_plain_words(words[1:])))
    return sorted(found)


def _plain_words(words: list[str]) -> list[str]:
    plain: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        plain.append(word)
    return plain
