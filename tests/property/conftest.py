"""What moves money is tested on both databases."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from databases import KINDS, Template, open_template


@pytest.fixture(scope="session", params=KINDS)
def template(request: pytest.FixtureRequest) -> Generator[Template]:
    """A migrated database, to be copied for each world. A test that is about one kind names it."""
    with open_template(str(request.param)) as opened:
        yield opened
