"""Every mutation, and what makes the catalogue worthless: texts that are gone, tests that are gone, gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mutants.at_the_border import AT_THE_BORDER
from mutants.in_accounts import IN_ACCOUNTS
from mutants.in_closures import IN_CLOSURES
from mutants.in_escrow import IN_ESCROW
from mutants.in_jobs import IN_JOBS
from mutants.in_ledger import IN_LEDGER
from mutants.in_lightning import IN_LIGHTNING
from mutants.in_market import IN_MARKET
from mutants.in_payout import IN_PAYOUT
from mutants.in_postgres import IN_POSTGRES
from mutants.in_recovery import IN_RECOVERY
from mutants.mutation import Mutation
from mutants.promises import INVARIANTS, NONE_APPLIES
from mutants.source_copy import REPOSITORY, NotOnce, mutate

CATALOGUE: tuple[Mutation, ...] = (
    *IN_LEDGER,
    *IN_ESCROW,
    *IN_PAYOUT,
    *IN_RECOVERY,
    *IN_CLOSURES,
    *IN_ACCOUNTS,
    *IN_JOBS,
    *IN_MARKET,
    *IN_LIGHTNING,
    *AT_THE_BORDER,
    *IN_POSTGRES,
)


def faults_of(catalogue: Sequence[Mutation]) -> list[str]:
    """Return what is wrong with a catalogue, by looking at the source only."""
    names = Counter(mutation.name for mutation in catalogue)
    faults = [
        f"{name}: there are {count} mutations of this name" for name, count in names.items() if count > 1
    ]
    for mutation in catalogue:
        faults += _faults_in_source(mutation)
        faults += _faults_in_test(mutation)
        unknown = set(mutation.breaks) - set(INVARIANTS)
        faults += [f"{mutation.name}: there is no invariant {name}" for name in sorted(unknown)]
    broken = {invariant for mutation in catalogue for invariant in mutation.breaks}
    for invariant in INVARIANTS:
        if (invariant in broken) == (invariant in NONE_APPLIES):
            faults.append(f"{invariant}: it needs a mutation, or one sentence that says why there is none")
    return faults


def _faults_in_source(mutation: Mutation) -> list[str]:
    path = REPOSITORY / mutation.file
    if not path.is_file():
        return [f"{mutation.name}: there is no file {mutation.file}"]
    try:
        text = mutate(mutation, path.read_text())
        compile(text, mutation.file, "exec")
    except (NotOnce, SyntaxError) as error:
        return [f"{error}" if isinstance(error, NotOnce) else f"{mutation.name}: {error}"]
    return [f"{mutation.name}: it changes nothing"] if mutation.old == mutation.new else []


def _faults_in_test(mutation: Mutation) -> list[str]:
    path = REPOSITORY / mutation.test_file
    if not path.is_file():
        return [f"{mutation.name}: there is no file {mutation.test_file}"]
    if not re.search(rf"^(?:async )?def {mutation.test_name}\(", path.read_text(), re.MULTILINE):
        return [f"{mutation.name}: {mutation.test_file} has no test {mutation.test_name}"]
    return []
