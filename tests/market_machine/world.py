"""A whole market: the broker as it is shipped, on the simulated network as it is shipped, with its parties."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_matrix.virtual_time import LoopTime
from market_machine.books import Books
from market_machine.clocks import WallClock, let_pass
from market_machine.desk import Desk
from market_machine.house import House
from market_machine.judge import Judge, JudgedNode
from market_machine.mailboxes import PostOffice
from market_machine.parties import Buyer, Seller
from market_machine.weather import Weather

from lightwork_broker.lightning.simulated import Policy, SimulatedNetwork
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.keys import SecretKey

CAPACITY = sats(1_000_000)
ROAD = Policy(fee_base_msat=Msat(100), fee_ppm=100, cltv_delta=40)
FREE = Policy(fee_base_msat=Msat(0), fee_ppm=0, cltv_delta=40)
CEILING_MSAT = 50_000
BROKER_KEY = SecretKey.generate(hashlib.sha256(b"market machine broker").digest())
BUYERS = ("max", "kim")
SELLERS = {
    "ada": PaymentMode.ESCROW,
    "bea": PaymentMode.ESCROW,
    "cy": PaymentMode.CREDIT,
    "dee": PaymentMode.CREDIT,
}
BEYOND_THE_ROAD = ("ada", "dee")
"""These are reached over a router that takes a fee; the others have a channel with the broker."""
NODES = ("broker", "road", *BUYERS, *SELLERS)


@dataclass
class World:
    """Everything there is. Make it with `make_world` inside a running loop."""

    network: SimulatedNetwork
    weather: Weather
    clock: WallClock
    books: Books
    judge: Judge
    office: PostOffice
    house: House
    desk: Desk
    buyers: list[Buyer]
    sellers: list[Seller]
    at_first: dict[str, int] = field(default_factory=dict[str, int])
    quotes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What buyers hold: the views of the quotes that they were given, with their names."""
    withdrawn: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """The sellers' invoices for withdrawals, by name."""
    requests: int = 0

    @property
    def operator(self) -> SecretKey:
        return BROKER_KEY

    def state(self, name: str) -> NodeState:
        """Return what a node knows, to be looked at only."""
        return next(state for state in self.network.states() if state.name == name)

    def owned(self) -> dict[str, int]:
        """Return what each node has won (positive) or lost since the beginning, in msat."""
        channels = self.network._board.channels.values()
        return {
            state.name: sum(c.owned_msat(state.pubkey) for c in channels if state.pubkey in c.ends)
            - self.at_first.get(state.name, 0)
            for state in self.network.states()
        }

    def jobs(self) -> list[dict[str, Any]]:
        return self.books.rows(
            "SELECT job.*, escrow.state, escrow.hold_invoice, escrow.credited_to, escrow.total_msat "
            "FROM job JOIN escrow USING (id) ORDER BY job.created_at, job.id"
        )

    def seller_of(self, pubkey: str) -> Seller:
        return next(seller for seller in self.sellers if seller.key.public == pubkey)

    def buyer_of(self, pubkey: str) -> Buyer:
        return next(buyer for buyer in self.buyers if buyer.key.public == pubkey)

    async def calm(self) -> None:
        """Let everything that can go on without time go on."""
        await let_pass(0.002, stride=0)
        await self.house.bury()


def _network(weather: Weather) -> SimulatedNetwork:
    made = SimulatedNetwork(seed=b"market machine", clock=LoopTime(), faults=weather)
    for name in NODES:
        made.add_node(name)
    half = Msat(CAPACITY // 2)
    for one, other, policy in (
        *((buyer, "broker", FREE) for buyer in BUYERS),
        ("broker", "road", FREE),
        *(
            ("road", seller, ROAD) if seller in BEYOND_THE_ROAD else ("broker", seller, FREE)
            for seller in SELLERS
        ),
    ):
        made.open_channel(
            one, other, capacity_msat=CAPACITY, push_msat=half, policy=policy, peer_policy=policy
        )
    return made


def make_world(folder: Path, *, books: Books) -> World:
    """Return a market whose brokers have not started yet. What was in the books is gone."""
    books.begin()
    if not (folder / "broker.key").exists():
        BROKER_KEY.create_file(folder / "broker.key")
    weather, clock = Weather(), WallClock()
    network = _network(weather)
    judge = Judge(
        books=books,
        node=lambda: next(state for state in network.states() if state.name == "broker"),
        height=lambda: network.height,
    )
    office = PostOffice(books=books, clock=clock)
    house = House(
        node=lambda: JudgedNode(network.node("broker"), judge),  # pyright: ignore[reportArgumentType]
        stop_node=lambda: network.stop("broker"),
        folder=folder,
        settings=BrokerSettings(
            data_dir=folder,
            credit_ceiling_msat=Msat(CEILING_MSAT),
            open_jobs_of_buyer=6,
            open_jobs=10,
            withdrawals_at_once=2,
            pay_seconds=300,
            forward_seconds=300,
            node_patience_seconds=5,
            requests_per_second_of_key=0,
            requests_per_second_of_address=0,
        ),
        clock=clock,
        books=books,
        outgoing=office.outgoing,
    )
    desk = Desk(house=house, clock=clock)
    world = World(
        network=network,
        weather=weather,
        clock=clock,
        books=books,
        judge=judge,
        office=office,
        house=house,
        desk=desk,
        buyers=[Buyer(name) for name in BUYERS],
        sellers=[Seller(name=name, mode=mode, network=network, desk=desk) for name, mode in SELLERS.items()],
    )
    world.at_first = world.owned()
    return world
