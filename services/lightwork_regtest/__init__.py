"""bitcoind and LND on regtest: programs found or fetched, a network brought up, mined for and taken down."""

from __future__ import annotations

from lightwork_regtest.network import Network

__all__ = ["Network"]
