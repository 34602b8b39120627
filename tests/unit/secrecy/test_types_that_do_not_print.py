"""Secrets in their boxes: nothing that prints, logs, fails or dumps them shows them."""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import pickle
import secrets
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import sqlalchemy as sa
import structlog
from databases import KINDS, Template, open_template
from pydantic import BaseModel, ValidationError
from secret_search.search import Kind, SecretSearch

from lightwork.errors import LightworkError
from lightwork.lnd_wallet import LndWallet, _LndPayment  # pyright: ignore[reportPrivateUsage]
from lightwork.wallet import Payment, PaymentOutcome
from lightwork_broker.accounts.machine import WithdrawalStatus
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow import store as escrows
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.lightning.lnd_connection import _Macaroon  # pyright: ignore[reportPrivateUsage]
from lightwork_broker.lightning.lnd_errors import translate
from lightwork_broker.lightning.ports import Payout, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.remote import wire
from lightwork_broker.logs import ScrubbingFormatter, processors
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.webhooks.store import Webhook
from lightwork_contracts.ids import JobId, PaymentHash, Pubkey, WebhookId, WithdrawalId
from lightwork_contracts.money import Msat
from lightwork_contracts.secret_text import Secret
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.accounts import WithdrawalView
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.webhooks import NewWebhook
from lightwork_regtest.description import BitcoindDescription

RAW = secrets.token_bytes(32)
HASH = PaymentHash(hashlib.sha256(RAW).hexdigest())
MACAROON = b"\x02\x01\x03lnd\x02\xf8\x01" + secrets.token_bytes(90)
WORD = "whsec_" + secrets.token_urlsafe(32)
PASSWORD = "hunter2-" + secrets.token_urlsafe(12)
URL = f"postgresql://me:{PASSWORD}@db.example/market"


def escrow(*, escrow_id: str = "job_1", total_msat: int = 111) -> Escrow:
    return Escrow(
        id=JobId(escrow_id),
        state=EscrowState.CREATED,
        payment_hash=HASH,
        price_msat=Msat(100),
        fee_msat=Msat(10),
        routing_msat=Msat(1),
        total_msat=Msat(total_msat),
        provider_invoice="",
        hold_cltv_blocks=1,
        outgoing_cltv_blocks=1,
        forward_seconds=1,
        memo="",
        pay_by=1,
        preimage=Preimage(RAW),
        created_at=0,
        updated_at=0,
    )


def withdrawal() -> Withdrawal:
    return Withdrawal(
        id=WithdrawalId("wdr_1"),
        agent=Pubkey(HASH),
        status=WithdrawalStatus.PAID,
        payment_hash=HASH,
        invoice="",
        amount_msat=Msat(1),
        max_fee_msat=Msat(1),
        preimage=Preimage(RAW),
        created_at=0,
        updated_at=0,
    )


def webhook() -> Webhook:
    return Webhook(
        id=WebhookId("whk_1"), owner=Pubkey(HASH), url=URL, secret=Secret(WORD), cursor=0, created_at=0
    )


BOXES: dict[str, Callable[[], object]] = {
    "preimage": lambda: Preimage(RAW),
    "secret key": lambda: SecretKey.generate(RAW),
    "secret text": lambda: Secret(WORD),
    "secret bytes": lambda: Secret(RAW),
    "macaroon": lambda: _Macaroon(MACAROON),
}
HOLDERS: dict[str, Callable[[], object]] = {
    "escrow": escrow,
    "withdrawal": withdrawal,
    "webhook": webhook,
    "payout": lambda: Payout(
        status=PayoutStatus.SUCCEEDED, payment_hash=HASH, preimage=Preimage(RAW), fee_msat=Msat(0)
    ),
    "payment": lambda: Payment(payment_hash=HASH, outcome=PaymentOutcome.SUCCEEDED, preimage=RAW.hex()),
    "settings": lambda: BrokerSettings(database=URL),  # pyright: ignore[reportArgumentType]
    "wallet": lambda: LndWallet(url="http://127.0.0.1:9", macaroon=MACAROON),
    "payment of LND": lambda: _LndPayment(payment_hash=HASH, status="SUCCEEDED", payment_preimage=RAW.hex()),
    "settle": lambda: wire.Settle(preimage=RAW.hex()),
    "job": lambda: JobForBuyer.model_construct(preimage=RAW.hex()),
    "withdrawal of the API": lambda: WithdrawalView.model_construct(preimage=RAW.hex()),
    "webhook of the API": lambda: NewWebhook.model_construct(secret=WORD),
    "bitcoind": lambda: BitcoindDescription.model_construct(rpc_user="me", rpc_password=PASSWORD),
}
EVERYTHING = {**BOXES, **HOLDERS}


def told(text: str) -> list[str]:
    """Return what secrets a text holds."""
    search = SecretSearch()
    search.add(Kind.PREIMAGE, RAW)
    search.add(Kind.MACAROON, MACAROON)
    for word in (WORD, PASSWORD):
        search.add(Kind.PASSWORD, word)
    search.log("here", text)
    return [str(finding) for finding in search.findings()]


@pytest.fixture
def logged() -> Generator[io.StringIO]:
    """What the broker's log holds, with everything that is logged at all in it."""
    text = io.StringIO()
    before = structlog.get_config()
    structlog.configure(
        processors=processors(as_json=False),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(file=text),
        cache_logger_on_first_use=False,
    )
    yield text
    structlog.configure(**before)


