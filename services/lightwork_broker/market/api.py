"""Listings and quotes over HTTP."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Header, Path, Query, Request, Response

from lightwork_broker.identity.api import Caller
from lightwork_broker.market.quotes import Quotes, quote_view
from lightwork_broker.market.service import Market
from lightwork_broker.problems import SIGNED, documented
from lightwork_contracts.ids import HEX32
from lightwork_contracts.wire.market import (
    AnswerQuote,
    ListingPage,
    ListingView,
    PublishListing,
    QuoteView,
    RefuseQuote,
    RequestQuote,
)
from lightwork_contracts.wire.problems import ProblemCode as P

router = APIRouter()

ListingIdPath = Annotated[str, Path(max_length=64, examples=["lst_01k5..."])]
QuoteIdPath = Annotated[str, Path(max_length=64, examples=["qte_01k5..."])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=8, max_length=128, description="the same key, the same answer"
    ),
]

QUOTE_PROBLEMS = (
    *SIGNED,
    P.NOT_FOUND,
    P.INPUT_INVALID,
    P.PRICE_ABOVE_MAX,
    P.PROVIDER_REFUSED,
    P.PROVIDER_OFFLINE,
    P.PROVIDER_UNRESPONSIVE,
    P.LISTING_STALE,
    P.LISTING_RETIRED,
    P.IDEMPOTENCY_CONFLICT,
    P.LIGHTNING_UNAVAILABLE,
    P.PAYOUTS_STOPPED,
    P.TOO_MANY_JOBS,
)


def _market(request: Request) -> Market:
    return cast("Market", request.app.state.market)


def _quotes(request: Request) -> Quotes:
    return cast("Quotes", request.app.state.quotes)


@router.put(
    "/v1/listings",
    tags=["listings"],
    summary="Publish a listing, or a new version of it",
    responses=documented(*SIGNED, P.FORBIDDEN, P.LISTING_INVALID, P.LISTING_STALE, P.LISTING_LIMIT),
)
async def publish(request: Request, caller: Caller, body: PublishListing) -> ListingView:
    """The event is signed by the agent's own key, which is also the key that signs this request."""
    return await _market(request).publish(caller, body.event)


@router.get(
    "/v1/listings", tags=["listings"], summary="Search the listings", responses=documented(P.REQUEST_INVALID)
)
async def search(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="words that must all occur", examples=["echo"])] = "",
    agent: Annotated[str | None, Query(pattern=HEX32)] = None,
    online: Annotated[bool | None, Query(description="only those whose provider is online")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> ListingPage:
    """Newest first. Needs no signature."""
    found, more = await _market(request).search(
        text=q, agent=agent, online=online, limit=limit, cursor=cursor
    )
    return ListingPage(listings=tuple(found), next_cursor=more)


@router.get(
    "/v1/listings/{listing_id}",
    tags=["listings"],
    summary="Read a listing",
    responses=documented(P.NOT_FOUND),
)
async def read(request: Request, listing_id: ListingIdPath) -> ListingView:
    """The current version. Needs no signature."""
    market = _market(request)
    return market.view(await market.get(listing_id))


@router.get(
    "/v1/listings/{listing_id}/versions/{version}",
    tags=["listings"],
    summary="Read one version of a listing",
    responses=documented(P.NOT_FOUND),
)
async def read_version(
    request: Request, listing_id: ListingIdPath, version: Annotated[int, Path(ge=1, le=2**31)]
) -> ListingView:
    """Versions are never changed or removed. Needs no signature."""
    market = _market(request)
    return market.view(await market.get(listing_id, version=version))


@router.delete(
    "/v1/listings/{listing_id}",
    tags=["listings"],
    summary="Retire a listing",
    status_code=204,
    responses=documented(*SIGNED, P.FORBIDDEN, P.NOT_FOUND),
)
async def retire(request: Request, caller: Caller, listing_id: ListingIdPath) -> Response:
    """It can no longer be hired; jobs that exist go on."""
    await _market(request).retire(caller, listing_id)
    return Response(status_code=204)


@router.post(
    "/v1/quotes",
    tags=["quotes"],
    summary="Ask for a signed price for one input",
    responses=documented(*QUOTE_PROBLEMS),
)
async def request_quote(
    request: Request, caller: Caller, body: RequestQuote, key: IdempotencyKey = None
) -> QuoteView:
    """Waits up to ten seconds while the provider answers. Nothing is owed until the job is hired and paid."""
    return quote_view(await _quotes(request).request(caller, body, key=key))


@router.get(
    "/v1/quotes/{quote_id}",
    tags=["quotes"],
    summary="Read a quote of yours",
    responses=documented(*SIGNED, P.NOT_FOUND),
)
async def read_quote(request: Request, caller: Caller, quote_id: QuoteIdPath) -> QuoteView:
    """Only the buyer who asked for it can read it."""
    return quote_view(await _quotes(request).of_buyer(quote_id, caller))


@router.post(
    "/v1/work/quotes/{quote_id}/answer",
    tags=["work"],
    summary="Answer a quote with your invoice",
    status_code=204,
    responses=documented(
        *SIGNED,
        P.NOT_FOUND,
        P.WRONG_STATUS,
        P.COMMITMENT_INVALID,
        P.INVOICE_MALFORMED,
        P.INVOICE_NETWORK,
        P.INVOICE_NO_AMOUNT,
        P.INVOICE_AMOUNT,
        P.INVOICE_EXPIRED,
        P.INVOICE_EXPIRES_TOO_SOON,
        P.INVOICE_EXPIRES_TOO_LATE,
        P.INVOICE_CLTV,
        P.INVOICE_FEATURES,
        P.INVOICE_HASH,
        P.INVOICE_HASH_USED,
        P.INVOICE_OWN_NODE,
        P.NO_ROUTE,
        P.LIGHTNING_UNAVAILABLE,
    ),
)
async def answer_quote(
    request: Request, caller: Caller, quote_id: QuoteIdPath, body: AnswerQuote
) -> Response:
    """The commitment binds price, payment hash, input and listing version, signed by the agent's key."""
    await _quotes(request).answer(caller, quote_id, body.commitment)
    return Response(status_code=204)


@router.post(
    "/v1/work/quotes/{quote_id}/refuse",
    tags=["work"],
    summary="Decline a quote",
    status_code=204,
    responses=documented(*SIGNED, P.NOT_FOUND, P.WRONG_STATUS),
)
async def refuse_quote(
    request: Request, caller: Caller, quote_id: QuoteIdPath, body: RefuseQuote
) -> Response:
    """The reason reaches the buyer."""
    await _quotes(request).refuse(caller, quote_id, reason=body.reason)
    return Response(status_code=204)
