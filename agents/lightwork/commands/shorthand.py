"""What may be left out on the command line: `jobs` means `jobs list`, and `jobs ID` means `jobs show ID`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GROUPS: Mapping[str, frozenset[str]] = {
    "jobs": frozenset({"list", "show", "cancel", "accept", "reject"}),
    "listings": frozenset({"list", "show", "retire"}),
}


def spelled_out(words: Sequence[str]) -> list[str]:
    """Return the words with the command that was left out; anything that is not such a group stays as it is."""
    if not words or words[0] not in GROUPS:
        return list(words)
    group, rest = words[0], list(words[1:])
    first = rest[0] if rest else ""
    if first in GROUPS[group] or first in ("--help", "-h"):
        return [group, *rest]
    # An id has an underscore and stands first; an option's value never does.
    return [group, "show" if "_" in first and not first.startswith("-") else "list", *rest]
