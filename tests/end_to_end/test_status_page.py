"""The status page in a real browser: what it looks like, and that everybody can use it.

The pictures are in ``tests/output/status-page``: healthy, failing and empty fleets of 1, 10 and 500, by day and by night,
on a phone and on paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.scalr.backup.plugins.filter.status_page import status_page
from playwright.sync_api import Browser, Page

from tests.support import fleets
from tests.support.browser import browser

OUTPUT = Path(__file__).resolve().parents[1] / "output/status-page"
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
LOOKS = {
    "light": DESKTOP,
    "dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 360, "height": 780},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
    },
}
SIZES = (1, 10, 500)
MAKERS: dict[str, Callable[[int], list[fleets.Answer]]] = {
    "healthy": fleets.healthy,
    "failing": fleets.failing,
    "empty": fleets.empty,
}
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
NASTY = "<img src=https://tracker.example.com/x onerror=alert(1)>\u202e"


@dataclass
class Opened:
    """A page in the browser, and everything that it has asked for or complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def overflow(self) -> int:
        """By how many pixels it is wider than what it is seen through."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def rows(self) -> int:
        """How many databases are to be seen."""
        return self.page.locator(".databases tbody tr:visible").count()

    def violations(self) -> list[str]:
        """What axe finds that some people cannot use."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes'][:3]]}" for one in found]


@dataclass
class Desk:
    """Where pages lie, and the browser that opens them."""

    browser: Browser

    def write(self, name: str, answers: list[fleets.Answer]) -> Path:
        """Make a page."""
        path = OUTPUT / f"{name}.html"
        path.write_text(status_page(answers, fleets.NOW.isoformat()))
        return path

    @contextmanager
    def opened(self, path: Path, place: str = "", **options: Any) -> Iterator[Opened]:
        """Open a page in a window of its own, on the day on which it was made; nobody may complain or ask for anything else."""
        context = self.browser.new_context(**{**DESKTOP, **options})
        page = context.new_page()
        opened = Opened(page)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
        page.clock.set_fixed_time(fleets.NOW)
        page.goto(path.as_uri() + (f"#{place}" if place else ""))
        yield opened
        assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
        assert opened.complaints == []
        context.close()


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with browser(OUTPUT) as started:
        yield Desk(started)


@pytest.fixture(scope="module")
def failing(desk: Desk) -> Path:
    return desk.write("failing-10", fleets.failing(10))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("number", SIZES)
@pytest.mark.parametrize("kind", MAKERS)
def test_looks_well_and_asks_for_nothing(desk: Desk, kind: str, number: int, look: str) -> None:
    path = desk.write(f"{kind}-{number}", MAKERS[kind](number))
    assert path.stat().st_size < 1_500_000
    with desk.opened(path, **LOOKS[look]) as opened:
        assert opened.overflow <= 0
        sentence = opened.page.locator("h1").inner_text()
        assert {"healthy": "safe.", "failing": "not safe.", "empty": "nothing"}[kind] in sentence
        assert ("not" in sentence.split()) == (kind == "failing")
        opened.page.screenshot(path=path.with_name(f"{path.stem}-{look}.png"), full_page=number < 500)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", [*MAKERS, "warned"])
def test_everybody_can_use_it(desk: Desk, kind: str, look: str) -> None:
    """Contrast, names, roles, order, the size of what is touched: what axe-core knows of."""
    path = desk.write(f"{kind}-10", getattr(fleets, kind)(10))
    # The rules come with the test and not with the page, whose policy would refuse them.
    with desk.opened(path, bypass_csp=True, **LOOKS[look]) as opened:
        assert opened.violations() == []


def test_what_somebody_could_not_use_would_be_found(desk: Desk, failing: Path) -> None:
    """The test above can fail."""
    with desk.opened(failing, bypass_csp=True) as opened:
        opened.page.evaluate("document.querySelector('h1').style.color = '#fbd0ca'")
        opened.page.evaluate("document.querySelector('.strip').removeAttribute('aria-label')")
        assert {found.partition(":")[0] for found in opened.violations()} == {"color-contrast", "svg-img-alt"}


