"""What `lightwork broker audit` prints for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightwork_broker.audit import Audit, NodeMoney
from lightwork_contracts.money import format_msat


def print_report(report: Audit, out: Console) -> None:
    """Print accounts, the node's money, and what is wrong."""
    table = Table("account", "balance", title="The broker's books")
    for account, amount in report.balances.items():
        table.add_row(account, format_msat(amount))
    out.print(table)
    out.print(f"{report.unfinished} escrows are not at their end, {report.unknown} of them unknown")
    if report.node is not None:
        out.print(_node_table(report.node))
    for breach in report.breaches:
        out.print(f"[red]breach[/]: {escape(breach)}")
    for doubt in report.doubts:
        out.print(f"[yellow]not clear[/]: {escape(doubt)}")
    if report.withdrawals_stopped is not None:
        out.print(
            f"[red]withdrawals are stopped[/]: {escape(report.withdrawals_stopped)}; "
            "look into it, then let them go on with --acknowledge"
        )


def _node_table(money: NodeMoney) -> Table:
    table = Table("", "", title="The broker's node", show_header=False)
    table.add_row("its channels hold", format_msat(money.channels_msat))
    if money.limbo_msat is None:
        table.add_row("on its way on the chain", "not known: no permission")
    else:
        table.add_row(
            f"on its way on the chain, out of {money.closing} channels", format_msat(money.limbo_msat)
        )
    outside = "not known: the start was not recorded" if money.outside_msat is None else None
    table.add_row("of both not explained by the books", outside or format_msat(money.outside_msat or 0))
    table.add_row("owed to agents", format_msat(money.owed_msat))
    table.add_row(f"held for {money.holds} jobs", format_msat(money.held_msat))
    return table
