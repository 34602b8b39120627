"""The `jq` that stands in on a machine without one does what the pages ask of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jq_command import install

DOCUMENT = '{"name": "echo", "price": {"msat": 10000}, "tags": ["a", "b"], "none": null}'


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["-r", ".name"], "echo\n"),
        ([".name"], '"echo"\n'),
        (["-c", "{name, msat: .price.msat}"], '{"name":"echo","msat":10000}\n'),
        (["{name}"], '{\n  "name": "echo"\n}\n'),
        (["-r", ".tags[]"], "a\nb\n"),
        (["-c", "[.none, (.tags | length)]"], "[null,2]\n"),
        ([".none != null"], "false\n"),
    ],
)
def test_it_prints_what_jq_prints(words: list[str], printed: str, tmp_path: Path) -> None:
    program = str(install(tmp_path / "programs") / "jq")
    piped = subprocess.run([program, *words], input=DOCUMENT, capture_output=True, text=True, check=True)
    assert piped.stdout == printed
    (tmp_path / "document.json").write_text(DOCUMENT)
    read = subprocess.run(
        [program, *words, "document.json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert read.stdout == printed


def test_a_filter_that_is_none_fails(tmp_path: Path) -> None:
    program = str(install(tmp_path / "programs") / "jq")
    done = subprocess.run([program, ".["], input="{}", capture_output=True, text=True, check=False)
    assert done.returncode != 0
