"""The secret key of an agent, a buyer or a broker, which never prints."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import NoReturn, Protocol, Self

from coincurve import PrivateKey

from lightwork_contracts.errors import KeyCode, KeyFault
from lightwork_contracts.ids import Pubkey

KEY_BYTES = 32
MAX_FILE_BYTES = 4 * KEY_BYTES


class _SchnorrSigner(Protocol):
    def sign_schnorr(self, message: bytes, aux_randomness: bytes, /) -> bytes: ...


class SecretKey:
    """A BIP340 secret key that shows its public key only: no text, copy, pickle or dump holds the secret."""

    __slots__ = ("_signer", "public")

    public: Pubkey

    def __init__(self, signer: PrivateKey) -> None:
        self._signer = signer
        self.public = Pubkey(signer.public_key_xonly.format().hex())

    @classmethod
    def generate(cls, entropy: bytes) -> Self:
        """Return the key that 32 bytes of good entropy are.

        Raises:
            KeyFault: not 32 bytes, or not a scalar of the curve (as good as impossible for random bytes).
        """
        if len(entropy) != KEY_BYTES:
            raise KeyFault(KeyCode.MALFORMED, "a secret key takes 32 bytes of entropy")
        try:
            signer = PrivateKey(entropy)
        except ValueError:
            raise KeyFault(KeyCode.MALFORMED, "these bytes are not a secret key of the curve") from None
        return cls(signer)

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes that only the holder of this key can compute, always the same for a purpose."""
        return hmac.new(self._signer.secret, purpose, hashlib.sha256).digest()

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the key written as 64 hex characters.

        Raises:
            KeyFault: the text is not that.
        """
        if len(text) != 2 * KEY_BYTES:
            raise KeyFault(KeyCode.MALFORMED, "a secret key is 64 hex characters")
        try:
            entropy = bytes.fromhex(text)
        except ValueError:
            raise KeyFault(KeyCode.MALFORMED, "a secret key is 64 hex characters") from None
        return cls.generate(entropy)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the key in a file that only its owner can read.

        Raises:
            KeyFault: no such file, group or others have any right to it, or it holds no key.
        """
        try:
            # Without O_NONBLOCK, opening a pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise KeyFault(KeyCode.FILE_MISSING, f"there is no key file {path}") from None
        except OSError as error:
            raise KeyFault(KeyCode.FILE_UNREADABLE, f"cannot read {path}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFault(KeyCode.FILE_UNREADABLE, f"{path} is not a file")
            if status.st_mode & 0o077:
                raise KeyFault(KeyCode.FILE_EXPOSED, f"others may read {path}: run chmod 600 on it")
            data = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        try:
            text = data.decode("ascii").strip()
        except UnicodeDecodeError:
            raise KeyFault(KeyCode.MALFORMED, f"{path} holds no key") from None
        return cls.from_hex(text)

    def create_file(self, path: Path) -> None:
        """Write the key to a new file that only its owner can read (mode 0600).

        Raises:
            KeyFault: the file is there already (a key is never overwritten), or cannot be written.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise KeyFault(KeyCode.FILE_EXISTS, f"{path} is there already") from None
        except OSError as error:
            raise KeyFault(KeyCode.FILE_UNREADABLE, f"cannot write {path}: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._signer.secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def sign(self, digest: bytes) -> bytes:
        """Return the 64-byte BIP340 signature of a 32-byte digest; equal digests give equal signatures."""
        return _sign(self._signer, digest)

    def __repr__(self) -> str:
        return f"SecretKey(public={self.public!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and other.public == self.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not copied or pickled")


def _sign(signer: _SchnorrSigner, digest: bytes) -> bytes:
    # BIP340 allows zeros as auxiliary randomness: the nonce still comes from the key and the digest.
    return signer.sign_schnorr(digest, bytes(KEY_BYTES))
