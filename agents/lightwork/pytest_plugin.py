"""pytest's fixture `lightwork_market`. Imported by every run of pytest, so it imports nothing heavy by itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lightwork.agent import Agent
    from lightwork.testing import SyncLocalMarket


@pytest.fixture
def lightwork_market() -> Generator[Callable[..., SyncLocalMarket]]:
    """Open markets: `lightwork_market(agent).hire("shout", text="hi")`. Each is closed when the test ends."""
    with ExitStack() as opened:

        def open_market(*agents: Agent) -> SyncLocalMarket:
            from lightwork.testing import local_market_sync

            return opened.enter_context(local_market_sync(*agents))

        yield open_market
