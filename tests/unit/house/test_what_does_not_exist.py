"""What this house leaves out on purpose, so that a known misfortune has no place to happen in it."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightwork_broker.lightning.permissions import PERMISSIONS
from lightwork_contracts.wire.jobs import JobForProvider, JobWork

REPOSITORY = Path(__file__).parents[3]
BROKER = "services/lightwork_broker"

RUNS_CODE = {"eval", "exec", "compile", "__import__", "system", "popen"}
CODE_RUNNERS = {"subprocess", "pickle", "marshal", "shelve", "runpy", "code", "pty", "ctypes"}
STUBS = "services/lightwork_broker/lightning/lnd_stubs.py"
"""The one file that imports by name: from a fixed list, of LND's stubs."""


def _files(folder: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", f"{folder}/*.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name]


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr


def test_the_broker_has_nothing_that_could_run_what_a_stranger_sends() -> None:
    files = _files(BROKER)
    assert len(files) > 80
    found: set[str] = set()
    for file in files:
        tree = ast.parse(file.read_text())
        names = CODE_RUNNERS & set(_imports(tree))
        # A method named compile, of a regular expression, is none of Python's.
        called = (RUNS_CODE - {"compile"}) & set(_calls(tree))
        found |= {f"{file.relative_to(REPOSITORY)}: {name}" for name in names | called}
        if "import_module" in set(_calls(tree)):
            assert str(file.relative_to(REPOSITORY)) == STUBS
    assert found == set()


def test_a_payment_to_a_stranger_has_one_form_an_invoice_that_was_read_before() -> None:
    """No lnurl, no address that answers with another invoice each time, no keysend, no AMP."""
    for folder in (BROKER, "contracts/lightwork_contracts"):
        for file in _files(folder):
            assert "lnurl" not in set(_imports(ast.parse(file.read_text()))), file
    sending = ast.parse((REPOSITORY / BROKER / "lightning" / "lnd_payouts.py").read_text())
    (send,) = [
        node
        for node in ast.walk(sending)
        if isinstance(node, ast.Call)
        and any(isinstance(part, ast.Attribute) and part.attr == "SEND" for part in node.args)
    ]
    assert {keyword.arg for keyword in send.keywords} == {
        "payment_request",
        "fee_limit_msat",
        "cltv_limit",
        "timeout_seconds",
        "max_parts",
        "no_inflight_updates",
    }


@pytest.mark.parametrize(
    "word",
    ["SendCoins", "Send_", "OpenChannel", "CloseChannel", "NewAddress", "Peer", "Bake", "Macaroon", "Sign"],
)
def test_the_broker_asks_for_no_right_to_coins_channels_peers_or_other_macaroons(word: str) -> None:
    assert [uri for uri in PERMISSIONS if word in uri] == []
    assert len(PERMISSIONS) == len(set(PERMISSIONS)) > 8


def test_a_provider_is_shown_neither_the_buyers_invoice_nor_a_proof_nor_the_quote() -> None:
    shown = set(JobForProvider.model_fields) | set(JobWork.model_fields)
    assert "payment_hash" in shown
    assert shown & {"invoice", "preimage", "quote", "commitment", "result", "fee_msat", "total_msat"} == set()


def test_no_amount_of_money_is_a_float_in_any_table_or_message() -> None:
    """Where a name says msat, the type is a whole number."""
    found: set[str] = set()
    for folder in (BROKER, "contracts/lightwork_contracts", "agents/lightwork"):
        for file in _files(folder):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.AnnAssign) and "float" in ast.unparse(node.annotation):
                    name = ast.unparse(node.target)
                    if "msat" in name:
                        found.add(f"{file.name}: {name}")
                if isinstance(node, ast.arg) and node.annotation and "msat" in node.arg:
                    assert "float" not in ast.unparse(node.annotation), f"{file.name}: {node.arg}"
    assert found == set()