@pytest.mark.parametrize("name", EVERYTHING)
def test_it_is_not_printed_in_any_way(name: str) -> None:
    thing = EVERYTHING[name]()
    for shown in (repr(thing), str(thing), f"{thing}", f"{thing!s:>90}", f"{[thing]} { ({'it': thing}) }"):
        assert told(shown) == []


@pytest.mark.parametrize("name", BOXES)
def test_a_box_is_not_pickled_and_not_copied(name: str) -> None:
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as refused:
            take(BOXES[name]())
        assert told("".join(traceback.format_exception(refused.value))) == []


@pytest.mark.parametrize("name", ["escrow", "withdrawal", "webhook", "payout"])
def test_what_holds_a_box_is_not_pickled_either(name: str) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(HOLDERS[name]())


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", EVERYTHING)
def test_logged_by_accident_at_the_lowest_level_it_is_not_in_the_log(
    logged: io.StringIO, name: str, as_json: bool
) -> None:
    structlog.configure(processors=processors(as_json=as_json))
    log, thing = structlog.stdlib.get_logger(), EVERYTHING[name]()
    log.debug(f"oops {thing}", thing=thing, inside={"it": [thing, {"deeper": thing}]})
    try:
        raise RuntimeError("oops", thing)
    except RuntimeError as error:
        log.debug("failed", exc_info=error)
        log.debug("failed", error=error)
    assert "oops" in logged.getvalue()
    assert told(logged.getvalue()) == []


@pytest.mark.parametrize(
    "raw", [RAW.hex(), RAW, MACAROON, MACAROON.hex(), WORD, URL, f"Nostr ey{'J' * 60}", repr(MACAROON)]
)
def test_even_a_bare_secret_is_taken_out_of_the_log(logged: io.StringIO, raw: str | bytes) -> None:
    log = structlog.stdlib.get_logger()
    log.debug("oops", preimage=raw, lnd_macaroon=raw, free=raw, inside=[raw, {"x": raw}])
    log.debug(f"oops {raw!r} and {raw}")
    try:
        raise ValueError(raw)
    except ValueError as error:
        log.debug("failed", exc_info=error)
    assert "oops" in logged.getvalue()
    assert told(logged.getvalue()) == []


@pytest.mark.parametrize("raw", [RAW.hex(), MACAROON.hex(), WORD, URL])
def test_what_others_log_goes_through_the_same_net(raw: str) -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(ScrubbingFormatter("%(levelname)s %(message)s"))
    others = logging.Logger("others", level=logging.DEBUG)
    others.addHandler(handler)
    try:
        raise ValueError(raw)
    except ValueError:
        others.exception("GET /v1/x?token=%s failed", raw)
    assert "failed" in text.getvalue()
    assert told(text.getvalue()) == []


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (JobForBuyer, {"preimage": [RAW.hex()]}),
        (WithdrawalView, {"preimage": [RAW.hex()]}),
        (NewWebhook, {"secret": [WORD]}),
        (wire.Settle, {"preimage": [RAW.hex()]}),
        (_LndPayment, {"payment_preimage": [RAW.hex()]}),
        (BitcoindDescription, {"rpc_password": [PASSWORD]}),
        (BrokerSettings, {"database": f"mysql://me:{PASSWORD}@x"}),
    ],
)
def test_a_value_that_does_not_fit_is_not_repeated_in_the_error(
    model: type[BaseModel], fields: dict[str, object]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(fields)
    assert told("".join(traceback.format_exception(refused.value))) == []


def test_an_error_of_lnd_does_not_repeat_what_it_was_about() -> None:
    for text in (RAW.hex(), MACAROON.hex(), f"cannot settle with {RAW.hex()}"):
        error = grpc.aio.AioRpcError(
            grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(("macaroon", MACAROON.hex())),
            grpc.aio.Metadata(),
            text,
        )
        assert told(str(translate(error))) == []


async def test_a_wallet_that_cannot_reach_its_node_does_not_show_its_macaroon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    wallet = LndWallet(url="http://127.0.0.1:9", macaroon=MACAROON)
    with pytest.raises(LightworkError) as refused:
        await wallet.create_invoice(amount_msat=Msat(1), expiry_seconds=60, memo="", final_cltv=80)
    await wallet.close()
    assert told("".join(traceback.format_exception(refused.value)) + caplog.text) == []


@pytest.fixture(scope="module", params=KINDS)
def template(request: pytest.FixtureRequest) -> Generator[Template]:
    with open_template(request.param) as made:
        yield made


async def test_a_row_that_the_database_refuses_is_not_repeated_in_the_error(
    template: Template, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    database = open_database(template.copy(tmp_path))
    shown: list[str] = []
    for refused in (escrow(total_msat=7), escrow(escrow_id="job_2", total_msat=7)):
        with pytest.raises(sa.exc.IntegrityError) as error:
            async with database.write() as tx:
                await escrows.insert(tx, refused)
        shown += [*traceback.format_exception(error.value), repr(error.value), str(error.value.orig)]
    await database.close()
    assert "total_is_the_sum" in "".join(shown)
    assert told("".join(shown) + caplog.text) == []
