"""Mistakes in what LND's words are taken for."""

from __future__ import annotations

from mutants.mutation import BROKER, Mutation

PAYOUTS = f"{BROKER}/lightning/lnd_payouts.py"
READING = "tests/unit/lightning/test_lnd_reading.py"
LOST = "tests/unit/lightning/test_lnd_payouts.py"

IN_LIGHTNING = (
    Mutation(
        name="a failure that is found after a lost call is taken for its outcome",
        file=PAYOUTS,
        old="return _unknown(payment_hash) if known.status is PayoutStatus.FAILED else known",
        new="return known",
        breaks=("I28",),
        caught_by=f"{LOST}::test_a_lost_payment_is_never_failed",
    ),
    Mutation(
        name="a refusal of LND is believed without a look for an earlier payment",
        file=PAYOUTS,
        old="        known = await self.track(payment_hash)\n"
        "        if known.failure is PayoutFailure.NEVER_SENT:\n"
        "            return _failed(payment_hash, refused)\n"
        "        return known\n",
        new="        return _failed(payment_hash, refused)\n",
        breaks=("I14", "I28"),
        caught_by=f"{LOST}::test_a_refused_payment_is_failed_only_if_no_earlier_one_is_under_way",
    ),
    Mutation(
        name="a payment that is under way already is a failure",
        file=PAYOUTS,
        old="            return await self.wait(payment_hash, patience)\n",
        new="            return _failed(payment_hash, PayoutFailure.REFUSED)\n",
        breaks=("I14", "I28"),
        caught_by=f"{LOST}::test_a_payment_that_is_under_way_already_is_followed_to_its_end",
    ),
    Mutation(
        name="a success is believed without its preimage",
        file=PAYOUTS,
        old="            if not preimage.matches(payment_hash):\n"
        "                return _unknown(payment_hash)\n",
        new="            payment_hash = preimage.payment_hash\n",
        breaks=("I11",),
        caught_by=f"{READING}::test_a_success_without_the_right_preimage_is_unknown",
    ),
    Mutation(
        name="a status that is new to us is taken for a failure",
        file=PAYOUTS,
        old="        case PaymentStatusNumber.IN_FLIGHT | PaymentStatusNumber.INITIATED:\n"
        "            return Payout(status=PayoutStatus.IN_FLIGHT, payment_hash=payment_hash)\n"
        "        case _:\n            return _unknown(payment_hash)\n",
        new="        case PaymentStatusNumber.IN_FLIGHT | PaymentStatusNumber.INITIATED:\n"
        "            return Payout(status=PayoutStatus.IN_FLIGHT, payment_hash=payment_hash)\n"
        "        case _:\n            return _failed(payment_hash, PayoutFailure.ERROR)\n",
        breaks=("I28",),
        caught_by=f"{READING}::test_a_status_that_we_do_not_know_is_unknown",
    ),
    Mutation(
        name="an error that proves nothing is taken for a refusal",
        file=f"{BROKER}/lightning/lnd_errors.py",
        old="    if error.code() is not grpc.StatusCode.UNKNOWN:\n        return None\n",
        new="",
        breaks=("I28",),
        caught_by=f"{READING}::test_an_error_that_proves_nothing_is_unavailable_and_no_refusal",
    ),
    Mutation(
        name="an error of LND is shown as it came",
        file=f"{BROKER}/lightning/lnd_errors.py",
        old='shown = _INVOICE.sub("<invoice>", _LONG_HEX.sub("<hex>", text))',
        new="shown = text",
        breaks=("I20",),
        caught_by=f"{READING}::test_an_error_of_the_node_is_shown_without_what_could_be_a_secret",
    ),
    Mutation(
        name="a preimage prints itself",
        file=f"{BROKER}/lightning/preimage.py",
        old='        return "Preimage(...)"\n',
        new='        return f"Preimage({self.hex()})"\n',
        breaks=("I20",),
        caught_by="tests/unit/lightning/test_preimage.py::test_a_preimage_is_not_printed_in_any_way",
    ),
)
