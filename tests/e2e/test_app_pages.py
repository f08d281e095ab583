"""Every page of the dashboard in a browser: it opens, on a full and on an empty ledger, and everyone can use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright", reason="no Playwright: pip install playwright")

from app_browser import App, check, go, picture, settle
from app_pages_ledger import empty_ledger

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

PAGES = sorted(p.stem for p in (Path(__file__).resolve().parents[2] / "app" / "app_pages").glob("*.py"))
LAPTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")
STREAMLITS: Any = {
    "exclude": [
        ["[data-testid='stSidebarNav']"],
        ["[data-testid='stButtonGroup'] [data-selected]"],
        ["[data-testid='stButtonGroup'] [kind='segmented_controlActive']"],
        ["[role='tab'][aria-selected='true']"],
    ]
}
"""Streamlit's own, left out: its menu's list has sections that are no list items; and what is chosen is written in the
colour that white stands on elsewhere, which on a dark page cannot have enough contrast to both."""
every_page = pytest.mark.parametrize("name", PAGES)


@pytest.fixture(scope="module")
def full(serve: Callable[..., App], filled: Callable[[str], Path]) -> App:
    return serve(filled("pages"))


@pytest.fixture(scope="module")
def empty(serve: Callable[..., App], tmp_path_factory: pytest.TempPathFactory) -> App:
    return serve(empty_ledger(tmp_path_factory.mktemp("empty") / "empty.db"))


@pytest.fixture(scope="module")
def window(full: App) -> Iterator[Page]:
    """One window for all pages: what was loaded once is not loaded again."""
    page = full.open()
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def bare(empty: App) -> Iterator[Page]:
    page = empty.open()
    yield page
    page.context.close()


def faults(page: Page, rules: list[str] | None = None) -> list[str]:
    """Returns what axe finds serious or critical, with an element that shows it.

    What is found is looked for again: a part that draws itself anew every few seconds is pale meanwhile.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    said: list[str] = []
    for _ in range(3):
        found = Axe().run(page, context=STREAMLITS, options=options).response["violations"]
        said = [
            f"{one['id']}: {one['nodes'][0]['html'][:120]}: {one['nodes'][0]['failureSummary'][:300]}"
            for one in found
            if one["impact"] in SERIOUS
        ]
        if not said:
            break
        page.wait_for_timeout(1500)
    return said


@every_page
def test_a_page_shows_what_the_ledger_holds(full: App, window: Page, screenshots: Path, name: str) -> None:
    window.set_viewport_size(LAPTOP)
    window.emulate_media(color_scheme="light")
    go(window, name)
    check(window, full)
    picture(window, screenshots, name, "light")
    wrong = faults(window)
    window.emulate_media(color_scheme="dark")
    settle(window)
    picture(window, screenshots, name, "dark")
    wrong += [f"dark: {fault}" for fault in faults(window, ["color-contrast"])]
    window.emulate_media(color_scheme="light")
    window.set_viewport_size(PHONE)
    settle(window)
    picture(window, screenshots, name, "phone")
    wide = window.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    check(window, full)
    assert not wrong, "\n".join(wrong)
    assert wide <= PHONE["width"], "on a phone the page must be scrolled sideways"


@every_page
def test_a_page_says_what_to_do_where_there_is_nothing(empty: App, bare: Page, name: str) -> None:
    go(bare, name)
    check(bare, empty)
    assert len(bare.locator('[data-testid="stMain"]').inner_text()) > 80, "an empty page says nothing"


def test_parts_of_pages_open_by_their_address(full: App, screenshots: Path) -> None:
    page = full.open("retrain?view=Gate")
    assert page.get_by_text("Your decision on").is_visible()
    picture(page, screenshots, "retrain-gate", "light")
    page.goto(f"{full.url}/retrain?view=Training")
    settle(page)
    page.get_by_text("Gradient norm").first.wait_for()
    picture(page, screenshots, "retrain-training", "light")
    page.goto(f"{full.url}/slices?view=By+tag")
    settle(page)
    page.get_by_text("slices were looked at").wait_for()
    picture(page, screenshots, "slices-tags", "light")
    check(page, full)
    page.context.close()


def test_from_a_slice_to_a_plan_and_from_the_evidence_to_a_decision(full: App) -> None:
    page = full.open("slices")
    page.get_by_role("button", name="Retrain on this slice").click()
    page.wait_for_url("**/retrain**")
    settle(page)
    assert page.get_by_role("heading", name="What it would train on").is_visible()
    with page.expect_download() as got:
        page.get_by_role("button", name="Download plan").click()
    assert "method: sft" in got.value.path().read_text()
    page.goto(f"{full.url}/retrain?view=Gate")
    settle(page)
    page.get_by_label("Why").fill("The held-out slice is clearly better.")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Decided by local").wait_for()
    check(page, full)
    page.context.close()
