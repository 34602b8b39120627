"""What must hold of the broker, whatever happens: the invariants that a mutation may break, each as one sentence."""

from __future__ import annotations

INVARIANTS: dict[str, str] = {
    # the ledger
    "I1": "The entries of a ledger transaction add up to zero, or none of them is there.",
    "I2": "Only whole amounts of msat, within bounds and not zero, reach the ledger.",
    "I3": "What was recorded is never changed or removed; a mistake is mended by a further entry.",
    "I4": "Nobody takes more than is owed to them less what is set aside already, however many ask at once.",
    "I5": "Balances and states are what their logs of entries and events lead to.",
    "I6": "The same request under the same key adds nothing; another one under that key is refused.",
    "I7": "Each posting names what caused it.",
    "I8": "A job's escrow account holds what went out for it and did not come in yet, and nothing after its end.",
    "I9": "Price, fee and routing make up what the buyer paid, and what is left over has an account of its own.",
    "I10": "What the books claim is at the node; when it is not, payouts stop.",
    # the escrow and the node
    "I11": "The buyer's money is taken only after the provider was paid or, in credit mode, release was recorded.",
    "I12": "Nothing that was decided to be released is also decided to be given back, or the other way round.",
    "I13": "The buyer's money does not go back while a payout for it may be under way or was made.",
    "I14": "A job is paid out once, and one attempt is under way at a time.",
    "I15": "A payment hash is committed to the database before the node hears of it.",
    "I16": "A payout may spend on routing what was set aside for it, and no more.",
    "I17": "What is paid out is what was agreed: amount, hash, network, payee, and an invoice that lives long enough.",
    "I18": "A payout is locked for fewer blocks than the buyer's HTLC has left, with a margin.",
    "I19": "No escrow waits beyond its last safe block.",
    "I20": "A preimage is told to nobody before the settlement, and never logged.",
    "I21": "A job counts as paid when the whole amount is held, and not before.",
    "I22": "Late and repeated news of the node changes nothing.",
    "I23": "A payment hash serves one purpose in its life.",
    "I24": "A proof is good once: a signed request, a quote.",
    # recovery, and several at once
    "I25": "Killed at any step, a broker that starts again brings each job to its right end without a person.",
    "I26": "Recovering twice does no more than recovering once.",
    "I27": "After a recovery the node holds no invoice of ours that the database does not wait for.",
    "I28": "No answer is not a failure, however much time has passed.",
    "I29": "Who was overtaken, as a broker or as a provider, changes nothing any more.",
    "I30": "With an older copy of the database, the node's word wins, and nothing is paid or given back twice.",
    "I31": "Whoever asks meets the state before a change or after it, never half of it.",
    # the interface and the market
    "I32": "Nobody reads or changes what belongs to others.",
    "I33": "A job takes only the listed steps, each caused by those who may, and none after its end.",
    "I34": "A job is what its signed quote says: price, input, version of the listing, time.",
    "I35": "The hash of a result that the buyer is told is that of the result that the buyer is shown.",
    "I36": "Only settled jobs are rated, once by each side, and never by oneself.",
    "I37": "Clocks that jump and blocks that come in bursts change nobody's money.",
    "I38": "While the node answers, each job comes to its end in time.",
    # what bounds the harm
    "P1": "No agent is owed more than the ceiling.",
    "P2": "One buyer, key or address cannot take everything, and no request is larger than the limit.",
    "P3": "Nothing is sent to an address that is not public.",
    "P4": "No more is worked for than may wait in the channels with one peer.",
}

NONE_APPLIES: dict[str, str] = {
    "I36": "There are no ratings yet, so nothing could break this.",
}
"""Invariants without a mutation, and why there is none."""
