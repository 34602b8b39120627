"""pytest's side of the search: it begins with the session, ends it with a line, and fails it with what was found."""

from __future__ import annotations

import pytest
from secret_search.harvest import sweep
from secret_search.listening import listen
from secret_search.search import SEARCH

SHOWS_SECRETS = "shows_secrets"


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.addinivalue_line(
        "markers", f"{SHOWS_SECRETS}: prints made-up secrets of its own on purpose"
    )
    listen()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take in what the brokers inside this process have logged during a test."""
    if SHOWS_SECRETS in report.keywords:
        return
    for title, text in report.sections:
        # A report repeats what the phases before it have captured.
        if text and title.endswith(str(report.when)):
            SEARCH.log(f"{title} of {report.nodeid}", text)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    made = getattr(session.config, "_tmp_path_factory", None)
    if made is not None:
        sweep(made.getbasetemp())
    nothing = 0 in (SEARCH.logs, SEARCH.answers, SEARCH.secrets)
    if (SEARCH.findings() or (nothing and _is_whole(session))) and session.exitstatus in (0, 5):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    found = SEARCH.findings()
    for finding in found:
        terminalreporter.write_line(f"SECRET: {finding}", red=True)
    terminalreporter.write_line(f"secrets: {SEARCH.summary()}", red=bool(found))


def _is_whole(session: pytest.Session) -> bool:
    """Tell whether this is the run of the whole suite, which cannot have nothing to search."""
    config = session.config
    chosen = config.option.keyword or config.option.markexpr or config.option.collectonly
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not chosen
