"""Every error of a request as an RFC 9457 answer: the process edge, where nothing may get past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lightwork_broker.db.engine import DatabaseUnavailable, NotStorable
from lightwork_broker.errors import BrokerError
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.problems import problem, problem_of
from lightwork_contracts.wire.problems import FieldError, ProblemCode

log = structlog.stdlib.get_logger()


def add_refusals(app: FastAPI) -> None:
    """Let each kind of error be answered in its own way."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, BrokerError):
            raise error
        return problem_of(error, instance=request.url.path)

    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        log.warning("request.lightning_error", path=request.url.path, cause=type(error).__name__)
        return problem(
            ProblemCode.LIGHTNING_UNAVAILABLE,
            "the broker's Lightning node gives no answer",
            hint="try again in a moment",
            instance=request.url.path,
        )

    async def no_database(request: Request, error: Exception) -> JSONResponse:
        log.warning("request.no_database", path=request.url.path, cause=str(error))
        return problem(
            ProblemCode.DATABASE_UNAVAILABLE,
            "the broker's database gives no answer",
            hint="try again in a moment, with the same Idempotency-Key",
            instance=request.url.path,
        )

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        found: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
        errors = tuple(
            FieldError(
                pointer="/" + "/".join(str(part) for part in item["loc"]), message=str(item["msg"])[:300]
            )
            for item in found[:20]
        )
        detail = "the request does not fit the API" + (f": {errors[0].message}" if errors else "")
        return problem(
            ProblemCode.REQUEST_INVALID, detail, hint="see /docs", instance=request.url.path, errors=errors
        )

    async def http(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {
            404: ProblemCode.NOT_FOUND,
            405: ProblemCode.METHOD_NOT_ALLOWED,
            413: ProblemCode.BODY_TOO_LARGE,
        }.get(status, ProblemCode.REQUEST_INVALID if status < 500 else ProblemCode.INTERNAL)
        detail = str(error.detail) if isinstance(error, HTTPException) else "the broker made a mistake"
        return problem(code, detail, instance=request.url.path)

    async def unwritable(request: Request, error: Exception) -> JSONResponse:
        # Half of a surrogate pair can be written in JSON, but neither be stored nor be answered.
        return problem(
            ProblemCode.REQUEST_INVALID, "a text is not Unicode", hint="see /docs", instance=request.url.path
        )

    async def not_storable(request: Request, error: Exception) -> JSONResponse:
        return problem(ProblemCode.REQUEST_INVALID, str(error), hint="see /docs", instance=request.url.path)

    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("request.failed", path=request.url.path, exc_info=error)
        return problem(
            ProblemCode.INTERNAL, "the broker made a mistake; it is in its log", instance=request.url.path
        )

    app.add_exception_handler(BrokerError, refused)
    app.add_exception_handler(LightningError, unavailable)
    app.add_exception_handler(DatabaseUnavailable, no_database)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(UnicodeEncodeError, unwritable)
    app.add_exception_handler(NotStorable, not_storable)
    app.add_exception_handler(Exception, broken)
