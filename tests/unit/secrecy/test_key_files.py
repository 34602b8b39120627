"""Files with secrets in them are their owner's alone from the first byte on."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from lightwork_broker import keys
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.errors import KeyFault
from lightwork_regtest.nodes.bitcoind import write_private

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(autouse=True)
def open_umask() -> Generator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_brokers_key_and_folder_are_private_although_the_umask_is_open(tmp_path: Path) -> None:
    folder = BrokerSettings(data_dir=tmp_path / "a" / "broker").directory()
    keys.load_or_create(folder / "broker.key")
    assert (mode(folder), mode(folder / "broker.key")) == (0o700, 0o600)


def test_a_key_that_others_may_read_is_refused_and_the_remedy_named(tmp_path: Path) -> None:
    keys.load_or_create(tmp_path / "broker.key")
    (tmp_path / "broker.key").chmod(0o640)
    with pytest.raises(KeyFault, match="chmod 600"):
        keys.load_or_create(tmp_path / "broker.key")


def test_a_configuration_with_a_password_is_private(tmp_path: Path) -> None:
    write_private(tmp_path / "lnd.conf", "rpcpass=x")
    assert mode(tmp_path / "lnd.conf") == 0o600


def test_the_demos_shell_files_are_private_even_where_an_open_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    found = importlib.util.find_spec("demonstration.surroundings")
    assert found is not None
    from demonstration.surroundings import write_shell_file

    file = tmp_path / "provider.sh"
    file.write_text("old")
    file.chmod(0o666)
    with file.open() as reader:  # whoever had it open
        write_shell_file(file, {"PASSWORD": "x"})
        assert reader.read() == "old"
    assert mode(file) == 0o600
    assert "PASSWORD" in file.read_text()
    assert sys.path[0] == str(SCRIPTS)
