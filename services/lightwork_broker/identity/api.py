"""The dependency that every signed route takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from lightwork_broker.identity.service import Identity
from lightwork_contracts.ids import Pubkey

nostr_scheme = APIKeyHeader(
    name="Authorization",
    scheme_name="Nostr",
    description="`Nostr <base64 of a signed kind 27235 event>` (NIP-98), with `u`, `method`, `payload` and `nonce`.",
    auto_error=False,
)


async def authenticated(
    request: Request, _: Annotated[str | None, Security(nostr_scheme)]
) -> AsyncGenerator[Pubkey]:
    """Yield the key that signed this request, and count the request as its own until it is answered."""
    identity = cast("Identity", request.app.state.identity)
    query = request.scope.get("query_string", b"").decode("latin-1")
    path = request.scope.get("raw_path", b"").decode("latin-1").split("?", 1)[0] or request.url.path
    caller = await identity.who(
        header=request.headers.get("authorization"),
        host=request.headers.get("host", ""),
        target=f"{path}?{query}" if query else path,
        method=request.method,
        body=await request.body(),
    )
    with identity.at_once.one_more(caller):
        yield caller


Caller = Annotated[Pubkey, Depends(authenticated)]
