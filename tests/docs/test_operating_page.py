"""docs/operating.md leaves no setting, alarm or permission out, and says their names and defaults as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import REPOSITORY, fences, inline_codes, table_rows
from pydantic import SecretStr

from lightwork_broker.cli import Exit
from lightwork_broker.settings import BrokerSettings
from lightwork_regtest.macaroons import BROKER, PROVIDER, Role

PAGE = "docs/operating.md"
SOURCE = REPOSITORY / "services" / "lightwork_broker"


def shown(default: object) -> str:
    """A default as the page writes it."""
    match default:
        case SecretStr():
            return default.get_secret_value() or "none"
        case bool():
            return str(default).lower()
        case Path() | str() | tuple():
            return str(default) if default else "none"
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def settings_rows() -> dict[str, str]:
    return {
        cells[0].strip("`"): cells[1]
        for cells in table_rows(PAGE)
        if len(cells) == 3 and re.fullmatch(r"`[A-Z_]+`", cells[0])
    }


def test_every_setting_has_a_row_with_its_default_and_every_row_is_a_setting() -> None:
    fields = BrokerSettings.model_fields
    assert settings_rows() == {name.upper(): shown(field.default) for name, field in fields.items()}


def test_every_variable_that_a_block_sets_is_a_setting() -> None:
    named = {
        name
        for fence in fences(PAGE)
        for name in re.findall(r"^LIGHTWORK_BROKER_([A-Z_]+)=", fence.code, re.MULTILINE)
    }
    assert {"ORIGINS", "LND_MACAROON", "SIMULATED_URL"} <= named
    assert named - {name.upper() for name in BrokerSettings.model_fields} == set()


def test_every_alarm_in_the_log_has_a_row_and_every_row_is_an_alarm() -> None:
    raised = {
        name
        for file in SOURCE.rglob("*.py")
        for name in re.findall(r'log\.critical\(\s*"([a-z_.]+)"', file.read_text())
    }
    told = {
        name
        for cells in table_rows(PAGE)
        if len(cells) == 2
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`", cells[0])
    }
    assert len(raised) > 8
    assert told == raised


def test_every_event_and_answer_that_is_named_stands_in_the_code() -> None:
    text = "\n".join(file.read_text() for file in SOURCE.rglob("*.py"))
    named = [code for code in inline_codes(PAGE) if re.fullmatch(r"payouts\.[a-z]+|income:[a-z-]+", code)]
    assert len(named) > 3
    assert [code for code in named if f'"{code}"' not in text] == []


def test_every_exit_code_of_a_broker_that_ends_by_itself_has_a_row() -> None:
    told = {cells[0] for cells in table_rows(PAGE) if len(cells) == 2 and cells[0].isdigit()}
    # A breach is told by `audit`, never by `run`.
    assert told == {str(code.value) for code in Exit if code is not Exit.BREACH}


@pytest.mark.parametrize(("page", "role"), [(PAGE, BROKER), ("docs/agents.md", PROVIDER)])
def test_the_macaroon_that_is_baked_allows_what_the_nodes_of_the_tests_allow(page: str, role: Role) -> None:
    (baking,) = [fence.code for fence in fences(page) if "lncli bakemacaroon" in fence.code]
    words = baking.replace("\\\n", " ").split()
    assert sorted(word.removeprefix("uri:") for word in words if word.startswith("uri:")) == sorted(role.uris)
    assert words[words.index("--root_key_id") + 1] == str(role.root_key_id)
