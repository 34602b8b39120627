"""Every command of the pages is run as it is written, in the page's order, by a reader with an empty home."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_pages import fences
from page_session import PageSession

ON_NO_NODE = ("docs/testing.md", "docs/api.md")
RUNNABLE = ("sh", "console", "python", "toml")


@pytest.mark.parametrize("page", ON_NO_NODE)
def test_a_page_that_needs_no_node_works_as_it_is_written(page: str, tmp_path: Path) -> None:
    PageSession(page, folder=tmp_path).play()


@pytest.mark.parametrize("page", ON_NO_NODE)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    kinds = ("file ", "run", "terminal ", "not run, ")
    silent = [
        fence.code
        for fence in fences(page)
        if fence.language in RUNNABLE and not fence.marker.startswith(kinds)
    ]
    assert silent == []
