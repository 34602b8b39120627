"""What moves money is tested on both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest
from databases import KINDS, Template, open_template
from escrow_story import Story, open_story


@pytest.fixture(scope="session", params=KINDS)
def template(request: pytest.FixtureRequest) -> Generator[Template]:
    """A migrated database, to be copied for each world. A test that is about one kind names it."""
    with open_template(str(request.param)) as opened:
        yield opened


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    """A market of one broker, in which nothing has happened; its node and its clock do as they are told."""
    async with open_story(template, brokers=1) as opened:
        yield opened
