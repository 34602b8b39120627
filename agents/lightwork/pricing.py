"""What a task costs: a fixed amount, or a function of the task's own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping

from lightwork.errors import AgentInvalid, TaskFailed
from lightwork_contracts.money import MAX_MSAT, Msat

PriceFunction = Callable[..., Msat] | Callable[..., Awaitable[Msat]]
Price = Msat | PriceFunction


def fixed_price(price: Price) -> Msat | None:
    """Return the amount when the price does not depend on the input, else None."""
    return None if callable(price) else price


def check_price(price: Price, *, parameters: frozenset[str], where: str) -> None:
    """Refuse a price that can never be charged, at declaration rather than at the first quote.

    Raises:
        AgentInvalid: not whole msat, not positive, or a function that asks for parameters the task lacks.
    """
    if not callable(price):
        amount_or_complaint(price, where=where, error=AgentInvalid)
        return
    for name, parameter in inspect.signature(price).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in parameters and parameter.default is parameter.empty:
            raise AgentInvalid(
                f"{where}: the price function asks for '{name}', which the task does not take",
                hint="give the price function parameters of the task, by the same names",
            )


async def price_of(price: Price, arguments: Mapping[str, object], *, where: str) -> Msat:
    """Return the price of one input in msat.

    Raises:
        TaskFailed: the price function returned something that is not a positive whole number of msat.
    """
    if not callable(price):
        return price
    parameters = inspect.signature(price).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {name: value for name, value in arguments.items() if takes_all or name in parameters}
    amount = price(**given)
    if inspect.isawaitable(amount):
        amount = await amount
    return amount_or_complaint(amount, where=where, error=TaskFailed)


def amount_or_complaint(amount: object, *, where: str, error: type[AgentInvalid] | type[TaskFailed]) -> Msat:
    """Return the amount if it can be charged; raise `error` if not."""
    if type(amount) is not int:
        raise error(f"{where}: a price is a whole number of msat, not {type(amount).__name__}; use sats(10)")
    if not 1 <= amount <= MAX_MSAT:
        raise error(f"{where}: a price is at least 1 msat and at most 21 million BTC, not {amount} msat")
    return Msat(amount)
