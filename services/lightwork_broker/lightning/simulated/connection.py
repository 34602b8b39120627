"""One connection to a simulated node: the place where faults strike and patience ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, assert_never

from lightwork_broker.lightning.errors import LightningError, LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.simulated.faults import Call, Fault, Faults, Strike
from lightwork_broker.lightning.simulated.node_state import Condition, NodeState
from lightwork_broker.lightning.simulated.switchboard import Switchboard
from lightwork_broker.lightning.simulated.timing import pause
from lightwork_contracts.ids import PaymentHash

T = TypeVar("T")


class OutcomeUnknown(LightningUnavailable):
    """The answer is lost for good: a second look must not be taken either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds of the network's clock. `latency_seconds` is what each call takes; without it nothing waits."""

    call_seconds: float = 10.0
    pay_margin_seconds: float = 3.0
    retry_seconds: float = 0.25
    latency_seconds: float = 0.0


def go_away(node: NodeState, condition: Condition) -> None:
    """Take the node out of service: its streams end, its channels rest."""
    if node.serves:
        node.session += 1
    node.condition = condition
    node.waiters.everything_changed()


def come_back(board: Switchboard, node: NodeState) -> None:
    """Let the node serve again: it hears what it missed and does what fell due."""
    node.condition = Condition.UP
    board.catch_up()
    node.waiters.everything_changed()


class Connection:
    """Calls on one node."""

    def __init__(self, board: Switchboard, node: NodeState, *, faults: Faults, patience: Patience) -> None:
        self.board = board
        self.node = node
        self.patience = patience
        self.is_closed = False
        self._faults = faults

    def serving(self, *, session: int | None = None) -> NodeState:
        """Return the node if it answers now, in this session if one is given.

        Raises: LightningUnavailable.
        """
        if self.is_closed:
            raise LightningUnavailable("we closed the connection")
        match self.node.condition:
            case Condition.DOWN:
                raise LightningUnavailable("the simulated node is down")
            case Condition.LOCKED:
                raise LightningUnavailable("the wallet of the simulated node is locked")
            case Condition.UP:
                if session is not None and session != self.node.session:
                    raise LightningUnavailable("the simulated node went away and came back")
                return self.node
            case _:
                assert_never(self.node.condition)

    async def call(
        self, method: str, payment_hash: PaymentHash | None, effect: Callable[[NodeState], T]
    ) -> T:
        """Let the call have its effect, or a fault.

        Raises:
            LightningError: what `effect` raises; LightningUnavailable for an answer that did not come.
        """
        if self.patience.latency_seconds > 0:
            await pause(self.board.clock, self.patience.latency_seconds)
        strike = self._faults.strike(Call(node=self.node.name, method=method, payment_hash=payment_hash))
        return effect(self.serving()) if strike is None else await self._struck(strike, effect)

    async def _struck(self, strike: Strike, effect: Callable[[NodeState], T]) -> T:
        node = self.node
        match strike.fault:
            case Fault.LOST_BEFORE:
                raise LightningUnavailable("the call was lost")
            case Fault.LOST_AFTER:
                self._unheard(effect)
                raise LightningUnavailable("the answer was lost")
            case Fault.UNKNOWN_OUTCOME:
                self._unheard(effect)
                raise OutcomeUnknown("the answer was lost, and nobody can say what it was")
            case Fault.RESTART:
                self._unheard(effect)
                go_away(node, Condition.DOWN)
                come_back(self.board, node)
                raise LightningUnavailable("the simulated node restarted")
            case Fault.NODE_DOWN | Fault.WALLET_LOCKED:
                go_away(node, Condition.DOWN if strike.fault is Fault.NODE_DOWN else Condition.LOCKED)
                return effect(self.serving())
            case Fault.NO_PERMISSION:
                raise PermissionMissing("the simulated node refuses the macaroon")
            case Fault.DUPLICATE:
                self._unheard(effect)
                return effect(self.serving())
            case Fault.LATE_ANSWER:
                answer = effect(self.serving())
                await self._in_time(strike.seconds)
                self.serving()
                return answer
            case Fault.LATE_CALL:
                return await self._late(strike.seconds, effect)
            case _:
                assert_never(strike.fault)

    def _unheard(self, effect: Callable[[NodeState], object]) -> None:
        """Let the effect happen; its refusal is lost as its answer is."""
        with suppress(LightningError):
            effect(self.serving())

    async def _late(self, seconds: float, effect: Callable[[NodeState], T]) -> T:
        """Let the effect happen after `seconds`, whether or not the caller still listens then."""
        if seconds <= self.patience.call_seconds:
            await pause(self.board.clock, seconds)
            return effect(self.serving())
        self.board.clock.call_later(seconds, lambda: self._unheard(effect))
        await self._in_time(seconds)
        raise LightningUnavailable("the call was too slow")

    async def _in_time(self, seconds: float) -> None:
        await pause(self.board.clock, min(seconds, self.patience.call_seconds))
        if seconds > self.patience.call_seconds:
            raise LightningUnavailable("the answer took too long")
