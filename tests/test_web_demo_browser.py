"""``resetkit demo --web`` in a real browser: what a person sees, clicks and is shown beside it."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from browsers import Window, open_browser
from resetkit._web_demo import pages
from resetkit._web_demo.accounts import FIRST_PASSWORD
from resetkit._web_demo.server import WebServer
from test_web_demo import ALICE, NEW, NOBODY, serving

if TYPE_CHECKING:  # it may be missing
    from playwright.sync_api import Browser, FrameLocator, Page

WIDE, PHONE = {"width": 1300, "height": 850}, {"width": 320, "height": 640}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture
def server(browser: "Browser") -> Iterator[WebServer]:
    """Asked for after the browser, so that nothing is served where there is none."""
    with serving() as server:
        yield server


class Desk(Window):
    """The whole demonstration in a window: the site, and the mails and events beside it."""

    def __init__(self, browser: "Browser", server: WebServer, **options: Any) -> None:
        super().__init__(browser, viewport=options.pop("viewport", WIDE), **options)
        self.url = server.url
        self.page.goto(f"{self.url}/")
        self.site = self.page.frame_locator("#site")
        self.mails = self.page.frame_locator("#mails")
        self.events = self.page.frame_locator("#events")

    def follow(self, link: str) -> None:
        """Until the next page is there: the one before may have a field of the same name."""
        with self.page.expect_event("framenavigated"):
            self.site.get_by_role("link", name=link).first.click()

    def ask(self, address: str = ALICE, *, code: bool = False) -> None:
        self.follow("Forgot password")
        self.site.get_by_label("Mail address").fill(address)
        self.site.get_by_label("Send a code").set_checked(code)
        self.site.get_by_role("button", name="Send me a mail").click()
        see(self.site, "If there is an account for what you typed, a mail with the next step is on its way.")

    def text(self) -> str:
        """The newest mail as text, opened by hand."""
        self.mails.get_by_text("Its text part").first.click()
        return self.mails.locator("pre").first.inner_text()

    def happened(self, number: int) -> list[str]:
        """The events, oldest first, once there are so many."""
        names = self.events.get_by_role("listitem").locator("b")
        names.nth(number - 1).wait_for(state="attached")
        return names.all_inner_texts()[::-1]


def see(place: "FrameLocator | Page", told: str) -> None:
    """Wait until the page says so."""
    place.get_by_role("status").or_(place.get_by_role("alert")).filter(has_text=told).wait_for()


def choose(place: "FrameLocator | Page", password: str) -> None:
    place.get_by_label("New password").fill(password)
    place.get_by_role("button", name="Save").click()


def log_in(desk: Desk, password: str) -> None:
    desk.follow("Log in")
    desk.site.get_by_label("Mail address").fill(ALICE)
    desk.site.get_by_label("Password", exact=True).fill(password)
    desk.site.get_by_role("button", name="Log in").click()


def test_the_whole_reset_with_mails_and_events_as_they_come(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server)) as desk:
        log_in(desk, FIRST_PASSWORD)
        see(desk.site, f"You are logged in as {ALICE}.")
        desk.ask()
        assert "The link works once, for 30 minutes, until " in desk.text()
        assert desk.happened(2) == ["ResetRequested", "MailSent"]
        desk.mails.locator("pre a").click()
        choose(desk.site, "short")
        see(desk.site, "Please use at least 8 characters.")
        choose(desk.site, NEW)
        see(desk.site, "Every log-in of the account has ended")
        desk.mails.get_by_text("Your password at Example was changed").first.wait_for()
        assert desk.happened(5) == ["ResetRequested", "MailSent", "PasswordRejected", "PasswordReset", "MailSent"]
        log_in(desk, FIRST_PASSWORD)
        see(desk.site, "Address or password is wrong.")
        log_in(desk, NEW)
        see(desk.site, f"You are logged in as {ALICE}.")
        assert desk.complaints == []
        assert all(each.startswith(f"{server.url}/") for each in desk.loaded)


def test_the_mail_s_button_leads_to_the_form_in_a_new_tab_and_out_of_the_address(
    browser: "Browser", server: WebServer
) -> None:
    """A mail is shown as a mail program does: in a sandbox, without scripts, on no site's behalf."""
    with closing(Desk(browser, server)) as desk:
        desk.ask()
        mail = desk.mails.frame_locator("iframe")
        with desk.context.expect_page() as opened:
            mail.get_by_role("link", name="Choose a new password").click()
        tab = opened.value
        tab.get_by_label("New password").wait_for()
        assert tab.url == f"{server.url}/reset"
        tab.reload()
        tab.get_by_label("The link from your mail").wait_for()
        link = mail.locator("a.address").inner_text()
        tab.goto(link)
        choose(tab, NEW)
        see(tab, "Every log-in of the account has ended")
        tab.goto(link)
        choose(tab, "and yet another one")
        see(tab, "This link or code was already used.")
        token = link.partition("#")[2]
        assert not [each for each in desk.loaded if token in each.partition("#")[0]]
        assert desk.complaints == []


