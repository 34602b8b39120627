"""The wheel in an environment that holds the base dependencies and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

HEAVY = (
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlmodel",
    "sqlalchemy",
    "alembic",
    "grpc",
    "lndgrpc",
    "structlog",
)

LOADED = f"""
import json, sys
import lightwork, lightwork_contracts
for name in lightwork.__all__:
    getattr(lightwork, name)
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""

IMPORT_ALL = """
import importlib, json, pkgutil, sys
imported = []
for root in {roots!r}:
    package = importlib.import_module(root)
    for module in pkgutil.walk_packages(package.__path__, root + "."):
        # Not for import: a program, alembic's, and what only pytest loads.
        if not module.name.endswith(("__main__", "migrations.env", "pytest_plugin")):
            importlib.import_module(module.name)
            imported.append(module.name)
print(json.dumps(imported))
"""


class Answer(Protocol):
    """What a program left behind."""

    returncode: int
    stdout: str
    stderr: str


class Installed(Protocol):
    """The environment of conftest.py."""

    @property
    def folder(self) -> Path: ...

    def run(self, program: str, *arguments: str, **more: str) -> Answer: ...

    def ask(self, code: str) -> object: ...


def test_all_four_packages_import_from_the_wheel(bare: Installed) -> None:
    where = bare.ask(
        "import json, lightwork, lightwork_broker, lightwork_contracts, lightwork_regtest as r;"
        "print(json.dumps([lightwork.__file__, lightwork_broker.__file__, lightwork_contracts.__file__, r.__file__]))"
    )
    assert isinstance(where, list)
    assert len(where) == 4
    assert all("site-packages" in str(place) for place in where)


@pytest.mark.parametrize("package", HEAVY)
def test_what_belongs_to_an_extra_is_not_installed_with_the_sdk(bare: Installed, package: str) -> None:
    assert bare.ask(f"import json, importlib.util as u; print(json.dumps(u.find_spec({package!r}) is None))")


def test_every_public_name_of_the_sdk_loads_without_the_extras(bare: Installed) -> None:
    assert bare.ask(LOADED) == []


@pytest.mark.parametrize("root", ["lightwork", "lightwork_contracts", "lightwork_regtest"])
def test_every_module_imports_with_the_base_dependencies_alone(bare: Installed, root: str) -> None:
    imported = bare.ask(IMPORT_ALL.format(roots=[root]))
    assert isinstance(imported, list)
    assert len(imported) > 5


def test_the_command_line_works_without_the_broker(bare: Installed) -> None:
    answer = bare.run("lightwork", "--help")
    assert answer.returncode == 0, answer.stderr
    assert all(command in answer.stdout for command in ("run", "search", "hire", "jobs", "broker"))


def test_the_broker_command_says_what_to_install(bare: Installed) -> None:
    answer = bare.run("lightwork", "broker", "run")
    assert answer.returncode != 0
    assert "pip install 'lightwork[broker]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_regtest_command_starts_with_the_base_dependencies_alone(bare: Installed) -> None:
    answer = bare.run("lightwork-regtest", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "faucet" in answer.stdout


def test_the_extras_bring_everything_that_the_broker_imports(
    wheel: Path, fresh_environment: Callable[..., Installed]
) -> None:
    served = fresh_environment("broker", [str(wheel)], extras=["broker", "lnd", "postgres"])
    imported = served.ask(IMPORT_ALL.format(roots=["lightwork_broker"]))
    assert isinstance(imported, list)
    assert "lightwork_broker.app" in imported
    answer = served.run("lightwork", "broker", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "audit" in answer.stdout


def test_a_broker_without_the_extra_for_postgresql_serves_and_says_what_to_install(
    wheel: Path, fresh_environment: Callable[..., Installed]
) -> None:
    served = fresh_environment("sqlite", [str(wheel)], extras=["broker"])
    imported = served.ask(
        "import json, sys, lightwork_broker.app; print(json.dumps('psycopg' in sys.modules))"
    )
    assert imported is False
    answer = served.run(
        "lightwork",
        "broker",
        "run",
        "--network",
        "simulated",
        LIGHTWORK_BROKER_DATABASE="postgresql://localhost/nowhere",
        LIGHTWORK_BROKER_DATA_DIR=str(served.folder / "data"),
    )
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "pip install 'lightwork[postgres]'" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_editable_install_imports_all_four_packages_from_the_checkout(
    fresh_environment: Callable[..., Installed],
) -> None:
    checkout = Path(__file__).parents[2]
    edited = fresh_environment("editable", ["--editable", str(checkout)])
    where = edited.ask(
        "import json, lightwork, lightwork_broker, lightwork_contracts, lightwork_regtest as r;"
        "print(json.dumps([lightwork.__file__, lightwork_broker.__file__, lightwork_contracts.__file__, r.__file__]))"
    )
    assert where == [
        str(checkout / part / "__init__.py")
        for part in (
            "agents/lightwork",
            "services/lightwork_broker",
            "contracts/lightwork_contracts",
            "services/lightwork_regtest",
        )
    ]
