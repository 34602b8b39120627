"""How a profile names a simulated wallet."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwork.errors import ProfileInvalid
from lightwork.profile import Profile
from lightwork.simulated_wallet import SimulatedWallet


async def test_the_environment_names_a_simulated_wallet_at_the_profiles_broker(tmp_path: Path) -> None:
    profile = Profile.load(
        environ={
            "XDG_CONFIG_HOME": str(tmp_path),
            "LIGHTWORK_BROKER": "http://127.0.0.1:9",
            "LIGHTWORK_SIMULATED_WALLET": "alice",
        }
    )
    wallet = profile.wallet()
    assert isinstance(wallet, SimulatedWallet)
    assert repr(wallet) == "SimulatedWallet('http://127.0.0.1:9', 'alice')"
    elsewhere = profile.wallet(broker="http://127.0.0.1:10")
    assert repr(elsewhere) == "SimulatedWallet('http://127.0.0.1:10', 'alice')"
    for opened in (wallet, elsewhere):
        await opened.close()


async def test_a_profile_file_names_one_too_and_the_environment_wins(tmp_path: Path) -> None:
    folder = tmp_path / "lightwork"
    folder.mkdir()
    (folder / "default.toml").write_text('[wallet]\nsimulated = "bob"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert Profile.load(environ=environ).simulated_wallet == "bob"
    assert Profile.load(environ=environ | {"LIGHTWORK_SIMULATED_WALLET": "eve"}).simulated_wallet == "eve"


def test_a_name_that_is_none_is_a_fault_of_the_profile(tmp_path: Path) -> None:
    profile = Profile(
        name="p", broker="http://127.0.0.1:9", key_file=tmp_path / "p.key", simulated_wallet="A b"
    )
    with pytest.raises(ProfileInvalid):
        profile.wallet()
