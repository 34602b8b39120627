"""A secret key signs, and shows its secret to nobody."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import traceback
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.traceback import Traceback

from lightwork_contracts.errors import KeyFault
from lightwork_contracts.signed.keys import SecretKey

SECRET = "d1" * 32


@pytest.fixture
def key() -> SecretKey:
    return SecretKey.from_hex(SECRET)


def test_no_text_of_a_key_holds_its_secret(key: SecretKey) -> None:
    for text in (repr(key), str(key), f"{key}", f"{key!r}", str([key]), str({"k": key}), format(key)):
        assert SECRET not in text
        assert key.public in text


def test_a_key_is_not_pickled_copied_or_dumped(key: SecretKey) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars, bytes):
        with pytest.raises(TypeError):
            attempt(key)


def test_a_model_that_holds_a_key_does_not_dump_it(key: SecretKey) -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        key: SecretKey

    holder = Holder(key=key)
    assert SECRET not in repr(holder)
    assert SECRET not in str(holder.model_dump())
    with pytest.raises(ValueError, match="Unable to serialize"):
        holder.model_dump_json()


def test_a_traceback_with_local_variables_does_not_hold_the_secret(key: SecretKey) -> None:
    def fail(key: SecretKey) -> None:
        raise RuntimeError(f"failed with {key}")

    with pytest.raises(RuntimeError) as caught:
        fail(key)
    shown = io.StringIO()
    Console(file=shown, width=200).print(
        Traceback.from_exception(type(caught.value), caught.value, caught.tb, show_locals=True)
    )
    plain = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "failed with" in plain
    # This module's own SECRET is not a local variable, so it shows only if the key gives it away.
    assert SECRET not in plain
    assert SECRET not in shown.getvalue()


@pytest.mark.parametrize("text", ["", "d1", "d1" * 31, "d1" * 33, "zz" * 32, "00" * 32, "ff" * 32])
def test_a_text_that_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(KeyFault) as caught:
        SecretKey.from_hex(text)
    assert caught.value.code == "key_malformed"
    shown = "".join(traceback.format_exception(caught.value))
    assert len(text) < 10 or text not in shown


def test_entropy_of_another_length_is_refused() -> None:
    with pytest.raises(KeyFault):
        SecretKey.generate(b"short")


def test_equal_secrets_are_equal_keys_and_sign_alike(key: SecretKey) -> None:
    same = SecretKey.generate(bytes.fromhex(SECRET))
    assert same == key
    assert len({same, key}) == 1
    assert same.sign(bytes(32)) == key.sign(bytes(32))
    assert key != SecretKey.generate(bytes([5]) * 32)


def test_a_key_file_is_made_for_its_owner_alone_and_reads_back(key: SecretKey, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "agent.key"
    key.create_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert SecretKey.read(path) == key


def test_a_key_file_is_never_overwritten(key: SecretKey, tmp_path: Path) -> None:
    path = tmp_path / "agent.key"
    key.create_file(path)
    with pytest.raises(KeyFault) as caught:
        SecretKey.generate(bytes([5]) * 32).create_file(path)
    assert caught.value.code == "key_file_exists"
    assert SecretKey.read(path) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_file_that_others_have_a_right_to_is_refused(key: SecretKey, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "agent.key"
    key.create_file(path)
    path.chmod(mode)
    with pytest.raises(KeyFault) as caught:
        SecretKey.read(path)
    assert caught.value.code == "key_file_exposed"
    assert SECRET not in str(caught.value)


def test_a_missing_file_a_folder_and_a_file_without_a_key_are_told_apart(tmp_path: Path) -> None:
    def code(path: Path) -> str:
        with pytest.raises(KeyFault) as caught:
            SecretKey.read(path)
        return caught.value.code

    assert code(tmp_path / "none") == "key_file_missing"
    tmp_path.chmod(0o700)
    assert code(tmp_path) == "key_file_unreadable"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert code(tmp_path / "pipe") == "key_file_unreadable"
    for number, content in enumerate((b"", b"\xff\xfe", b"d1" * 5000)):
        path = tmp_path / f"bad{number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, content)
        os.close(descriptor)
        assert code(path) == "key_malformed"
