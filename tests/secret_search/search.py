"""The search of everything that brokers wrote and answered during a run, for everything that is secret.

A preimage need not be known beforehand: it is whatever 32 bytes hash to a payment hash that was seen anywhere in the
run. Macaroons, webhook secrets, signed requests and passwords in URLs have a shape. All else is told by `add`.
"""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    PREIMAGE = "preimage"
    KEY = "secret key"
    MACAROON = "macaroon"
    WEBHOOK = "webhook secret"
    PASSWORD = "password"
    SIGNED_REQUEST = "signed request"


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret where it must not be. It says what and where, and does not repeat it."""

    kind: Kind
    where: str

    def __str__(self) -> str:
        return f"a {self.kind} in {self.where}"


HEX = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64,}(?![0-9a-fA-F])")
BASE64_OF_32 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=(?![A-Za-z0-9+/_=-])")
BYTES = re.compile(r"""\bb(?:'(?:[^'\\\n]|\\.)+'|"(?:[^"\\\n]|\\.)+")""")
SHAPES = {
    # The first bytes of each macaroon of LND: version 2, and the location "lnd".
    re.compile(r"0201036c6e64[0-9a-f]{16}|AgEDbG5k[A-Za-z0-9+/_-]{8}|\\x02\\x01\\x03lnd", re.IGNORECASE): (
        Kind.MACAROON
    ),
    re.compile(r"Nostr ey[A-Za-z0-9+/_=-]{40}"): Kind.SIGNED_REQUEST,
    re.compile(r"postgres(?:ql)?(?:\+\w+)?://[^\s:/@]+:(?!\*\*\*|\[redacted\])[^\s:/@]+@"): Kind.PASSWORD,
    re.compile(r"whsec_[A-Za-z0-9+/_-]{20}"): Kind.WEBHOOK,
}
TOLD_BY_A_NODE = re.compile(r'"(?:payment_)?preimage"\s*:\s*"([0-9a-f]{64})"')
TOLD_IN_BASE64 = re.compile(r'"r_preimage"\s*:\s*"([A-Za-z0-9+/_-]{43}=)"')
SETTLED = ("settled", "paid")
"""The statuses of a job and of a withdrawal in which its owner is told the preimage."""


