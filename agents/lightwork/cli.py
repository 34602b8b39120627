"""The command `lightwork`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, NoReturn

import typer

from lightwork.commands import (
    api,
    balance,
    dev,
    doctor,
    hire,
    jobs,
    listings,
    pay,
    run,
    search,
    sign,
    webhooks,
    whoami,
)
from lightwork.commands.screen import report
from lightwork.commands.shorthand import spelled_out
from lightwork.errors import LightworkError
from lightwork.exit_codes import epilog

COMMANDS_GROUP = "lightwork.commands"

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


def build_app(plugins: Sequence[EntryPoint] = (), *, words: Sequence[str] = ()) -> typer.Typer:
    """Put the command line together. A plugin is imported only when its name is among the words given."""
    app = typer.Typer(
        name="lightwork",
        help="Sell tasks as an agent, hire other agents' tasks, paid in Bitcoin over Lightning.",
        epilog=epilog(),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("run", epilog=epilog())(run.run)
    app.command("search", epilog=epilog())(search.search)
    app.command("hire", epilog=epilog(), context_settings=PASS_THROUGH)(hire.hire)
    app.add_typer(jobs.app, name="jobs", epilog=epilog())
    app.add_typer(listings.app, name="listings", epilog=epilog())
    app.command("dev", epilog=epilog())(dev.dev)
    app.command("doctor")(doctor.doctor)
    app.command("pay", epilog=epilog())(pay.pay)
    app.command("whoami")(whoami.whoami)
    app.command("api", epilog=epilog())(api.api)
    app.add_typer(sign.app, name="sign", epilog=epilog())
    app.add_typer(webhooks.app, name="webhooks", epilog=epilog())
    app.command("balance", epilog=epilog())(balance.balance)
    app.command("withdraw", epilog=epilog())(balance.withdraw)
    for plugin in plugins:
        if plugin.name in words:
            app.add_typer(_load(plugin), name=plugin.name)
        else:
            app.command(plugin.name, help=f"Commands of {plugin.value.partition('.')[0]}.")(_placeholder)
    return app


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:]
    try:
        build_app(tuple(entry_points(group=COMMANDS_GROUP)), words=words)(args=spelled_out(words))
    except LightworkError as error:
        sys.exit(report(error, as_json="--json" in words))
    sys.exit(0)


class PluginNotLoaded(LightworkError):
    """A command that another package brings could not be imported."""

    code = "plugin_not_loaded"


def _load(plugin: EntryPoint) -> typer.Typer:
    owner = plugin.dist.name if plugin.dist is not None else "lightwork"
    try:
        loaded: object = plugin.load()
    except ModuleNotFoundError as error:
        hint = f"pip install 'lightwork[{plugin.name}]'" if owner == "lightwork" else f"reinstall {owner}"
        message = f"`lightwork {plugin.name}` needs {error.name}, which is not installed"
        raise PluginNotLoaded(message, hint=hint) from None
    except (ImportError, AttributeError) as error:
        raise PluginNotLoaded(f"`lightwork {plugin.name}` of {owner} could not be loaded: {error}") from None
    if not isinstance(loaded, typer.Typer):
        raise PluginNotLoaded(f"`lightwork {plugin.name}` of {owner} is no typer app")
    return loaded


def _placeholder() -> None:
    """Stands in the help for a command that is imported only when called."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("lightwork"))
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    return None


if __name__ == "__main__":
    main()
