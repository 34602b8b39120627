"""Get bitcoind and lnd ready before the tests, so that no test's time limit holds a download or a build."""

from __future__ import annotations

import os
import sys

from lightwork_regtest.binaries import find_bitcoind, find_lnd
from lightwork_regtest.errors import RegtestError
from lightwork_regtest.progress import progress_for


def main() -> int:
    """Say which rung of the ladder served for each program; return the exit code."""
    progress = progress_for(sys.stderr)
    try:
        for find in (find_bitcoind, find_lnd):
            sys.stdout.write(find(env=os.environ, progress=progress).report() + "\n")
            sys.stdout.flush()
    except RegtestError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
