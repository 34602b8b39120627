"""docs/api.md leaves nothing out: every endpoint is listed and called, every refusal has its exit code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import pytest
from docs_pages import fences, page_text

from lightwork.connection import ERROR_OF
from lightwork.errors import BrokerProblem
from lightwork.exit_codes import MEANING, exit_code_of
from lightwork_broker.app import create_app
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.problems import HTTP
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.wire.problems import Problem, ProblemCode

PAGE = "docs/api.md"
ENDPOINT = re.compile(r"^\| `([A-Z]+ /\S+)` \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the page's tables."""

    method: str
    path: str
    signed: bool
    summary: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def row(self) -> str:
        return f"| `{self.name}` | {'yes' if self.signed else 'no'} | {self.summary} |"

    def called(self) -> re.Pattern[str]:
        """How a block calls it: by name, or by the whole URL, whose parameters are a shell's variables."""
        path = re.sub(r"\\\{\w+\\\}", r"""[^/?'"]+""", re.escape(self.path))
        start = rf"""({self.method}\s+["']?|\$LIGHTWORK_BROKER|\$BROKER)"""
        return re.compile(rf"""{start}{path}(?=["'?\s]|$)""", re.MULTILINE)


def endpoints() -> list[Endpoint]:
    """What a broker on the simulated network serves: every endpoint there is."""
    wallets = SimulatedWallets(SimulatedNetwork())
    app = create_app(BrokerSettings(), wallets.hub)
    app.include_router(simulated_router(wallets))
    described = cast("dict[str, dict[str, dict[str, object]]]", app.openapi()["paths"])
    return [
        Endpoint(method.upper(), path, "security" in facts, str(facts["summary"]))
        for path, methods in described.items()
        for method, facts in methods.items()
    ]


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda endpoint: cast("Endpoint", endpoint).name)
def test_every_endpoint_has_a_row_that_says_what_the_broker_says_of_it(endpoint: Endpoint) -> None:
    assert endpoint.row in page_text(PAGE).splitlines()


def test_every_row_is_an_endpoint() -> None:
    named = ENDPOINT.findall(page_text(PAGE))
    assert sorted(named) == sorted(endpoint.name for endpoint in endpoints())


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda endpoint: cast("Endpoint", endpoint).name)
def test_every_endpoint_is_called_in_a_block_that_is_run(endpoint: Endpoint) -> None:
    # In the shell of the page, two prefixes stand in variables.
    run = "\n".join(fence.code for fence in fences(PAGE) if fence.marker.startswith(("run", "file ")))
    run = run.replace('"$quote/', '"/v1/work/quotes/ID/').replace('"$job/', '"/v1/work/jobs/ID/')
    assert endpoint.called().search(run), f"no block calls {endpoint.name}"


@pytest.mark.parametrize("code", ProblemCode)
def test_every_refusal_has_a_row_with_its_status_and_exit_code(code: ProblemCode) -> None:
    status, title = HTTP[code]
    problem = Problem(type="", title=title, status=status, code=code, detail="")
    exit_code = exit_code_of(ERROR_OF.get(code, BrokerProblem)(problem))
    assert f"| `{code}` | {status} | {exit_code.value} | {title} |" in page_text(PAGE).splitlines()


def test_every_exit_code_has_a_row_with_its_meaning() -> None:
    rows = page_text(PAGE).splitlines()
    assert [code for code, words in MEANING.items() if f"| {code.value} | {words} |" not in rows] == []
