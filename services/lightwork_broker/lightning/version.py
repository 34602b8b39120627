"""Which LND a broker may hold other people's money with. Pure."""

from __future__ import annotations

import re
from typing import Final

SAFE: Final = (0, 19, 0)
"""Older ones have published holes: payments can be taken from them, and messages can exhaust their memory."""

_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def is_safe(version: str) -> bool:
    """Tell whether a node that calls itself this may be used; one that does not say a version may not.

    LND says, for example, `0.21.3-beta commit=v0.21.3-beta`.
    """
    found = _NUMBERS.search(version)
    return found is not None and tuple(map(int, found.groups())) >= SAFE
