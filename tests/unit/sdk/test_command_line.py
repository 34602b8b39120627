"""The command line: exit codes, JSON and nothing else, and words for people that say what to do next."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from unit.sdk.signed_facts import HASH, JOB_ID, PREIMAGE, quote_view

from lightwork import cli
from lightwork.commands.hire import show_evidence
from lightwork.commands.inputs import read_input
from lightwork.commands.screen import visible
from lightwork.commands.shorthand import spelled_out
from lightwork.errors import (
    CheckCode,
    CheckFailed,
    JobFailed,
    LightworkError,
    PaidWithoutResult,
    PaymentEvidence,
    PaymentFailed,
    PaymentUnknown,
    WalletMissing,
)
from lightwork.exit_codes import MEANING, ExitCode, exit_code_of
from lightwork_contracts.ids import JobId
from lightwork_contracts.signed.event import SignedEvent

SCHEMA: dict[str, object] = {
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "page_size": {"type": "integer"},
        "loud": {"type": "boolean"},
        "items": {"type": "array"},
    }
}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """A fresh home, and a broker that is not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        yield {"HOME": str(tmp_path), "LIGHTWORK_BROKER": f"http://127.0.0.1:{port}", "COLUMNS": "100"}


def lightwork(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    code = "from lightwork.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_documents_every_exit_code(environment: Mapping[str, str]) -> None:
    done = lightwork(environment, "hire", "--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for code in ExitCode:
        assert f"{code.value} {MEANING[code]}" in words


def test_a_broker_that_is_away_is_exit_code_5_and_a_next_step_and_no_traceback(
    environment: Mapping[str, str],
) -> None:
    done = lightwork(environment, "search")
    assert done.returncode == ExitCode.BROKER_UNREACHABLE
    assert done.stdout == ""
    assert "try:" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_json_an_error_is_json_on_standard_output(environment: Mapping[str, str]) -> None:
    done = lightwork(environment, "jobs", "job_x", "--json")
    assert done.returncode == ExitCode.BROKER_UNREACHABLE
    assert json.loads(done.stdout)["error"]["code"] == "broker_unreachable"
    assert done.stderr == ""


def test_whoami_makes_a_key_once_and_shows_no_secret(environment: Mapping[str, str]) -> None:
    first, second = (json.loads(lightwork(environment, "whoami", "--json").stdout) for _ in range(2))
    assert first == second
    secret = Path(first["key_file"]).read_text().strip()
    assert secret not in json.dumps(first)


def test_a_file_that_is_no_agent_is_exit_code_2(environment: Mapping[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("raise ValueError('oh')")
    done = lightwork(environment, "run", str(bad))
    assert done.returncode == ExitCode.USAGE
    assert "line 1: ValueError: oh" in done.stderr


def test_a_wallet_that_is_missing_is_told_before_anything_runs(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    good = tmp_path / "good.py"
    good.write_text(
        'from lightwork import Agent, sats\nagent = Agent("a")\n'
        '@agent.task(price=sats(1))\ndef a(x: int) -> int:\n    """A."""\n    return x\n'
    )
    done = lightwork(environment, "run", str(good))
    assert done.returncode == ExitCode.USAGE
    assert "LIGHTWORK_LND_REST" in done.stderr


def test_hiring_without_a_limit_is_wrong_use(environment: Mapping[str, str]) -> None:
    done = lightwork(environment, "hire", "echo", "--text", "hi")
    assert done.returncode == ExitCode.USAGE
    assert "--max" in done.stderr


EVIDENCE = PaymentEvidence(
    job_id=JOB_ID,
    payment_hash=HASH,
    quote=quote_view().event,
    commitment=quote_view().commitment,
    preimage=PREIMAGE.hex(),
)


def test_the_evidence_of_a_taken_payment_is_printed_without_the_preimage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = PaidWithoutResult("taken", EVIDENCE)
    show_evidence(error, as_json=False)
    for_people = capsys.readouterr().out
    with pytest.raises(typer.Exit) as ended:
        show_evidence(error, as_json=True)
    for_programs = capsys.readouterr().out
    assert ended.value.exit_code == ExitCode.PAID_WITHOUT_RESULT
    assert json.loads(for_people.splitlines()[-1]) == json.loads(for_programs)["error"]["evidence"]
    printed = json.loads(for_programs)["error"]
    assert (printed["code"], printed["evidence"]["preimage_known"]) == ("paid_without_result", True)
    assert SignedEvent.model_validate(printed["evidence"]["commitment"]) == EVIDENCE.commitment
    assert PREIMAGE.hex() not in for_people + for_programs


def test_errors_map_to_their_exit_codes() -> None:
    job = JobFailed("no", code="task_failed", job_id=JobId("job_1"), status="refunded")
    for error, code in (
        (job, ExitCode.JOB_FAILED),
        (CheckFailed(CheckCode.ABOVE_MAX, "no"), ExitCode.NOT_PAID),
        (PaymentFailed("no"), ExitCode.PAYMENT_FAILED),
        (PaymentUnknown("no"), ExitCode.PAYMENT_FAILED),
        (PaidWithoutResult("no", EVIDENCE), ExitCode.PAID_WITHOUT_RESULT),
        (WalletMissing("no"), ExitCode.USAGE),
        (LightworkError("no"), ExitCode.USAGE),
    ):
        assert exit_code_of(error) is code


def test_a_plugin_whose_extra_is_missing_says_how_to_install_it() -> None:
    class Missing(EntryPoint):
        def load(self) -> object:
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    plugin = Missing(name="broker", value="lightwork_broker.cli:app", group=cli.COMMANDS_GROUP)
    with pytest.raises(cli.PluginNotLoaded) as caught:
        cli.build_app([plugin], words=["broker", "run"])
    assert caught.value.hint == "pip install 'lightwork[broker]'"
    cli.build_app([plugin], words=["search"])


def test_words_that_were_left_out_are_filled_in() -> None:
    assert spelled_out(["jobs"]) == ["jobs", "list"]
    assert spelled_out(["jobs", "--json"]) == ["jobs", "list", "--json"]
    assert spelled_out(["jobs", "job_1", "--json"]) == ["jobs", "show", "job_1", "--json"]
    assert spelled_out(["jobs", "cancel", "job_1"]) == ["jobs", "cancel", "job_1"]
    assert spelled_out(["jobs", "--help"]) == ["jobs", "--help"]
    assert spelled_out(["search", "jobs"]) == ["search", "jobs"]
    assert spelled_out([]) == []


def read(*pairs: str, document: str | None = None) -> dict[str, object]:
    return {**read_input(pairs, document=document, schema=SCHEMA)}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  (JSON)


def test_parameters_are_read_as_the_schema_says() -> None:
    assert read("--text", "5", "--count", "5") == {"text": "5", "count": 5}
    assert read("--text=a=b", "--page-size", "3", "--loud") == {"text": "a=b", "page_size": 3, "loud": True}
    assert read("--items", "[1, 2]", "--other", "x") == {"items": [1, 2], "other": "x"}
    assert read("--count", "-5") == {"count": -5}
    assert read("--text", "new", document='{"text": "old", "count": 1}') == {"text": "new", "count": 1}


def test_a_document_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text('{"text": "hi"}')
    assert read(document=f"@{path}") == {"text": "hi"}


@pytest.mark.parametrize("pairs", [("text",), ("--text",), ("--text", "a", "b"), ("--",)])
def test_what_is_no_parameter_is_wrong_use(pairs: tuple[str, ...]) -> None:
    with pytest.raises(typer.BadParameter):
        read(*pairs)


@pytest.mark.parametrize("document", ["[1]", "{", '"x"', "@/no/such/file"])
def test_a_document_that_is_no_object_is_wrong_use(document: str) -> None:
    with pytest.raises(typer.BadParameter):
        read(document=document)


def test_a_strangers_text_cannot_move_the_cursor() -> None:
    assert visible("a\x1b[2Jb\rc\u202ed\ne") == "a\ufffd[2Jb\ufffdc\ufffdd\ne"
