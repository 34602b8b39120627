"""The two kinds of node: bitcoind and LND."""
