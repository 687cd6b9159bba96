"""The web examples in a real browser: the system's Chromium, driven by Playwright.

What plain HTTP cannot show: which cookies and headers a browser sends, what stands in its address bar, where the focus
is, what it loads and refuses to load.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright
from typing_extensions import override

from persons import ANOTHER, CODE, MAIL, NEW, SAVE, SEND, Person, play_the_whole_story
from servers import program
from web_sites import BY_PATH, EXAMPLES, PASSWORD, PATIENCE, Site, open_site

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Surfer(Person):
    """In a window of a browser of their own, with its own cookies."""

    def __init__(self, site: Site, context: BrowserContext) -> None:
        super().__init__(site)
        context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = context.new_page()
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108  # it sets an attribute
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def show(self, address: str, page: str) -> None:
        """A page of another site's."""
        self.page.unroute(address)
        self.page.route(address, lambda route: route.fulfill(body=page, content_type="text/html"))
        self.page.goto(address)

    @override
    def open(self, address: str) -> None:
        self.page.goto(address if "//" in address else f"{self.site.origin}{address}")

    @override
    def send(self, button: str, **fields: str) -> None:
        for label, value in fields.items():
            self.page.get_by_label(label, exact=True).fill(value)
        self.page.get_by_role("button", name=button, exact=True).click()

    @property
    @override
    def heading(self) -> str:
        return self.page.get_by_role("heading", level=1).inner_text()

    @property
    @override
    def told(self) -> str:
        said = self.page.get_by_role("alert").or_(self.page.get_by_role("status"))
        return " ".join(said.first.inner_text().split())

    @property
    @override
    def address(self) -> str:
        return self.page.url

    def click_in_a_mail(self, link: str) -> None:
        """As in a mail program that is a web page of another site."""
        mail = f'<!doctype html><title>Inbox</title><a href="{link}">Choose a new password</a>'
        self.show("http://mail.example/", mail)
        self.page.get_by_role("link").click()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = program("chromium", "chromium-browser", of="chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=OPTIONS, timeout=PATIENCE * 1000)
        yield opened
        opened.close()


@pytest.fixture(autouse=True)
def windows(browser: Browser) -> Iterator[None]:
    """All are closed after each test."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture(params=EXAMPLES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def site(name: str, tmp_path: Path) -> Iterator[Site]:
    with open_site(name, tmp_path, https=True) as opened:
        yield opened


def surfer(site: Site, browser: Browser, **options: Any) -> Surfer:
    return Surfer(site, browser.new_context(ignore_https_errors=True, **options))


@pytest.mark.parametrize("name", BY_PATH, indirect=True)
def test_the_whole_story_without_scripts(site: Site, browser: Browser) -> None:
    person, elsewhere = (surfer(site, browser, java_script_enabled=False) for _ in range(2))
    play_the_whole_story(person, elsewhere)


@pytest.mark.parametrize("name", BY_PATH, indirect=True)
def test_a_link_clicked_in_web_mail_leads_to_the_form_and_out_of_the_address_bar(site: Site, browser: Browser) -> None:
    """H1-2133308, H1-751581, H1-303322: no request but the link's own carries the token; not even a Referer to us."""
    person = surfer(site, browser)
    assert person.log_in(PASSWORD)
    person.ask()
    link = person.link()
    person.requests.clear()
    person.click_in_a_mail(link)
    assert person.heading == "Choose a new password"
    token = link.rpartition("/")[2]
    assert person.address == f"{site.origin}/reset"
    assert [token in each.url for each in person.requests].count(True) == 1
    assert not any(token in each.all_headers().get("referer", "") for each in person.requests)
    person.page.reload()
    assert person.heading == "Choose a new password"
    person.page.go_back()
    assert token not in person.address
    assert person.is_logged_in(), "a link that was followed logs nobody out"
    person.open(link)
    person.fill(SAVE, {NEW: ANOTHER})
    assert person.heading == "Password changed"
    assert not person.is_logged_in()


def test_a_link_with_a_fragment_shows_its_token_to_no_server_before_the_form_is_sent(
    browser: Browser, tmp_path: Path
) -> None:
    with open_site("fragment", tmp_path, https=True) as site:
        person = surfer(site, browser)
        person.ask()
        link = person.link()
        token = link.rpartition("#")[2]
        for _ in range(2):
            person.open(link)
            assert person.heading == "Choose a new password"
            assert person.address == f"{site.origin}/reset"
        assert not any(token in each.url or token in str(each.all_headers()) for each in person.requests[:-1])
        person.fill(SAVE, {NEW: "short"})
        assert "at least 8 characters" in person.told
        person.fill(SAVE, {NEW: ANOTHER})
        assert person.heading == "Password changed"
        person.open(link)
        person.fill(SAVE, {NEW: "yet another password"})
        assert "already used" in person.told
        assert person.log_in(ANOTHER)
        assert person.complaints == [each for each in person.complaints if "status of 4" in each]


def test_a_code_is_typed_where_it_was_asked_for(site: Site, browser: Browser) -> None:
    person = surfer(site, browser)
    person.ask()
    person.fill(SAVE, {CODE: "BBBB-BBBB", NEW: ANOTHER})
    assert person.told.startswith("This link or code is not valid")
    code = person.code()
    person.fill(SAVE, {CODE: code.lower(), NEW: "short"})
    assert "at least 8 characters" in person.told
    assert person.page.get_by_label(CODE).input_value() == code.lower(), "what was right is not typed again"
    person.fill(SAVE, {NEW: ANOTHER})
    assert person.heading == "Password changed"
    assert person.log_in(ANOTHER)


def test_the_pages_load_nothing_from_elsewhere_and_break_no_rule_of_their_own(site: Site, browser: Browser) -> None:
    """H1-1626281, CVE-2021-21332: all is from the site itself, and nothing is reported anywhere."""
    person = surfer(site, browser)
    for path in ("/", "/login", "/forgot"):
        person.open(path)
    person.ask()
    person.open(person.link())
    person.fill(SAVE, {NEW: ANOTHER})
    assert person.heading == "Password changed"
    assert all(each.url.startswith(f"{site.origin}/") for each in person.requests)
    assert any(each.url.endswith("/static/style.css") for each in person.requests)
    assert person.complaints == []


def test_a_form_of_another_site_changes_nothing(site: Site, browser: Browser) -> None:
    """H1-1086752, H1-6910: a page that sends our forms from elsewhere, in the browser of who is logged in."""
    person = surfer(site, browser)
    assert person.log_in(PASSWORD)
    before = len(site.post.deliveries())
    forms = [("/forgot", {"email": "alice@example.org"}), ("/logout", {}), ("/login", {"email": "x", "password": "y"})]
    for path, fields in forms:
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        evil = f'<form method="post" action="{site.origin}{path}">{inputs}<button>Win a prize</button></form>'
        person.show("http://evil.example/", evil)
        with person.page.expect_response(f"{site.origin}{path}") as answered:
            person.page.get_by_role("button").click()
        assert answered.value.status == 403
    assert len(site.post.deliveries()) == before
    assert person.is_logged_in()


def test_a_page_is_used_with_the_keyboard_and_says_where_it_is(site: Site, browser: Browser) -> None:
    """The focus is where typing begins, then goes from field to field to button; every field has its name."""
    person = surfer(site, browser)
    person.open("/forgot")
    page = person.page
    expect(page.get_by_label(MAIL)).to_be_focused()
    page.keyboard.type("alice@example.org")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=SEND)).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert page.get_by_label(CODE).get_attribute("autocomplete") == "one-time-code"
    person.open(person.link() if site.name != "fragment" else "/reset")
    new = page.get_by_label(NEW)
    expect(new).to_be_focused()
    assert new.get_attribute("autocomplete") == "new-password"
    new.fill("short")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    if site.name != "fragment":  # whose token was not there
        assert page.title().startswith("Error: ")
        expect(new).to_be_focused()
        assert "problem" in (new.get_attribute("aria-describedby") or "")
    person.open("/login")
    names = [page.get_by_label(label).get_attribute("autocomplete") for label in (MAIL, "Password")]
    assert names == ["username", "current-password"]


def test_a_page_fits_a_phone(site: Site, browser: Browser) -> None:
    person = surfer(site, browser, viewport={"width": 320, "height": 640})
    for path in ("/", "/login", "/forgot"):
        person.open(path)
        assert person.page.evaluate("document.documentElement.scrollWidth") <= 320
    person.ask()
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 320
    for each in person.page.get_by_role("button").or_(person.page.get_by_role("textbox")).all():
        box = each.bounding_box()
        assert box is not None
        assert box["height"] >= 44, "a finger's width"
