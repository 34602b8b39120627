"""The secret in its box."""

from __future__ import annotations

import hashlib
import pickle
import traceback

import pytest

from lightwork_broker.lightning.preimage import Preimage

SECRET = bytes(range(32))


def test_a_preimage_opens_its_own_hash_and_no_other() -> None:
    preimage = Preimage(SECRET)
    assert preimage.payment_hash == hashlib.sha256(SECRET).hexdigest()
    assert preimage.matches(preimage.payment_hash)
    assert not preimage.matches(Preimage(bytes(32)).payment_hash)


def test_a_preimage_comes_back_from_its_hex() -> None:
    assert Preimage.from_hex(Preimage(SECRET).hex()) == Preimage(SECRET)
    assert Preimage(SECRET).reveal() == SECRET
    assert Preimage(SECRET) != Preimage(bytes(32))
    assert len({Preimage(SECRET), Preimage(SECRET)}) == 1


def test_a_preimage_is_not_printed_in_any_way() -> None:
    preimage = Preimage(SECRET)
    for shown in (repr(preimage), str(preimage), f"{preimage!s:>40}", str([preimage]), str({"p": preimage})):
        assert SECRET.hex() not in shown
        assert repr(SECRET) not in shown


def test_a_preimage_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Preimage(SECRET))


@pytest.mark.parametrize("wrong", [b"", SECRET[:31], SECRET + b"\x00"])
def test_a_preimage_has_thirty_two_bytes(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Preimage(wrong)


def test_a_text_that_is_no_preimage_is_refused_without_showing_it() -> None:
    almost = SECRET.hex()[:-1] + "x"
    with pytest.raises(ValueError, match="64 hex") as refused:
        Preimage.from_hex(almost)
    assert almost[:20] not in "".join(traceback.format_exception(refused.value))
