"""Balances and withdrawals over HTTP."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Header, Path, Query, Request

from lightwork_broker.accounts.service import Accounts, withdrawal_view
from lightwork_broker.identity.api import Caller
from lightwork_broker.problems import SIGNED, documented
from lightwork_contracts.wire.accounts import (
    BalanceEntry,
    BalanceEntryPage,
    BalanceView,
    Withdraw,
    WithdrawalPage,
    WithdrawalView,
)
from lightwork_contracts.wire.problems import ProblemCode as P

router = APIRouter(tags=["balance"])

LAST_ENTRY = 2**53
Limit = Annotated[int, Query(ge=1, le=100)]


def _accounts(request: Request) -> Accounts:
    return cast("Accounts", request.app.state.accounts)


@router.get("/v1/balance", summary="What the broker owes you", responses=documented(*SIGNED))
async def balance(request: Request, caller: Caller) -> BalanceView:
    """From jobs in credit mode. The broker could keep it, so withdraw often."""
    return await _accounts(request).balance(caller)


@router.get("/v1/balance/entries", summary="Your account, line by line", responses=documented(*SIGNED))
async def entries(
    request: Request,
    caller: Caller,
    limit: Limit = 20,
    cursor: Annotated[int | None, Query(ge=1, le=LAST_ENTRY)] = None,
) -> BalanceEntryPage:
    """Newest first. All lines together are the balance."""
    lines = await _accounts(request).statement(caller, before=cursor, limit=limit + 1)
    more = str(lines[limit - 1].id) if len(lines) > limit else None
    shown = (
        BalanceEntry(id=line.id, amount_msat=line.amount_msat, cause=line.cause, at=line.at)
        for line in lines[:limit]
    )
    return BalanceEntryPage(entries=tuple(shown), next_cursor=more)


@router.post(
    "/v1/withdrawals",
    summary="Have an invoice paid from your balance",
    status_code=201,
    responses=documented(
        *SIGNED,
        P.IDEMPOTENCY_CONFLICT,
        P.BALANCE_TOO_LOW,
        P.WITHDRAWAL_LIMIT,
        P.WITHDRAWALS_STOPPED,
        P.INVOICE_MALFORMED,
        P.INVOICE_NETWORK,
        P.INVOICE_NO_AMOUNT,
        P.INVOICE_EXPIRED,
        P.INVOICE_HASH_USED,
        P.INVOICE_OWN_NODE,
    ),
)
async def withdraw(
    request: Request,
    caller: Caller,
    body: Withdraw,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)] = None,
) -> WithdrawalView:
    """Amount and routing budget are reserved at once; read the withdrawal until it is `paid` or `failed`.

    No answer is no failure: the money stays reserved until the node says for good what became of it.
    """
    accounts = _accounts(request)
    made = await accounts.withdraw(caller, invoice=body.invoice, max_fee_msat=body.max_fee_msat, key=key)
    return withdrawal_view(made, is_stopped=await accounts.is_stopped())


@router.get("/v1/withdrawals", summary="List your withdrawals", responses=documented(*SIGNED))
async def mine(
    request: Request,
    caller: Caller,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> WithdrawalPage:
    """Newest first."""
    accounts = _accounts(request)
    found = await accounts.mine(caller, before=cursor, limit=limit + 1)
    more = found[limit - 1].id if len(found) > limit else None
    is_stopped = await accounts.is_stopped()
    shown = (withdrawal_view(one, is_stopped=is_stopped) for one in found[:limit])
    return WithdrawalPage(withdrawals=tuple(shown), next_cursor=more)


@router.get(
    "/v1/withdrawals/{withdrawal_id}",
    summary="Read a withdrawal, or wait for its end",
    responses=documented(*SIGNED, P.NOT_FOUND),
)
async def read(
    request: Request,
    caller: Caller,
    withdrawal_id: Annotated[str, Path(max_length=64, examples=["wdr_01k5..."])],
    wait_seconds: Annotated[float, Query(ge=0, le=60)] = 0,
) -> WithdrawalView:
    """`unknown_since` says that the node has not told the outcome; the money stays reserved."""
    accounts = _accounts(request)
    found = await accounts.get(caller, withdrawal_id, wait_seconds=wait_seconds)
    return withdrawal_view(found, is_stopped=await accounts.is_stopped())
