"""One mistake that somebody could make in our code, and the test that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

BROKER = "services/lightwork_broker"
UNIT = "tests/unit/broker"
FAULTS = "tests/property/test_escrow_under_faults.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A change of one place in one file.

    `old` occurs once in the file. `caught_by` is one test by its pytest id. A test that watches many invariants at once
    must show `says` when it fails: then it failed for the right reason.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: tuple[str, ...]
    caught_by: str
    says: str = ""

    @property
    def test_file(self) -> str:
        return self.caught_by.partition("::")[0]

    @property
    def test_name(self) -> str:
        return self.caught_by.partition("::")[2].partition("[")[0]


def script(name: str) -> str:
    """Return the id of a script of `tests/escrow_regressions.py`, played on SQLite."""
    return f"{FAULTS}::test_a_script_that_is_kept_costs_nobody_money[sqlite-{name}]"
