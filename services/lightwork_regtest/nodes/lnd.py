"""One LND node: its configuration, its process, and what tests and people ask of it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from lightwork_regtest.description import BitcoindDescription, NodeDescription
from lightwork_regtest.errors import NodeFailedError, RpcError
from lightwork_regtest.macaroons import Role
from lightwork_regtest.nodes import lnd_answers as answers
from lightwork_regtest.nodes.bitcoind import death, write_private
from lightwork_regtest.nodes.lnd_rest import LndRefusedError, LndRest
from lightwork_regtest.polling import until
from lightwork_regtest.ports import LOOPBACK
from lightwork_regtest.processes import ProcessId, kill, read_pid_file, start_detached, stop

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class PendingHtlc:
    """An HTLC that hangs on one of a node's channels; the amount in whole satoshis, as LND lists it."""

    payment_hash: str
    incoming: bool
    amount_sat: int
    expiry_height: int
    channel_point: str


class LightningNode:
    """A handle on one LND node; it holds connections, so close it (a network closes its nodes)."""

    def __init__(self, description: NodeDescription) -> None:
        """Point at the node; nothing is started or asked yet."""
        self.description = description
        self.name = description.name
        self.grpc_address = f"{description.host}:{description.grpc_port}"
        self.rest_url = f"https://{description.host}:{description.rest_port}"
        self.p2p_address = f"{description.host}:{description.p2p_port}"
        self.tls_cert = description.tls_cert
        self.admin_macaroon = description.admin_macaroon
        self._rest: LndRest | None = None
        self._guard = threading.Lock()

    @property
    def pubkey(self) -> str:
        """The node's identity key in hex; known after its first start."""
        if self.description.pubkey is None:
            raise NodeFailedError(f"{self.name} has never been up")
        return self.description.pubkey

    @property
    def role_macaroon(self) -> Path:
        """The least-privilege macaroon of the role that this node plays."""
        if self.description.role_macaroon is None:
            raise NodeFailedError(f"{self.name} plays no role with a macaroon of its own")
        return self.description.role_macaroon

    @property
    def rest(self) -> LndRest:
        """The REST interface with the admin macaroon."""
        with self._guard:
            if self._rest is None:
                try:
                    self._rest = self.rest_as(self.admin_macaroon)
                except OSError as error:
                    raise RpcError(f"{self.name}: no certificate or macaroon yet") from error
            return self._rest

    def rest_as(self, macaroon: Path) -> LndRest:
        """Return the REST interface with another macaroon; the caller closes it."""
        own = self.description
        return LndRest(url=self.rest_url, tls_cert=own.tls_cert, macaroon=macaroon)

    def close(self) -> None:
        """Drop the connections; the node goes on."""
        with self._guard:
            if self._rest is not None:
                self._rest.close()
                self._rest = None

    def process(self) -> ProcessId | None:
        """Return the running process, or None."""
        found = read_pid_file(self.description.pid_file)
        return found if found is not None and found.is_alive() else None

    def runs(self) -> bool:
        """Tell whether the process is there; of an external one nobody here can know, and it counts."""
        return self.description.external or self.process() is not None

    def spawn(self, program: Path, *, chain: BitcoindDescription, env: Mapping[str, str]) -> None:
        """Start the process; `wait_answering` tells when it can be used."""
        own = self.description
        self.close()
        write_config(own, chain)
        start_detached([str(program), f"--lnddir={own.folder}"], pid_file=own.pid_file, log=own.log, env=env)

    def wait_answering(self) -> answers.Info:
        """Wait until the node answers and return what it says of itself.

        Raises:
            PortClashError: somebody else has one of its ports.
            NodeFailedError: it died or did not answer in time.
        """

        def answering() -> answers.Info | None:
            if not self.runs():
                raise death(self.name, self.description.log)
            if not self.admin_macaroon.exists():
                return None
            try:
                # Short, because whoever took the port may accept and say nothing.
                return self.info(timeout=_PROBE_SECONDS)
            except RpcError:
                # The certificate is made anew on a first start: read it again.
                self.close()
                return None

        return until(answering, what=f"{self.name} answering", seconds=_START_SECONDS, every=0.1)

    def stop(self) -> bool:
        """End the process, return whether it was running."""
        self.close()
        return stop(self.description.pid_file, patience=_STOP_SECONDS)

    def kill(self) -> bool:
        """End the process with SIGKILL, return whether it was running."""
        self.close()
        return kill(self.description.pid_file)

    def info(self, *, timeout: float = 30.0) -> answers.Info:
        """Return the node's height, sync state and counts."""
        return self.rest.get("/v1/getinfo", answers.Info, timeout=timeout)

    def channels(self) -> list[answers.Channel]:
        """Return the open channels with their pending HTLCs."""
        return self.rest.get("/v1/channels", answers.Channels).channels

    def channel_balance(self) -> answers.ChannelBalance:
        """Return the sums over all channels."""
        return self.rest.get("/v1/balance/channels", answers.ChannelBalance)

    def wallet_balance_sat(self) -> int:
        """Return the confirmed on-chain balance in satoshis."""
        return self.rest.get("/v1/balance/blockchain", answers.WalletBalance).confirmed_balance

    def new_address(self) -> str:
        """Return a fresh on-chain address."""
        return self.rest.get("/v1/newaddress", answers.Address).address

    def wealth_msat(self) -> int:
        """Return what the node owns in its channels, in msat, undisturbed by HTLCs that come and go.

        Its settled balance, what it has in flight outwards (its own until settled), and the commitment fees
        and anchors of channels that it opened: the fees change with each HTLC and come out of its balance.
        """
        before = self.channels()
        for _ in range(50):
            balance = self.channel_balance()
            after = self.channels()
            if before == after:
                costs = sum(channel.initiator_costs_sat() for channel in after if channel.initiator)
                return balance.local_balance.msat + balance.unsettled_remote_balance.msat + costs * 1_000
            before = after
        raise NodeFailedError(f"{self.name}: the channels did not come to rest while they were being read")

    def pending_htlcs(self) -> list[PendingHtlc]:
        """Return the HTLCs that hang on any of the node's channels now."""
        return [
            PendingHtlc(
                payment_hash=htlc.payment_hash(),
                incoming=htlc.incoming,
                amount_sat=htlc.amount,
                expiry_height=htlc.expiration_height,
                channel_point=channel.channel_point,
            )
            for channel in self.channels()
            for htlc in channel.pending_htlcs
        ]

    def connect(self, peer: LightningNode) -> None:
        """Connect to another node and stay connected; being connected already is fine."""
        address: dict[str, JsonValue] = {"pubkey": peer.pubkey, "host": peer.p2p_address}
        try:
            self.rest.post("/v1/peers", answers.Empty, {"addr": address, "perm": True, "timeout": "5"})
        except LndRefusedError as refused:
            if "already connected" not in refused.message:
                raise

    def open_channel(self, peer: LightningNode, *, capacity_sat: int, push_sat: int) -> None:
        """Publish the funding transaction of an announced channel; blocks must follow."""
        body = {
            "node_pubkey": base64.b64encode(bytes.fromhex(peer.pubkey)).decode(),
            "local_funding_amount": str(capacity_sat),
            "push_sat": str(push_sat),
            "sat_per_vbyte": "2",
        }
        self.rest.post("/v1/channels", answers.Empty, {**body})

    def announced_channels(self) -> set[str]:
        """Return the channel points that this node's graph holds with both sides' policies."""
        edges = self.rest.get("/v1/graph", answers.Graph).edges
        return {edge.chan_point for edge in edges if edge.node1_policy and edge.node2_policy}

    def pending_opens(self, peer: LightningNode) -> int:
        """Return how many channels with the peer wait for confirmations."""
        pending = self.rest.get("/v1/channels/pending", answers.PendingChannels).pending_open_channels
        return sum(opening.channel.remote_node_pub == peer.pubkey for opening in pending)

    def add_invoice(self, amount_msat: int) -> str:
        """Return a BOLT11 invoice over `amount_msat`."""
        body = {"value_msat": str(amount_msat), "memo": "regtest"}
        return self.rest.post("/v1/invoices", answers.Invoice, {**body}).payment_request

    def pay(self, invoice: str, *, fee_limit_msat: int, seconds: int = 15) -> bool:
        """Pay an invoice and return whether LND says SUCCEEDED, its terminal state."""
        update = self.rest.post(
            "/v2/router/send",
            answers.PaymentUpdate,
            {
                "payment_request": invoice,
                "timeout_seconds": seconds,
                "fee_limit_msat": str(fee_limit_msat),
                "no_inflight_updates": True,
            },
            timeout=seconds + 30,
        )
        return update.result.status == "SUCCEEDED"

    def bake(self, role: Role, target: Path) -> None:
        """Write a macaroon with exactly the role's calls, readable by its owner only."""
        permissions: list[JsonValue] = [{"entity": "uri", "action": uri} for uri in role.uris]
        baked = self.rest.post(
            "/v1/macaroon",
            answers.Baked,
            {"permissions": permissions, "root_key_id": str(role.root_key_id)},
        )
        scratch = target.with_suffix(".new")
        write_private(scratch, "")
        scratch.write_bytes(bytes.fromhex(baked.macaroon))
        scratch.replace(target)


