"""The broker's own signing key, in a file of mode 600."""

from __future__ import annotations

import secrets
from pathlib import Path

from lightwork_contracts.signed.keys import SecretKey


def load_or_create(path: Path) -> SecretKey:
    """Return the key in `path`, made at the first start.

    Raises:
        KeyFileError: the file is readable by others, or holds no key.
    """
    if not path.exists():
        SecretKey.generate(secrets.token_bytes(32)).create_file(path)
    return SecretKey.read(path)