def test_a_code_is_typed_where_it_was_asked_for(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server)) as desk:
        desk.ask(code=True)
        found = re.search(r"[A-Z]{4}-[A-Z]{4}", desk.text())
        assert found
        desk.site.get_by_label("The code from the mail").fill(found[0].lower())
        choose(desk.site, NEW)
        see(desk.site, "Every log-in of the account has ended")


def test_an_unknown_address_is_answered_alike_and_only_the_events_tell(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server)) as desk:
        desk.ask(NOBODY)
        assert desk.happened(2) == ["ResetRequested", "RequestDropped"]
        assert desk.mails.get_by_text("None yet.").is_visible()


def test_it_works_without_scripts(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server, java_script_enabled=False)) as desk:
        desk.ask()
        next(iter(server.backstage.wait(1, 30) or ()))  # the mail, which no list shows by itself
        desk.mails.get_by_role("link", name="Load again").click()
        link = re.search(r"http\S+", desk.text())
        assert link
        desk.mails.locator("pre a").click()
        desk.site.get_by_label("The link from your mail").fill(link[0])
        choose(desk.site, NEW)
        see(desk.site, "Every log-in of the account has ended")


def test_a_phone_shows_one_part_at_a_time_and_scrolls_one_way(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server, viewport=PHONE)) as desk:
        parts = {name: desk.page.locator(f"#{name.lower()}") for name in ("Site", "Mails", "Events")}
        desk.ask(code=True)
        desk.happened(2)
        for name in ("Mails", "Events", "Site"):
            desk.page.get_by_role("link", name=name, exact=True).click()
            assert {each: part.is_visible() for each, part in parts.items()} == {each: each == name for each in parts}
        for path in ("/", "/log-in", "/forgot", "/reset", "/mails", "/mails/2", "/events", "/done", "/none"):
            desk.page.goto(f"{server.url}{path}")
            assert desk.fits(), path


def test_on_a_phone_the_link_of_a_mail_leads_to_the_site(browser: "Browser", server: WebServer) -> None:
    with closing(Desk(browser, server, viewport=PHONE)) as desk:
        desk.ask()
        desk.page.get_by_role("link", name="Mails", exact=True).click()
        desk.text()
        desk.mails.locator("pre a").click()
        choose(desk.site, NEW)
        see(desk.site, "Every log-in of the account has ended")
        assert desk.complaints == []


def test_a_page_that_breaks_its_own_policy_is_heard(
    browser: "Browser", server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the stories above must fail."""
    monkeypatch.setattr(pages, "_READ_LINK", "document.title = 'not the script that the policy names'")
    with closing(Desk(browser, server)) as desk:
        desk.page.goto(f"{server.url}/reset")
        desk.page.get_by_label("The link from your mail").wait_for()
        assert any("Content Security Policy" in each for each in desk.complaints)