def write_config(own: NodeDescription, chain: BitcoindDescription) -> None:
    """Write lnd.conf into the node's folder, readable by its owner only."""
    own.folder.mkdir(parents=True, exist_ok=True)
    own.folder.chmod(0o700)
    settings = {
        "alias": own.name,
        "rpclisten": f"{own.listen}:{own.grpc_port}",
        "restlisten": f"{own.listen}:{own.rest_port}",
        "listen": f"{own.listen}:{own.p2p_port}",
        "externalip": f"{own.host}:{own.p2p_port}",
        "noseedbackup": "true",
        "nobootstrap": "true",
        "maxpendingchannels": 64,
        # So that it can be asked what became of each HTLC of a channel that was closed.
        "store-final-htlc-resolutions": "true",
        # LND writes preimages into its log: at debug everywhere, and at info when an invoice is settled (SRVR).
        "debuglevel": "info,SRVR=warn",
        "logging.file.disable": "true",
        "db.backend": "sqlite",
        "db.batch-commit-interval": "10ms",
        "trickledelay": 50,
        "gossip.sub-batch-delay": "5ms",
        "caches.rpc-graph-cache-duration": "100ms",
        "bitcoin.regtest": "true",
        "bitcoin.node": "bitcoind",
        "bitcoin.defaultchanconfs": 1,
        "bitcoin.defaultremotedelay": 4,
        "bitcoind.rpchost": f"{chain.host}:{chain.rpc_port}",
        "bitcoind.rpcuser": chain.rpc_user,
        "bitcoind.rpcpass": chain.rpc_password,
        "bitcoind.zmqpubrawblock": f"tcp://{chain.host}:{chain.zmq_block_port}",
        "bitcoind.zmqpubrawtx": f"tcp://{chain.host}:{chain.zmq_tx_port}",
    }
    if own.host != LOOPBACK:
        # Its certificate must carry the name under which others reach it.
        settings["tlsextradomain"] = own.host
    lines = "".join(f"{key}={value}\n" for key, value in settings.items())
    write_private(own.folder / "lnd.conf", f"[Application Options]\n{lines}")
