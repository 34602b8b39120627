"""A process that has imported everything but our own code, and gives birth to one run of pytest after the other.

Most of the time of a small test goes into importing other people's packages. Here that is done once: each run is a fork
of this process, and imports our code anew. It reads the id of a test per line, and answers with one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

OURS = ("lightwork", "lightwork_broker", "lightwork_contracts", "lightwork_regtest")
OTHERS = (
    "alembic.command",
    "coincurve",
    "fastapi",
    "grpc.aio",
    "httpx2",
    "hypothesis",
    "jsonschema",
    "lndgrpc.compiled.lightning_pb2_grpc",
    "lndgrpc.compiled.router_pb2_grpc",
    "psycopg",
    "pydantic_settings",
    "pytest",
    "rich.table",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.ext.asyncio",
    "sqlmodel",
    "structlog",
    "typer",
    "uvicorn",
)
TOLD_IN = "told.txt"
TEST_SECONDS = 100
RUN_SECONDS = 150.0
GREEN, FAILED, TIMED_OUT = 0, 1, -1
"""Exit codes of pytest, and ours for a run that had to be ended."""


def serve() -> None:
    """Run each test that is asked for, until standard input ends."""
    # gRPC reads it when it is first loaded, and our package would set it before.
    os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "HIGH+ECDSA")
    for name in OTHERS:
        importlib.import_module(name)
    if early := [name for name in sys.modules if name.partition(".")[0] in OURS]:
        raise RuntimeError(f"our own code was imported too early: {early}")
    for line in sys.stdin:
        begun = time.monotonic()
        code = _end_of(_born(line.strip()), by=begun + RUN_SECONDS)
        print(json.dumps({"code": code, "seconds": time.monotonic() - begun}), flush=True)


def _born(test: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setsid()  # so that whatever it starts can be ended with it
        told = os.open(TOLD_IN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(told, 1)
        os.dup2(told, 2)
        code = _run(test)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(test: str) -> int:
    import pytest

    arguments = [
        *(test, "-x", "-q", "-p", "no:cacheprovider", "-p", "mutants.from_copy"),
        *("--no-header", "--tb=short", f"--timeout={TEST_SECONDS}"),
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # for what was imported before the fork
    ]
    return int(pytest.main(arguments))


def _end_of(child: int, *, by: float) -> int:
    while time.monotonic() < by:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Path(TOLD_IN).write_text(f"it took longer than {RUN_SECONDS:.0f} s")
    return TIMED_OUT


if __name__ == "__main__":
    serve()
