"""What the monkey does and when, drawn from a seed. Pure: the same seed gives the same strikes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Victim(StrEnum):
    """What can be killed, or stopped for a while."""

    BROKER = "broker"
    SECOND_BROKER = "broker 2"
    BROKER_NODE = "LND of the broker"
    BUYER_NODE = "LND of the buyers"
    PROVIDER_NODE = "LND of the providers"
    BITCOIND = "bitcoind"
    DATABASE = "PostgreSQL"


NODE_OF: Mapping[Victim, str] = {
    Victim.BROKER_NODE: "broker",
    Victim.BUYER_NODE: "buyer",
    Victim.PROVIDER_NODE: "provider",
}
BROKERS = (Victim.BROKER, Victim.SECOND_BROKER)


class Deed(StrEnum):
    """What is done to a victim; blocks come to all of them."""

    KILL = "killed"
    FREEZE = "stood still"
    BLOCKS = "blocks mined"


@dataclass(frozen=True, slots=True)
class Strike:
    """One deed, `pause` seconds after the one before; the victim is down or still for `lasts` seconds."""

    pause: float
    deed: Deed
    victim: Victim | None
    lasts: float
    blocks: int = 0

    def __str__(self) -> str:
        if self.victim is None:
            return f"{self.blocks} {self.deed}"
        return f"{self.victim} {self.deed} for {self.lasts:.1f} s"


WEIGHTS: Mapping[tuple[Deed, Victim | None], int] = {
    (Deed.KILL, Victim.BROKER): 6,
    (Deed.KILL, Victim.SECOND_BROKER): 6,
    (Deed.KILL, Victim.BROKER_NODE): 5,
    (Deed.KILL, Victim.BUYER_NODE): 2,
    (Deed.KILL, Victim.PROVIDER_NODE): 3,
    (Deed.KILL, Victim.BITCOIND): 2,
    (Deed.KILL, Victim.DATABASE): 3,
    (Deed.FREEZE, Victim.BROKER): 2,
    (Deed.FREEZE, Victim.SECOND_BROKER): 2,
    (Deed.BLOCKS, None): 3,
}
MOST_BLOCKS = 2
"""So few that an HTLC outlives the whole run: what happens at its expiry is the kill matrix's to show."""


def draw(seed: int, *, victims: frozenset[Victim], calm: float = 1.0) -> Iterator[Strike]:
    """Yield strikes without end. A greater `calm` makes the pauses between them longer."""
    chance = random.Random(f"strikes {seed}")
    choices = [key for key in WEIGHTS if key[1] is None or key[1] in victims]
    weights = [WEIGHTS[key] for key in choices]
    while True:
        deed, victim = chance.choices(choices, weights)[0]
        yield Strike(
            pause=chance.uniform(0.5, 6.0) * calm,
            deed=deed,
            victim=victim,
            # Mostly a quick restart; now and then an outage in which time-outs come to their end.
            lasts=chance.uniform(4.0, 12.0) if chance.random() < 0.25 else chance.uniform(0.0, 2.0),
            blocks=chance.randint(1, MOST_BLOCKS) if deed is Deed.BLOCKS else 0,
        )
