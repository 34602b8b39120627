"""The broker's own preimages, for jobs in credit mode.

They are derived from the broker's key and never stored before settlement: a copy of the database, however old,
gives nobody a preimage, and the broker that has the key can settle from any copy.
"""

from __future__ import annotations

import hashlib
import hmac

from lightwork_broker.escrow.store import Escrow
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.signed.keys import SecretKey

PURPOSE = b"lightwork/credit/preimage/1"


class CreditPreimages:
    """Makes the preimage and the payment hash of one quote, the same ones each time."""

    def __init__(self, key: SecretKey) -> None:
        self._secret = key.derive(PURPOSE)

    def hash_for(self, seed: str) -> PaymentHash:
        """Return the payment hash that belongs to a seed, which is the id of the quote."""
        return self.preimage_for(seed).payment_hash

    def preimage_for(self, seed: str) -> Preimage:
        """Return the secret behind that hash."""
        return Preimage(hmac.new(self._secret, seed.encode(), hashlib.sha256).digest())

    def preimage_of(self, escrow: Escrow) -> Preimage:
        """Return the preimage of an escrow in credit mode.

        Raises:
            ValueError: this broker's key did not make the escrow's hash.
        """
        if escrow.credit_seed is None:
            raise ValueError(f"escrow {escrow.id} is not in credit mode")
        preimage = self.preimage_for(escrow.credit_seed)
        if not preimage.matches(escrow.payment_hash):
            raise ValueError(f"the hash of escrow {escrow.id} was made with another broker's key")
        return preimage
