"""Faults on demand: a port that is asked before every call on a simulated node."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lightwork_contracts.ids import PaymentHash


class Fault(StrEnum):
    """What can happen to one call. `seconds` of the strike count for the two late ones."""

    LOST_BEFORE = "the call never reaches the node"
    LOST_AFTER = "the call has its effect, and the answer is lost"
    LATE_CALL = "the call has its effect after some seconds"
    LATE_ANSWER = "the call has its effect, and the answer comes after some seconds"
    DUPLICATE = "the node hears the call twice"
    RESTART = "the node restarts after the effect and before the answer; streams end"
    UNKNOWN_OUTCOME = "the call has its effect, and nobody can say which"
    NODE_DOWN = "the node goes down before the call, until it is started"
    WALLET_LOCKED = "the wallet is locked before the call, until it is unlocked"
    NO_PERMISSION = "the node refuses the macaroon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a port: the node's name, the method, and the payment hash if it is about one."""

    node: str
    method: str
    payment_hash: PaymentHash | None


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that happens. A late answer beyond the caller's patience is a lost one to the caller."""

    fault: Fault
    seconds: float = 1.0


class Faults(Protocol):
    """Decides what happens to each call."""

    def strike(self, call: Call) -> Strike | None:
        """Return what happens to this call, or None when all is well."""
        ...


class NoFaults:
    """All is well."""

    def strike(self, call: Call) -> Strike | None:
        return None


@dataclass(frozen=True, slots=True)
class _Planned:
    strike: Strike
    method: str | None
    node: str | None

    def hits(self, call: Call) -> bool:
        return self.method in (None, call.method) and self.node in (None, call.node)


class PlannedFaults:
    """Faults that strike once each, in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self.struck: list[tuple[Call, Strike]] = []

    def plan(
        self, fault: Fault, *, method: str | None = None, node: str | None = None, seconds: float = 1.0
    ) -> None:
        """Let the next call strike that is of this method and node; None is any."""
        self._planned.append(_Planned(Strike(fault, seconds), method, node))

    def clear(self) -> None:
        """Take back every fault that has not struck."""
        self._planned.clear()

    @property
    def waiting(self) -> int:
        """How many planned faults have not struck."""
        return len(self._planned)

    @property
    def is_used_up(self) -> bool:
        """Whether every planned fault has struck."""
        return not self._planned

    def strike(self, call: Call) -> Strike | None:
        for index, planned in enumerate(self._planned):
            if planned.hits(call):
                del self._planned[index]
                self.struck.append((call, planned.strike))
                return planned.strike
        return None


class SeededFaults:
    """Faults by chance, the same ones for the same seed and the same calls. Rates are from 0 to 1."""

    def __init__(self, seed: bytes, rates: Mapping[Fault, float], *, seconds: float = 1.0) -> None:
        if min(rates.values(), default=0.0) < 0 or sum(rates.values()) > 1:
            raise ValueError("rates are shares of the calls, together at most 1")
        self._seed = seed
        self._rates = dict(rates)
        self._seconds = seconds
        self._calls = 0

    def strike(self, call: Call) -> Strike | None:
        self._calls += 1
        drawn = hashlib.sha256(self._seed + self._calls.to_bytes(8, "big")).digest()
        chance = int.from_bytes(drawn[:8], "big") / 2**64
        for fault, rate in self._rates.items():
            if chance < rate:
                return Strike(fault, self._seconds)
            chance -= rate
        return None