class SecretSearch:
    """Takes in texts and secrets in any order, and says at the end which text held which secret."""

    def __init__(self) -> None:
        self.logs = 0
        self.answers = 0
        self._secrets: dict[str, Kind] = {}
        self._words: dict[str, Kind] = {}
        self._seen: set[str] = set()
        self._forbidden: dict[str, str] = {}
        self._found: dict[Finding, None] = {}
        self._buyers: dict[str, str] = {}

    # --- secrets ----------------------------------------------------------------------------------------

    def add(self, kind: Kind, secret: bytes | str) -> None:
        """Tell a secret: bytes, which are found as hex, base64 and `repr`; or a word, as it is, in what comes later."""
        if isinstance(secret, str):
            if len(secret) >= 12:
                self._words[secret] = kind
        elif (
            len(secret) >= 32 and len(set(secret[-32:])) > 4
        ):  # LND has 32 zeros for a preimage it does not know
            # The end of a macaroon is its signature: no other one ends alike.
            self._secrets[secret[-32:].hex()] = kind

    @property
    def secrets(self) -> int:
        return len(self._secrets) + len(self._words)

    # --- texts ------------------------------------------------------------------------------------------

    def log(self, where: str, text: str) -> None:
        """Take in what a broker, a node or a database wrote into its log: nothing secret may stand there, ever."""
        self.logs += 1
        self._take(where, text)

    def sent(self, where: str, text: str) -> None:
        """Take in what a broker sent by itself, as to a webhook: as an answer in which nothing secret is due."""
        self.answers += 1
        self._take(where, text)

    def answer(self, where: str, text: str, *, asker: str | None = None, created: str | None = None) -> None:
        """Take in what a broker answered to the key `asker`; `created` is the path to which it has added something.

        The buyer of a settled job and the owner of a paid withdrawal are told the preimage, and whoever adds a
        webhook its secret, this once.
        """
        self.answers += 1
        due: list[str] = []
        if '"preimage"' in text or created is not None:
            for part in _objects(_json(text)):
                due += self._due(part, where, asker=asker, created=created)
        for secret in due:
            # Once for each place in which it is due: what is left of it stands where it is not.
            text = text.replace(secret, "", 1)
        self._take(where, text)

    def from_a_node(self, text: str) -> None:
        """Take in what a Lightning node answered to its owner: not a broker's, but full of secrets to look for."""
        for found in TOLD_BY_A_NODE.findall(text):
            self.add(Kind.PREIMAGE, bytes.fromhex(found))
        for found in TOLD_IN_BASE64.findall(text):
            self.add(
                Kind.PREIMAGE, base64.b64decode(found, altchars=b"-_" if set(found) & set("-_") else None)
            )
        self._seen.update(token.lower() for token in HEX.findall(text) if len(token) == 64)

    def _due(
        self, part: dict[str, object], where: str, *, asker: str | None, created: str | None
    ) -> Iterator[str]:
        """Yield the secrets that an object of an answer may hold."""
        name, preimage, secret = part.get("id"), part.get("preimage"), part.get("secret")
        if created == "/v1/jobs" and isinstance(name, str) and asker is not None:
            self._buyers[name] = asker
        if isinstance(preimage, str) and len(preimage) == 64 and part.get("status") in SETTLED:
            self._secrets[preimage] = Kind.PREIMAGE
            if isinstance(name, str) and self._buyers.get(name, asker) == asker:
                yield preimage
            else:
                self._found[Finding(Kind.PREIMAGE, f"{where}, which is not its buyer's")] = None
                yield preimage
        if created == "/v1/webhooks" and isinstance(secret, str) and secret.startswith("whsec_"):
            with_padding = secret.removeprefix("whsec_")
            self.add(Kind.WEBHOOK, base64.b64decode(with_padding))
            yield secret

    def _take(self, where: str, text: str) -> None:
        for shape, kind in SHAPES.items():
            if shape.search(text):
                self._found[Finding(kind, where)] = None
        for token in _tokens(text):
            self._seen.add(token)
            self._forbidden.setdefault(token, where)
        if self._words:
            for word, kind in self._words.items():
                if word in text:
                    self._found[Finding(kind, where)] = None

    # --- the end ----------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        """Return every secret that stands where it must not."""
        for token, where in self._forbidden.items():
            kind = self._secrets.get(token)
            if kind is None and hashlib.sha256(bytes.fromhex(token)).hexdigest() in self._seen:
                kind = Kind.PREIMAGE
            if kind is not None:
                self._found[Finding(kind, where)] = None
        return list(self._found)

    def summary(self) -> str:
        """Return the one line that a run ends with."""
        found = self.findings()
        told = "none found" if not found else f"{len(found)} FOUND"
        return f"searched {self.logs} logs, {self.answers} answers for {self.secrets} secrets: {told}"


def _tokens(text: str) -> Iterator[str]:
    """Yield whatever in a text may be 32 secret bytes, as lower-case hex."""
    for token in set(HEX.findall(text)):
        low = token.lower()
        yield low[:64]
        if len(low) > 64:
            # A macaroon is known by its end; and a preimage may be part of a longer dump.
            yield low[-64:]
            if len(low) < 2_000 and len(low) != 128:  # 128 are a signature's
                yield from (low[at : at + 64] for at in range(2, len(low) - 64, 2))
    for found in set(BASE64_OF_32.findall(text)):
        try:
            yield base64.b64decode(found.translate(str.maketrans("-_", "+/")), validate=True).hex()
        except binascii.Error:
            continue
    for literal in set(BYTES.findall(text)):
        try:
            value: object = ast.literal_eval(literal)
        except (SyntaxError, ValueError):
            continue
        if isinstance(value, bytes) and 32 <= len(value) <= 4_096:
            yield from (value[at : at + 32].hex() for at in range(len(value) - 31))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _objects(value: object) -> Iterable[dict[str, object]]:
    match value:
        case dict():
            yield value
            for inner in value.values():
                yield from _objects(inner)
        case list():
            for inner in value:
                yield from _objects(inner)
        case _:
            return


SEARCH = SecretSearch()
"""The search of this process's run."""
