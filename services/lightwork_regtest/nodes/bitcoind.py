"""bitcoind on regtest: its configuration, its process, and JSON-RPC."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import httpx2
from pydantic import BaseModel, JsonValue, TypeAdapter

from lightwork_regtest.description import BitcoindDescription
from lightwork_regtest.errors import NodeFailedError, PortClashError, RpcError
from lightwork_regtest.polling import until
from lightwork_regtest.ports import LOOPBACK
from lightwork_regtest.processes import ProcessId, kill, read_pid_file, start_detached, stop

WALLET = "miner"
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_PROBE_SECONDS = 2.0


class _RpcFault(BaseModel):
    code: int
    message: str


class _RpcAnswer(BaseModel):
    result: JsonValue = None
    error: _RpcFault | None = None


class _ChainInfo(BaseModel):
    blocks: int
    headers: int
    time: int


class _Wallet(BaseModel):
    name: str


class _WalletFolder(BaseModel):
    wallets: list[_Wallet]


class Bitcoind:
    """A handle on the bitcoind of one network; it holds a connection, so close it."""

    def __init__(self, description: BitcoindDescription) -> None:
        """Point at the node; nothing is started or asked yet."""
        self.description = description
        self.rpc_url = f"http://{description.host}:{description.rpc_port}"
        self.user = description.rpc_user
        self.password = description.rpc_password
        self._ids = itertools.count(1)
        self._client = httpx2.Client(base_url=self.rpc_url, auth=(self.user, self.password), trust_env=False)

    def close(self) -> None:
        """Drop the connection; the node goes on."""
        self._client.close()

    def process(self) -> ProcessId | None:
        """Return the running process, or None."""
        found = read_pid_file(self.description.pid_file)
        return found if found is not None and found.is_alive() else None

    def runs(self) -> bool:
        """Tell whether the process is there; of an external one nobody here can know, and it counts."""
        return self.description.external or self.process() is not None

    def rpc(self, method: str, *params: JsonValue) -> JsonValue:
        """Call a method of the node or of the miner's wallet.

        Raises:
            RpcError: the node refuses the call or does not answer (then it may have been done).
        """
        return self._call(method, [*params])

    def _call(self, method: str, params: JsonValue, *, timeout: float = 60.0) -> JsonValue:
        body = {"jsonrpc": "1.0", "id": next(self._ids), "method": method, "params": params}
        try:
            path = f"/wallet/{WALLET}" if method in _WALLET_METHODS else "/"
            response = self._client.post(path, json=body, timeout=timeout)
            answer = _RpcAnswer.model_validate_json(response.content)
        except (httpx2.HTTPError, ValueError) as error:
            raise RpcError(f"bitcoind {method}: no answer ({type(error).__name__})") from error
        if answer.error is not None:
            raise RpcError(f"bitcoind {method}: {answer.error.message} (code {answer.error.code})")
        return answer.result

    def height(self) -> int:
        """Return the number of the newest block."""
        return TypeAdapter(int).validate_python(self.rpc("getblockcount"))

    def tip_time(self) -> int:
        """Return the newest block's time in Unix seconds."""
        return _ChainInfo.model_validate(self.rpc("getblockchaininfo")).time

    def generate(self, blocks: int) -> None:
        """Mine to the miner's wallet, without asking whether that is safe for held HTLCs."""
        self.rpc("generatetoaddress", blocks, self.rpc("getnewaddress"))

    def spawn(self, program: Path, *, env: Mapping[str, str]) -> None:
        """Start the process; `wait_answering` tells when it can be used."""
        # A stop removes the pid file, so this one is of a run that crashed. bitcoind writes its index only
        # once an hour: it would come back with none of its blocks, and LND would be ahead of its chain.
        # The block files themselves are whole, and reading them again takes a moment on regtest.
        crashed = self.description.pid_file.exists()
        write_config(self.description)
        start_detached(
            [str(program), f"-datadir={self.description.folder}", *(["-reindex"] if crashed else [])],
            pid_file=self.description.pid_file,
            log=self.description.log,
            env=env,
        )

    def wait_answering(self) -> None:
        """Wait until the node answers, has read its blocks, and the miner's wallet is loaded.

        Raises:
            PortClashError: somebody else has one of its ports.
            NodeFailedError: it died or did not answer in time.
        """

        def answers() -> bool:
            if not self.runs():
                raise death("bitcoind", self.description.log)
            try:
                # Short, because whoever took the port may accept and say nothing.
                self._call("getblockcount", [], timeout=_PROBE_SECONDS)
            except RpcError:
                return False
            return self._has_read_its_blocks()

        until(answers, what="bitcoind answering", seconds=_START_SECONDS, every=0.05)
        self._load_wallet()

    def stop(self) -> bool:
        """End the process, return whether it was running."""
        return stop(self.description.pid_file, patience=_STOP_SECONDS)

    def kill(self) -> bool:
        """End the process with SIGKILL, return whether it was running."""
        return kill(self.description.pid_file)

    def _has_read_its_blocks(self) -> bool:
        # An external one is never started with -reindex by us, and its log is out of reach.
        if not self.description.external:
            log = self.description.log.read_text(errors="replace")
            if "Command-line arg: reindex" in log and "Reindexing finished" not in log:
                return False
        chain = _ChainInfo.model_validate(self.rpc("getblockchaininfo"))
        return chain.blocks == chain.headers

    def _load_wallet(self) -> None:
        if WALLET in TypeAdapter(list[str]).validate_python(self.rpc("listwallets")):
            return
        kept = _WalletFolder.model_validate(self.rpc("listwalletdir"))
        if any(wallet.name == WALLET for wallet in kept.wallets):
            self._call("loadwallet", {"filename": WALLET, "load_on_startup": True})
        else:
            self._call("createwallet", {"wallet_name": WALLET, "load_on_startup": True})


