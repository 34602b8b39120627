"""Msat, the only unit of money inside Lightwork."""

from __future__ import annotations

from typing import Annotated, NewType

from pydantic import Field

Msat = NewType("Msat", int)
"""Thousandths of a satoshi, always a whole number."""

MSAT_PER_SAT = 1_000
MSAT_PER_BTC = 100_000_000 * MSAT_PER_SAT
MAX_MSAT = Msat(21_000_000 * MSAT_PER_BTC)

AmountMsat = Annotated[Msat, Field(ge=0, le=MAX_MSAT, strict=True)]
"""A wire field holding zero or more msat; floats and numeric strings are refused."""

PriceMsat = Annotated[Msat, Field(ge=1, le=MAX_MSAT, strict=True)]
"""A wire field holding at least one msat."""


def sats(amount: int) -> Msat:
    """Return `amount` satoshis in msat.

    Raises:
        TypeError: the amount is not a whole number (a float has no place near money).
        ValueError: the amount is negative or above the 21 million BTC cap.
    """
    if type(amount) is not int:
        raise TypeError(f"sats() takes a whole number of satoshis, not {type(amount).__name__}")
    if not 0 <= amount * MSAT_PER_SAT <= MAX_MSAT:
        raise ValueError(f"{amount} sat is outside 0 to 21 million BTC")
    return Msat(amount * MSAT_PER_SAT)


def ceil_share(amount: Msat, *, ppm: int) -> Msat:
    """Return `ppm` millionths of `amount` msat, rounded up to a whole msat."""
    return Msat(-(-amount * ppm // 1_000_000))


def format_msat(amount: int) -> str:
    """Return the amount for people: `10 sat`, `0.5 sat`, `-1,234.567 sat`."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), MSAT_PER_SAT)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{sign}{whole:,}{fraction} sat"
