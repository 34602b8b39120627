"""Who is asking: requests signed by NIP-98, each good for one use."""

from __future__ import annotations

from typing import Protocol

from lightwork_broker.clock import Clock
from lightwork_broker.errors import AuthRefused, Overloaded
from lightwork_broker.identity.at_once import AtOnce
from lightwork_broker.identity.shared import SharedGuard
from lightwork_contracts.errors import AuthCode, AuthError
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.signed.http_auth import read_request_auth
from lightwork_contracts.signed.replay import ReplayGuard
from lightwork_contracts.wire.problems import ProblemCode


class KeyRates(Protocol):
    """Who counts what a key asks for."""

    def require(self, name: str) -> None: ...


class Identity:
    """Reads the Authorization header of a request. A signature holds for one URL, method and body, once."""

    def __init__(
        self,
        *,
        clock: Clock,
        origins: tuple[str, ...],
        guard: ReplayGuard,
        shared: SharedGuard,
        rates: KeyRates | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        self.at_once = AtOnce(0) if at_once is None else at_once
        self._shared = shared
        self._rates = rates
        self._clock = clock
        self._origins = origins
        self._guard = guard

    async def who(self, *, header: str | None, host: str, target: str, method: str, body: bytes) -> Pubkey:
        """Return the key that signed the request.

        The URL is put together from the origins that this broker serves, never from the Host header alone:
        otherwise a request signed for another broker could be played here.

        Raises:
            AuthRefused: with one of the `auth_*` codes.
            Overloaded: this key, or everybody together, asks for too much.
        """
        origin = next(
            (known for known in self._origins if known.split("://", 1)[-1] == host), self._origins[0]
        )
        now = int(self._clock.now())
        try:
            auth = read_request_auth(header, url=origin + target, method=method, body=body, now=now)
            self._guard.claim(auth.event_id, created_at=auth.created_at, now=now)
            if not await self._shared.take(auth.event_id, created_at=auth.created_at):
                raise AuthError(AuthCode.REPLAYED, "this signed request was used before: sign a new one")
        except AuthError as error:
            if error.code == AuthCode.GUARD_FULL:
                raise Overloaded("too many requests within a minute", hint="slow down") from error
            raise AuthRefused(
                error.message,
                auth_code=ProblemCode(error.code),
                hint="sign each request anew: kind 27235 with u, method, payload and nonce tags",
            ) from error
        if self._rates is not None:
            self._rates.require(auth.pubkey)
        return auth.pubkey
