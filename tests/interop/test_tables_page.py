"""The page of the state tables in a real Chromium, from disk: every cell is walked, and what it shows is looked at.

The screenshots are in test-output/pages.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect
from support.chromium import SCREENSHOTS, Tab, running
from support.generated_tables import HOSTILE_TABLE, HOSTILE_WORDS
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.layout_text import shown
from authstate.adapters.tables.page import page
from authstate.engine.machines.table import Table, TableMachine
from authstate.engine.machines.words import Words
from authstate.engine.model.errors import RecoveryExhausted, TransitionRefused

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real_parts]
COMMITTED = (REPO / "diagrams" / "tables.html").as_uri()
WALK = """(name) => {
    // Each cell and each answer of a guard, with the buttons that a person presses.
    const section = [...document.querySelectorAll('section')].find((one) => one.dataset.name === name);
    const shown = (all) => [...all].filter((one) => !one.hidden);
    const walked = [];
    const choices = [...section.querySelectorAll('.choices button')];
    for (const choice of choices) {
        choice.click();
        const [article] = shown(section.querySelectorAll('article'));
        const from = article.dataset.name;
        let steps = 1;
        for (const cell of article.querySelectorAll('.cells > li')) {
            for (const button of cell.querySelectorAll('button')) {
                button.click();
                steps += 1;
                const [now, ...others] = shown(section.querySelectorAll('article'));
                const here = [...section.querySelectorAll('.here')].map((one) => one.dataset.state);
                walked.push({
                    from,
                    trigger: cell.dataset.trigger,
                    refuses: button.textContent.endsWith('refuses'),
                    to: now.dataset.name,
                    fits: others.length === 0 && here.join() === now.dataset.state &&
                        section.querySelectorAll('.trail li').length === steps,
                    said: document.getElementById('said').textContent,
                });
                if (now === article) continue;
                choice.click();
                steps = 1;
            }
        }
    }
    return walked;
}"""
LABELS = """() => [...document.querySelectorAll('svg g')].flatMap((group) => {
    const box = group.querySelector('rect').getBBox();
    return [...group.querySelectorAll('text')].map((text) => text.getBBox()).filter((one) =>
        one.x < box.x || one.x + one.width > box.x + box.width ||
        one.y < box.y || one.y + one.height > box.y + box.height + 1);
}).length"""


class Holder:
    """A model of a table."""

    def __init__(self, state: str) -> None:
        self.state = state


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with running(chromium) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """The committed page."""
    context = await browser.new_context(viewport={"width": 1200, "height": 900})
    tab = Tab(await context.new_page())
    await tab.page.goto(COMMITTED)
    yield tab
    assert tab.complaints == []
    await context.close()


def what_happens(table: Table, words: Words, state: str, trigger: str, *, refuses: bool) -> tuple[str, str]:
    """The state after a trigger, by the running machine, and what the page must say of it."""
    refusal = RecoveryExhausted("the guard says no")
    guards = {row.guard: lambda _model, _payload: refusal if refuses else None for row in table.rows if row.guard}
    holder = Holder(state)
    of_nobody = msgspec.structs.replace(table, name="compared")  # so that it does not count as coverage of the table
    try:
        TableMachine(of_nobody, guards).fire(holder, trigger)
    except TransitionRefused:
        error = words.refusal(state, trigger)
        said = f"{trigger} is refused in {state}: {error}." if error else f"{trigger} is ignored in {state}."
        return holder.state, said
    except RecoveryExhausted:
        [row] = [row for row in table.rows if row.trigger == trigger and state in row.sources]
        errors = " or ".join(words.refusals.get(row.guard, ())) or "an error"
        return holder.state, f"{row.guard} refuses {trigger} in {state}: {errors}."
    way = f"stays in {state}" if holder.state == state else f"{state} → {holder.state}"
    events = ", ".join(words.events.get(trigger, ()))
    return holder.state, f"{trigger}: {way}{f'. Events: {events}' if events else ''}."


async def assert_walks(tab: Page, table: Table, words: Words) -> None:
    walked: list[dict[str, Any]] = await tab.evaluate(WALK, shown(table.name))
    names = {shown(name): name for name in (*table.states, *table.triggers)}
    cells = set()
    for move in walked:
        state, trigger = names[move["from"]], names[move["trigger"]]
        to, said = what_happens(table, words, state, trigger, refuses=move["refuses"])
        assert (names[move["to"]], move["said"]) == (to, shown(said))
        assert move["fits"], "one state is shown, here and in the picture, and the trail has every step"
        cells.add((state, trigger, move["refuses"]))
    expected = {(state, trigger, False) for state in table.states for trigger in table.triggers}
    expected |= {(source, row.trigger, True) for row in table.rows for source in row.sources if row.guard}
    assert cells == expected


async def test_every_cell_leads_where_the_running_machine_leads(tab: Tab) -> None:
    for table in TABLES:
        await tab.page.get_by_role("link", name=table.title, exact=True).click()
        await assert_walks(tab.page, table, TABLE_WORDS[table.name])


async def test_names_are_never_markup(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(page((HOSTILE_TABLE,), {HOSTILE_TABLE.name: HOSTILE_WORDS}, {}), encoding="utf-8")
    tab = Tab(await browser.new_page())
    await tab.page.goto(path.as_uri())
    await assert_walks(tab.page, HOSTILE_TABLE, HOSTILE_WORDS)
    assert await tab.page.evaluate("window.wasHacked") is None
    assert await tab.page.locator("script, img").count() == 1, "a name was read as markup"
    assert await tab.page.evaluate(LABELS) == 0, "a text is wider than its box"
    address = await tab.page.evaluate("location.hash")
    await tab.page.reload()
    assert await tab.page.evaluate("location.hash") == address
    assert tab.complaints == []
    await tab.page.close()


async def test_a_person_walks_with_the_keyboard_and_shares_the_walk(tab: Tab, browser: Browser) -> None:
    visible, status = tab.page.locator("section:visible"), tab.page.get_by_role("status")
    await visible.get_by_role("button", name="external_tokens", exact=True).press("Enter")
    await expect(status).to_have_text("Auth state: external_tokens.")
    await visible.get_by_role("button", name="Try it: use_api_key").press("Enter")
    await expect(status).to_have_text("use_api_key is refused in external_tokens: ExternalTokensActive.")
    await visible.get_by_role("button", name="Fire: log_out").press("Enter")
    focused = await tab.page.evaluate("document.activeElement.textContent")
    assert focused == "logged_out initial", "the reader begins at the new state"
    await visible.get_by_role("button", name="Fire, the guard refuses: use_api_key").press("Enter")
    await expect(visible.get_by_role("listitem").filter(has_text="permitted refuses use_api_key")).to_be_visible()
    link = await visible.get_by_role("link", name="Link to this walk").get_attribute("href")
    assert link == "#auth_state/external_tokens/use_api_key/log_out/use_api_key~no"
    other = Tab(await browser.new_page())
    await other.page.goto(COMMITTED + link)
    trail = other.page.locator("section:visible .trail li")
    assert await trail.all_inner_texts() == await visible.locator(".trail li").all_inner_texts()
    await expect(trail).to_have_count(4)
    await other.page.close()
    await tab.page.go_back()
    await expect(visible.locator(".trail li")).to_have_count(3)
    await visible.get_by_role("button", name="One step back").press("Enter")
    await expect(status).to_have_text("use_api_key is refused in external_tokens: ExternalTokensActive.")
    await visible.get_by_role("button", name="Start again").press("Enter")
    await expect(status).to_have_text("Auth state: logged_out.")


async def test_a_person_walks_in_the_picture(tab: Tab) -> None:
    picture, status = tab.page.locator("section:visible svg"), tab.page.get_by_role("status")
    await picture.locator("[data-state]").filter(has_text="chatgpt").click()
    await expect(status).to_have_text("Auth state: chatgpt.")
    await picture.locator("text").filter(has_text="refresh_rejected").click()
    await expect(status).to_have_text("refresh_rejected: chatgpt → refresh_dead. Events: StateChanged.")


async def test_a_link_to_what_is_no_more_says_so(tab: Tab) -> None:
    for address, said in (
        ("#auth_state/nowhere/log_out", "There is no state nowhere. The walk ends before it."),
        ("#lease/active/expire/fly/end", "There is no trigger fly. The walk ends before it."),
        ("#lease/%E0%A4%A", "There is no state %E0%A4%A. The walk ends before it."),
    ):
        await tab.page.goto("about:blank")
        await tab.page.goto(COMMITTED + address)
        await expect(tab.page.get_by_role("status")).to_have_text(said)


async def test_it_is_good_for_everybody(tab: Tab) -> None:
    await tab.page.goto(f"{COMMITTED}#auth_state/chatgpt/refresh_rejected/use_api_key~no")
    await tab.assert_good("tables", scripts=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_accessible_on_a_large_screen(tab: Tab, scheme: Any) -> None:
    await tab.page.emulate_media(color_scheme=scheme)
    await tab.page.goto(f"{COMMITTED}#child_tokens/in_step/send")
    assert await tab.page.evaluate(LABELS) == 0, "a text is wider than its box"
    found = await Axe().run(tab.page)
    assert not found.response["violations"], found.generate_report()
    await tab.page.screenshot(path=SCREENSHOTS / f"tables-child-{scheme}.png")


async def test_without_a_script_it_is_a_document(browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    tab = await context.new_page()
    await tab.goto(COMMITTED)
    assert await tab.locator("article:visible").count() == sum(len(table.states) for table in TABLES)
    assert await tab.locator("svg:visible").count() == len(TABLES)
    assert await tab.get_by_role("button").count() == 0
    await tab.screenshot(path=SCREENSHOTS / "tables-document.png")
    await context.close()
