"""Importing the SDK loads no server, no database, no gRPC, and only what is used."""

from __future__ import annotations

import subprocess
import sys

import lightwork

HEAVY = ("fastapi", "starlette", "uvicorn", "sqlmodel", "sqlalchemy", "grpc", "lndgrpc", "lightwork_broker")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_every_public_name_of_the_sdk_can_be_had_without_server_database_or_grpc() -> None:
    everything = (
        "import lightwork\nfor name in lightwork.__all__: getattr(lightwork, name)\nimport lightwork.cli"
    )
    loaded = loaded_by(everything)
    assert "httpx2" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_a_provider_that_declares_an_agent_does_not_wait_for_the_http_client() -> None:
    assert loaded_by("from lightwork import Agent, sats").isdisjoint({"httpx2", "rich", "typer", *HEAVY})


def test_naming_the_package_alone_loads_nothing_else() -> None:
    assert loaded_by("import lightwork").isdisjoint({"pydantic", "coincurve", *HEAVY})


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(lightwork, "no_such_name")
    assert "Market" in dir(lightwork)
