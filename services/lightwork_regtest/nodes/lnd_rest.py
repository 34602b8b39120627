"""LND's REST interface: TLS checked against the node's own certificate, the macaroon in a header."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeVar

import httpx2
from pydantic import BaseModel, JsonValue, ValidationError

from lightwork_regtest.errors import RpcError

M = TypeVar("M", bound=BaseModel)


class LndRefusedError(RpcError):
    """LND answered, and the answer is an error: its text and gRPC code."""

    def __init__(self, what: str, message: str, grpc_code: int) -> None:
        """Keep the code, by which callers tell refusals apart."""
        super().__init__(f"{what}: {message} (gRPC code {grpc_code})")
        self.message = message
        self.grpc_code = grpc_code


class _Fault(BaseModel):
    code: int = 2
    message: str = ""


class _FaultAnswer(_Fault):
    """A unary call's fault stands at the top, a stream's under `error`."""

    error: _Fault | None = None


class LndRest:
    """One connection pool to one node, with one macaroon; close it."""

    def __init__(self, *, url: str, tls_cert: Path, macaroon: Path) -> None:
        """Read both files now: they exist once the node has started for the first time.

        Raises:
            OSError: a file is missing.
        """
        trust = ssl.create_default_context(cafile=str(tls_cert))
        # LND's certificate signs itself and lacks what the strict mode of Python 3.13 asks of an authority.
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client = httpx2.Client(
            base_url=url,
            verify=trust,
            headers={"Grpc-Metadata-macaroon": macaroon.read_bytes().hex()},
            trust_env=False,
        )

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()

    def get(
        self,
        path: str,
        model: type[M],
        *,
        params: dict[str, str | int | bool] | None = None,
        timeout: float = 30.0,
    ) -> M:
        """Return the answer to a GET.

        Raises:
            LndRefusedError: LND says no.
            RpcError: LND does not answer.
        """
        return self._call("GET", path, model, params=params, timeout=timeout)

    def post(self, path: str, model: type[M], body: dict[str, JsonValue], *, timeout: float = 30.0) -> M:
        """Return the answer to a POST; of a stream, the last message.

        Raises:
            LndRefusedError: LND says no.
            RpcError: LND does not answer: the call may have been done.
        """
        return self._call("POST", path, model, body=body, timeout=timeout)

    def _call(
        self,
        method: str,
        path: str,
        model: type[M],
        *,
        params: dict[str, str | int | bool] | None = None,
        body: dict[str, JsonValue] | None = None,
        timeout: float = 30.0,
    ) -> M:
        what = f"lnd {method} {path}"
        try:
            response = self._client.request(method, path, params=params, json=body, timeout=timeout)
            lines = [line for line in response.text.splitlines() if line.strip()]
        except httpx2.HTTPError as error:
            raise RpcError(f"{what}: no answer ({type(error).__name__})") from error
        if not lines:
            raise RpcError(f"{what}: empty answer ({response.status_code})")
        try:
            if not response.is_success:
                answer = _FaultAnswer.model_validate_json(lines[-1])
                fault = answer.error or answer
                raise LndRefusedError(what, fault.message, fault.code)
            return model.model_validate_json(lines[-1])
        except ValidationError as error:
            raise RpcError(f"{what}: an answer of another form ({error.error_count()} faults)") from None