_WALLET_METHODS = frozenset(
    {
        "bumpfee",
        "createrawchangeaddress",
        "dumpprivkey",
        "getaddressinfo",
        "getbalance",
        "getbalances",
        "getnewaddress",
        "getrawchangeaddress",
        "gettransaction",
        "getwalletinfo",
        "importdescriptors",
        "listdescriptors",
        "listsinceblock",
        "listtransactions",
        "listunspent",
        "lockunspent",
        "rescanblockchain",
        "send",
        "sendall",
        "sendmany",
        "sendtoaddress",
        "signrawtransactionwithwallet",
        "walletcreatefundedpsbt",
        "walletprocesspsbt",
    }
)


def write_config(own: BitcoindDescription) -> None:
    """Write bitcoin.conf into the node's folder, readable by its owner only."""
    own.folder.mkdir(parents=True, exist_ok=True)
    own.folder.chmod(0o700)
    settings = {
        "server": 1,
        "txindex": 1,
        "listen": 0,
        "dnsseed": 0,
        "fixedseeds": 0,
        "rpcbind": own.listen,
        "rpcallowip": LOOPBACK if own.listen == LOOPBACK else "0.0.0.0/0",
        "rpcport": own.rpc_port,
        "rpcuser": own.rpc_user,
        "rpcpassword": own.rpc_password,
        "rpcworkqueue": 256,
        "rpcthreads": 8,
        "fallbackfee": "0.0002",
        # An old network must not count as still downloading the chain.
        "maxtipage": 10**9,
        "printtoconsole": 1,
        "nodebuglogfile": 1,
        "zmqpubrawblock": f"tcp://{own.listen}:{own.zmq_block_port}",
        "zmqpubrawtx": f"tcp://{own.listen}:{own.zmq_tx_port}",
    }
    lines = "".join(f"{key}={value}\n" for key, value in settings.items())
    # The password stands in a file, because a command line is there for every user to read.
    write_private(own.folder / "bitcoin.conf", f"regtest=1\n[regtest]\n{lines}")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def death(name: str, log: Path) -> NodeFailedError:
    """Return the error for a node that ended by itself, told from the last lines of its log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    text = "\n".join(lines[-40:]).lower()
    last = " | ".join(line.strip() for line in lines[-3:]) or "it wrote nothing"
    clash = any(words in text for words in ("address already in use", "unable to bind", "unable to listen"))
    kind = PortClashError if clash else NodeFailedError
    return kind(f"{name} ended while starting; log {log}: {last}")
