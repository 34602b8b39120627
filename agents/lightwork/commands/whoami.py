"""`lightwork whoami`: which key, broker and wallet this command line uses."""

from __future__ import annotations

from lightwork.commands.screen import BrokerOption, JsonFlag, ProfileOption, run_async, show_json, show_table
from lightwork.profile import Profile


def whoami(*, broker: BrokerOption = None, profile: ProfileOption = None, as_json: JsonFlag = False) -> None:
    """Show the key, the broker and the wallet in use. Asks nobody, and shows no secret."""

    async def read() -> dict[str, str | None]:
        chosen = Profile.load(name=profile)
        return {
            "pubkey": chosen.secret_key().public,
            "profile": chosen.name,
            "key_file": str(chosen.key_file),
            "broker": broker or chosen.broker,
            "wallet": _wallet(chosen),
        }

    facts = run_async(read(), as_json=as_json)
    if as_json:
        show_json({**facts})
    else:
        show_table(("", ""), [(name, value or "none") for name, value in facts.items()])


def _wallet(profile: Profile) -> str | None:
    if profile.simulated_wallet is not None:
        return f"{profile.simulated_wallet} (simulated)"
    return None if profile.lnd is None else profile.lnd.url
