"""A profile: file, environment, key made at the first use, and never half of a wallet."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lightwork.errors import ProfileInvalid, WalletMissing
from lightwork.profile import DEFAULT_BROKER, LndFiles, Profile

KEY = bytes([9]) * 32


def written(folder: Path, text: str, name: str = "default") -> dict[str, str]:
    (folder / "lightwork").mkdir(exist_ok=True)
    (folder / "lightwork" / f"{name}.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(folder)}


def test_without_a_file_there_are_defaults_and_no_wallet(tmp_path: Path) -> None:
    profile = Profile.load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert (profile.name, profile.broker, profile.lnd) == ("default", DEFAULT_BROKER, None)
    with pytest.raises(WalletMissing):
        profile.wallet()


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    profile = Profile.load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    made = profile.secret_key(entropy=lambda _: KEY)
    assert stat.S_IMODE(profile.key_file.stat().st_mode) == 0o600
    again = profile.secret_key(entropy=lambda _: pytest.fail("a second key"))
    assert again.public == made.public


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    profile = Profile.load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    profile.secret_key()
    profile.key_file.chmod(0o644)
    with pytest.raises(ProfileInvalid, match="chmod 600"):
        profile.secret_key()


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    env = written(
        tmp_path,
        'broker = "http://a"\nbroker_node = "02"\n'
        '[wallet]\nlnd_rest = "https://l"\ntls_cert = "c"\nmacaroon = "/m"\n',
        "shop",
    )
    profile = Profile.load(name="shop", environ=env)
    folder = tmp_path / "lightwork"
    assert profile.broker == "http://a"
    assert profile.key_file == folder / "shop.key"
    assert profile.lnd == LndFiles(url="https://l", tls_cert=folder / "c", macaroon=Path("/m"))
    changed = Profile.load(environ={**env, "LIGHTWORK_PROFILE": "shop", "LIGHTWORK_BROKER": "http://b"})
    assert (changed.broker, changed.broker_node) == ("http://b", "02")


def test_the_environments_wallet_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    env = written(tmp_path, '[wallet]\nlnd_rest = "https://l"\ntls_cert = "/c"\nmacaroon = "/m"\n')
    with pytest.raises(ProfileInvalid, match="LIGHTWORK_LND_TLS_CERT, LIGHTWORK_LND_MACAROON is missing"):
        Profile.load(environ={**env, "LIGHTWORK_LND_REST": "https://other"})


@pytest.mark.parametrize("text", ["broker = 5", "brokr = 'x'", "broker =", "[wallet]\nlnd_rest = 'http://x'"])
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProfileInvalid):
        Profile.load(environ=written(tmp_path, text))


def test_a_profile_has_a_plain_name(tmp_path: Path) -> None:
    for name in ("../x", "a/b", ".hidden"):
        with pytest.raises(ProfileInvalid):
            Profile.load(name=name, environ={"XDG_CONFIG_HOME": str(tmp_path)})