def test_five_hundred_databases_can_be_searched(desk: Desk) -> None:
    with desk.opened(desk.write("failing-500", fleets.failing(500))) as opened:
        page, unsafe = opened.page, opened.page.locator(".databases tr.bad").count()
        in_need = unsafe + page.locator(".databases tr.warning").count()
        assert page.locator(".databases tbody tr").count() == 500
        assert opened.rows() == in_need
        assert 0 < unsafe < in_need < 100
        page.get_by_label("Find a database").fill("web7 ledger2")
        assert opened.rows() == 1
        assert page.locator("output").inner_text() == "1 of 500 shown"
        page.get_by_label("Find a database").fill("")
        assert opened.rows() == in_need, "what a search has opened is closed after it"
        assert page.locator("output").inner_text() == f"{in_need} of 500 shown"
        page.get_by_label("State").select_option("Not safe")
        assert opened.rows() == unsafe
        page.get_by_label("Find a database").fill("nothing like it")
        assert opened.rows() == 0


def test_the_search_is_one_key_away(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        page = opened.page
        page.keyboard.press("/")
        page.keyboard.type("web2 and/or")
        assert page.get_by_label("Find a database").input_value() == "web2 and/or"


def test_each_database_has_an_address_with_its_history_and_its_restore(desk: Desk) -> None:
    """Among many it is behind two clicks, and the address opens both."""
    path = desk.write("failing-500", fleets.failing(500))
    with desk.opened(path, "web3/scalr-auth-db/auth", reduced_motion="reduce") as opened:
        entry = opened.page.locator(".restore > details[open]")
        assert entry.count() == 1
        told = entry.inner_text()
        assert "scalr-auth-db/auth on web3" in told
        assert "88 of 90 nights good; no backup on 11 Nov, 10 Nov." in told
        assert "Passed its last drill 9 d ago" in told
        assert "ansible-playbook scalr.backup.restore --limit web3 -e db=scalr-auth-db -e database=auth" in told
        # Its nights are drawn, and the pointer tells the date.
        nights = entry.locator(".strip")
        assert nights.evaluate("strip => strip.querySelector('use').getBBox().width") == 90
        box = nights.bounding_box()
        assert 0 <= box["y"] < 900, "it is what is seen"
        nights.hover(position={"x": box["width"] - 1, "y": 5})
        assert opened.page.locator(".tip").inner_text().replace(",", "") == "Sun 22 Nov: backed up"


@pytest.mark.parametrize(
    ("place", "found"), [("web2/scalr-auth-db", 1), ("web2/auth", 1), ("web2", 0), ("web2/aut", 0)]
)
def test_an_address_may_leave_one_name_out(desk: Desk, failing: Path, place: str, found: int) -> None:
    with desk.opened(failing, place) as opened:
        entries = opened.page.locator(".restore > details[open]")
        assert entries.count() == found
        assert all("scalr-auth-db/auth on web2" in text for text in entries.all_inner_texts())


def test_is_whole_without_scripts(desk: Desk, failing: Path) -> None:
    with desk.opened(failing, java_script_enabled=False) as opened:
        assert opened.rows() == 10
        assert not opened.page.locator(".filter").is_visible()
        assert opened.page.get_by_role("button").count() == 0
        assert opened.page.locator(".todo pre").count() == 3
        assert not opened.page.locator(".restore pre").first.is_visible()
        opened.page.locator(".restore summary").first.click()
        assert opened.page.locator(".restore pre").first.is_visible()


def test_is_reached_with_the_keyboard_alone(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        page, stops = opened.page, []
        for _stop in range(60):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();"
                "return [e.localName, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2, b.width > 0] })()"
            )
            if stop[0] == "body":
                break
            stops.append(stop)
        assert all(seen and there for _name, seen, there in stops), stops
        names = [name for name, _seen, _there in stops]
        assert {name: names.count(name) for name in set(names)} == {
            "a": 17, "pre": 3, "button": 3, "input": 1, "select": 1, "summary": 10,
        }  # fmt: skip
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to problems"
        assert page.locator(".skip").bounding_box()["x"] >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"


def test_a_command_is_copied_and_says_so(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        page = opened.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        button = page.get_by_role("button", name="Copy the command ansible-playbook scalr.backup.backup").first
        button.focus()
        page.keyboard.press("Enter")
        page.get_by_role("status").filter(has_text="Copied.").first.wait_for(state="attached")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "ansible-playbook scalr.backup.backup --limit web1,web2,web3 -e db=scalr-shop-db"


def test_a_name_leads_to_what_restores_it(desk: Desk) -> None:
    """Among many it is behind two clicks, and the link opens both."""
    with desk.opened(desk.write("failing-500", fleets.failing(500))) as opened:
        page = opened.page
        row = page.locator(".databases tbody tr").first
        command = f"-e db={row.locator('a').inner_text().partition('/')[0]} "
        assert not page.locator(".restore pre").filter(visible=True).count()
        row.locator("a").click()
        commands = page.locator(".restore details[open] > .run pre").filter(visible=True)
        shown = commands.filter(has_text="ansible-playbook scalr.backup.restore")
        assert shown.count() == 1
        assert command in shown.inner_text()


def test_a_night_tells_its_date_and_a_screen_reader_its_row(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        strip = opened.page.locator(".databases .strip").first
        box = strip.bounding_box()
        strip.hover(position={"x": box["width"] - 1, "y": 5})
        assert opened.page.locator(".tip").inner_text().replace(",", "") == "Sun 22 Nov: FAILED"
        assert strip.get_attribute("aria-label").startswith("81 of 90 nights good; failed on 22 Nov (dump failed)")
        row = opened.page.get_by_role("row", name="scalr-shop-db/shop web1")
        assert row.get_by_role("cell").count() == 6


def test_prints_on_paper(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        page = opened.page
        page.get_by_label("State").select_option("Not safe")
        # A sheet of A4 between its margins.
        page.set_viewport_size({"width": 688, "height": 1017})
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.rows() == 10, "what is printed is everything, whatever was searched for"
        assert opened.overflow <= 0
        kinds = page.locator(".databases tbody tr").evaluate_all(
            "rows => rows.map(row => getComputedStyle(row).display)"
        )
        assert set(kinds) == {"table-row"}
        assert not page.locator(".filter").is_visible()
        assert page.get_by_role("button").filter(visible=True).count() == 0
        page.screenshot(path=OUTPUT / "failing-10-print.png", full_page=True)
        page.pdf(path=OUTPUT / "failing-10.pdf", format="A4", prefer_css_page_size=True)


def test_prints_what_is_behind_a_click(desk: Desk) -> None:
    with desk.opened(desk.write("failing-500", fleets.failing(500))) as opened:
        shown = opened.page.locator(".todo li").filter(visible=True)
        cards = opened.page.locator(".todo li").count()
        assert shown.count() == min(cards, 12)
        names = opened.page.locator(".todo details p").filter(visible=True)
        assert names.count() == 0
        opened.page.emulate_media(media="print")
        assert shown.count() == cards
        assert names.count() > 0


def test_a_page_that_lay_about_says_how_old_it_is(desk: Desk, failing: Path) -> None:
    with desk.opened(failing) as opened:
        assert opened.page.locator(".stale").count() == 0
        opened.page.clock.set_fixed_time("2026-11-25T13:00:00Z")
        opened.page.reload()
        assert opened.page.locator(".stale").inner_text().startswith("This page is 3 days old.")
        opened.requests.pop()


def test_names_of_strangers_do_nothing(desk: Desk) -> None:
    (answer,) = fleets.failing(1)
    for entry in [*answer["status"]["databases"], *answer["status"]["findings"], *answer["status"]["history"]]:
        entry.update(
            {
                key: NASTY
                for key in ("container", "database", "message", "command", "error")
                if isinstance(entry.get(key), str)
            }
        )
    with desk.opened(desk.write("nasty", [answer | {"name": NASTY}])) as opened:
        assert opened.page.locator("img").count() == 0
        assert "onerror=alert(1)>?" in opened.page.locator("main").inner_text()


def test_the_policy_would_stop_what_slipped_in(desk: Desk, failing: Path) -> None:
    slipped = desk.write("slipped", [])
    markup = '<img src="https://tracker.example.com/x"><script>document.title = "slipped"</script>'
    slipped.write_text(slipped.read_text().replace("<footer>", f"<footer>{markup}"))
    context = desk.browser.new_context()
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(slipped.as_uri())
    assert page.title() != "slipped"
    assert len([text for text in refused if "Content Security Policy" in text]) == 2, refused
    slipped.unlink()
    context.close()
