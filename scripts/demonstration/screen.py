"""How the demo looks to people: colours and a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demonstration.books import NODES, Check, Held, Moves
from demonstration.purchase import Seen
from lightwork_contracts.money import format_msat
from lightwork_contracts.signed.listing import FixedPrice
from lightwork_contracts.status import CAPABILITIES, Acceptance, JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.market import ListingView, QuoteView
from lightwork_regtest.description import ProgramDescription

_STYLE = {
    JobStatus.SETTLED: "bold green",
    JobStatus.REFUNDING: "yellow",
    JobStatus.REFUNDED: "bold yellow",
    JobStatus.EXPIRED: "yellow",
    JobStatus.DISPUTED: "red",
}


INDENT = 3


class Screen:
    """Everything that the demo says."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        self._console = console
        self._scene = 0
        self._status: JobStatus | None = None
        self._accepts = Acceptance.AUTO

    def say(self, text: str = "", *, style: str = "") -> None:
        """One line, as it is."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def scene(self, title: str) -> None:
        """A heading."""
        self._scene += 1
        self._status = None
        self.say()
        self.say(f"{self._scene}. {title}", style="bold")

    def found_running(self, programs: Mapping[str, ProgramDescription]) -> None:
        """Which programs run the nodes of an earlier demo."""
        running = ", ".join(f"{name} {program.version}" for name, program in programs.items())
        self.say(f"   found running: {running}", style="dim")

    def listings(self, listings: Sequence[ListingView]) -> None:
        """What is for sale."""
        rows = [
            (
                listing.content.name,
                format_msat(price.msat)
                if isinstance(price := listing.content.price, FixedPrice)
                else "by quote",
                listing.content.agent_name,
                listing.content.description.splitlines()[0],
            )
            for listing in listings
        ]
        # Only the last column may be cut: rich would take the room from the price as well.
        room = (
            self._console.width
            - INDENT
            - sum(2 + max(len(row[column]) for row in rows) for column in range(3))
        )
        table = _table("task", "price", "agent", "what it does")
        for task, price, agent, does in rows:
            table.add_row(task, price, agent, does if len(does) <= room else f"{does[: room - 1].rstrip()}…")
        self._console.print(Padding(table, (0, 0, 0, INDENT)))

    def quoted(self, quote: QuoteView) -> None:
        """The signed price."""
        self._accepts = quote.acceptance
        self.say(
            f"   quote: {format_msat(quote.total_msat)} in all = price {format_msat(quote.price_msat)} + fee "
            f"{format_msat(quote.fee_msat)} + routing budget {format_msat(quote.routing_msat)}"
        )

    def event(self, seen: Seen) -> None:
        """A job's event, if it tells something new."""
        event = seen.event
        when = f"   {seen.seconds:6.2f} s  "
        if event.kind == "job.provider_paid":
            self.say(f"{when}           the provider's node is paid, the preimage known", style="dim")
        elif event.status is not self._status:
            self._status = event.status
            self._console.print(
                Text(when)
                + Text(f"{event.status.value:<11}", style=_STYLE.get(event.status, "cyan"))
                + Text(self._meaning(event.status)),
                soft_wrap=True,
            )

    def _meaning(self, status: JobStatus) -> str:
        if status is JobStatus.DELIVERED and self._accepts is Acceptance.AUTO:
            return "the result is here and fits the schema: accepted"
        return CAPABILITIES[status].meaning

    def htlc(self, held: Held) -> None:
        """The buyer's money, waiting in the buyer's own channel."""
        self.say(
            f"           LND of the buyer: HTLC of {held.amount_sat} sat waits, "
            f"expires in {held.expires_in_blocks} blocks",
            style="dim",
        )

    def result(self, result: JsonValue) -> None:
        """What the buyer has bought."""
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2)
        for number, line in enumerate(text.splitlines() or [""]):
            self.say(("   result: " if number == 0 else "           ") + line, style="green")

    def error(self, code: str, message: str) -> None:
        """Why there is no result."""
        self.say(f"   no result: {message} ({code})", style="yellow")

    def balances(self, job: JobForBuyer, moves: Moves) -> None:
        """The nodes' own balances before and after, and what the broker's gain is made of."""
        table = _table("LND node", "before", "after", "moved")
        for number in (1, 2, 3):
            table.columns[number].justify = "right"
        for node in NODES:
            moved = moves.of(node)
            sign = "+" if moved > 0 else ""
            style = "green" if moved > 0 else "red" if moved < 0 else "dim"
            table.add_row(
                node,
                format_msat(moves.before[node]),
                format_msat(moves.after[node]),
                Text(f"{sign}{format_msat(moved)}", style=style),
            )
            if node == "broker" and job.status is JobStatus.SETTLED:
                unspent = job.quote.routing_msat - (job.routing_paid_msat or 0)
                for part, amount in (("its fee", job.quote.fee_msat), ("routing budget, unspent", unspent)):
                    table.add_row(f"  {part}", "", "", format_msat(amount), style="dim")
        self.say()
        self._console.print(Padding(table, (0, 0, 0, INDENT)))

    def checks(self, checks: Sequence[Check]) -> None:
        """The claims, and whether they hold."""
        for check in checks:
            self._console.print(
                Text("   ✓ " if check.ok else "   ✗ ", style="green" if check.ok else "bold red")
                + Text(check.claim, style="" if check.ok else "bold red"),
                soft_wrap=True,
            )

    def commands(self, lines: Sequence[tuple[str, str]]) -> None:
        """Commands to copy, each with what it is for."""
        width = max(len(command) for command, _ in lines)
        for command, meaning in lines:
            line = Text(f"     {command:<{width}}" if meaning else f"     {command}", style="cyan")
            self._console.print(line + Text(f"   # {meaning}" if meaning else "", "dim"), soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
