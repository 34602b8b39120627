"""Fetching one file whose SHA-256 is known beforehand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2

from lightwork_regtest.binaries.ladder import RungRefusedError
from lightwork_regtest.progress import Detail

CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0


def download(url: str, target: Path, *, sha256: str, detail: Detail) -> None:
    """Write the file at `url` to `target`.

    Raises:
        RungRefusedError: it cannot be reached at once, breaks off, or has another hash (then it is deleted).
    """
    digest = hashlib.sha256()
    timeout = httpx2.Timeout(_READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx2.Client(timeout=timeout, follow_redirects=True) as client,
            client.stream("GET", url) as response,
            target.open("wb") as file,
        ):
            if not response.is_success:
                raise RungRefusedError(f"{url} answered {response.status_code}")
            total = int(response.headers.get("content-length", 0))
            got = 0
            for chunk in response.iter_bytes():
                digest.update(chunk)
                file.write(chunk)
                got += len(chunk)
                detail(f"{got >> 20} of {total >> 20} MiB" if total else f"{got >> 20} MiB")
    except (httpx2.HTTPError, OSError) as error:
        target.unlink(missing_ok=True)
        raise RungRefusedError(f"{url} cannot be fetched: {error or type(error).__name__}") from error
    if digest.hexdigest() != sha256:
        target.unlink()
        raise RungRefusedError(f"{url} has SHA-256 {digest.hexdigest()}, pinned is {sha256}: thrown away")
