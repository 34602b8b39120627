"""The promises of the safety page are held by tests that exist."""

from __future__ import annotations

from docs_pages import REPOSITORY, existing_tests, inline_codes, named_tests, page_text

PAGE = "docs/safety.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = named_tests(page_text(PAGE))
    assert len(named) > 20
    assert named - existing_tests() == set()


def test_every_setting_that_the_page_names_is_one() -> None:
    settings = (REPOSITORY / "services" / "lightwork_broker" / "settings.py").read_text()
    named = {code for code in inline_codes(PAGE) if code.endswith("_msat")}
    assert named == {"credit_ceiling_msat"}
    assert all(f"    {name}: " in settings for name in named)
