"""The web examples in a real browser: the system's Chromium, driven by Playwright.

What plain HTTP cannot show: which cookies and headers a browser sends, what stands in its address bar, where the focus
is, what it loads and refuses to load.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect
from typing_extensions import override

from browsers import open_browser
from persons import ANOTHER, CODE, MAIL, NEW, SAVE, SEND, Person, PlainPerson, play_the_whole_story
from web_sites import BY_PATH, CERTIFICATES, PASSWORD, PATIENCE, Site, open_site

# The page's width beyond the window's, and how high is what a finger must hit.
MEASURE = """() => [
    document.documentElement.scrollWidth - innerWidth,
    ...[...document.querySelectorAll("button, .button, input:not([type=hidden])")].map(each => each.offsetHeight),
]"""
FINGER = 44  # pixels: WCAG 2.5.5


class Surfer(Person):
    """In a window of a browser of their own, with its own cookies. Each page that they come to is watched."""

    def __init__(self, site: Site, context: BrowserContext) -> None:
        super().__init__(site)
        context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = context.new_page()
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self._shown: set[str] = set()
        self.page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108  # it sets an attribute
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "responded with a status of 4" not in message.text:
            self.complaints.append(message.text)

    def watch(self) -> None:
        """Nothing is loaded from elsewhere, no rule of the page's own is broken, and it fits window and finger."""
        self.page.wait_for_load_state()
        assert {each.url for each in self.requests if not each.url.startswith(f"{self.site.origin}/")} <= self._shown
        assert self.complaints == []
        too_wide, *heights = self.page.evaluate(MEASURE)
        assert too_wide <= 0
        assert min(heights, default=FINGER) >= FINGER

    def show(self, address: str, page: str) -> None:
        """A page of another site's."""
        self._shown.add(address)
        self.page.unroute(address)
        self.page.route(address, lambda route: route.fulfill(body=page, content_type="text/html"))
        self.page.goto(address)

    @override
    def open(self, address: str) -> None:
        self.page.goto(address if "//" in address else f"{self.site.origin}{address}")
        self.watch()

    @override
    def send(self, button: str, **fields: str) -> None:
        for label, value in fields.items():
            self.page.get_by_label(label, exact=True).fill(value)
        self.page.get_by_role("button", name=button, exact=True).click()
        self.watch()

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
    with open_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def windows(browser: Browser) -> Iterator[None]:
    """All are closed after each test."""
    yield
    close_windows(browser)


def close_windows(browser: Browser) -> None:
    for context in browser.contexts:
        context.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, browser: Browser) -> Iterator[Site]:
    with open_site(request.param, tmp_path, https=True) as opened:
        yield opened
        close_windows(browser)  # or a server waits half a minute for the end of what they leave open


# What is the example's own is tried on each; what is the templates' own, on both engines and with the fragment.
each_example = pytest.mark.parametrize("site", BY_PATH, indirect=True)
each_engine = pytest.mark.parametrize("site", ["flask", "django", "fragment"], indirect=True)


def surfer(site: Site, browser: Browser, **options: Any) -> Surfer:
    return Surfer(site, browser.new_context(ignore_https_errors=True, **options))


@each_example
def test_the_whole_story_on_a_phone_without_scripts(site: Site, browser: Browser) -> None:
    """H1-1626281, CVE-2021-21332: and each page loads what is the site's own alone, and reports nothing anywhere."""
    person = surfer(site, browser, java_script_enabled=False, viewport={"width": 320, "height": 640})
    elsewhere = PlainPerson(site, CERTIFICATES.client_context())
    play_the_whole_story(person, elsewhere)
    elsewhere.close()
    assert any(each.url.endswith("/static/style.css") for each in person.requests)


@pytest.mark.parametrize(
    "page",
    [
        '<img src="http://evil.example/">',
        "<script>null.x</script>",
        '<p style="width: 2000px">So wide.</p>',
        "<button>So small</button>",
    ],
)
def test_a_page_that_is_not_as_it_should_be_is_noticed(browser: Browser, page: str) -> None:
    """What `Surfer.watch` is for."""
    site = Site("none", "http://app.example", None, lambda *_: None)
    person = surfer(site, browser)
    person.show("http://app.example/", page)
    with pytest.raises(AssertionError):
        person.watch()


@each_example
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
            assert person.address == f"{site.origin}/choose"
        assert not any(token in each.url or token in str(each.all_headers()) for each in person.requests[:-1])
        person.fill(SAVE, {NEW: "short"})
        assert "at least 8 characters" in person.told
        person.open(link)  # in the same window, which shows the answer to the form
        assert person.address == f"{site.origin}/choose"
        person.fill(SAVE, {NEW: ANOTHER})
        assert person.heading == "Password changed"
        person.open(link)
        person.fill(SAVE, {NEW: "yet another password"})
        assert "already used" in person.told
        assert person.log_in(ANOTHER)


@each_engine
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


@each_example
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


@each_engine
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
    person.open(person.link() if site.name != "fragment" else "/choose")
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
