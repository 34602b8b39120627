"""Finding or fetching bitcoind and lnd: a ladder of rungs, each verified, the first that serves wins."""

from __future__ import annotations

from lightwork_regtest.binaries.finder import find_bitcoind, find_lnd, find_toolchain
from lightwork_regtest.binaries.ladder import Binary, Refusal

__all__ = ["Binary", "Refusal", "find_bitcoind", "find_lnd", "find_toolchain"]
