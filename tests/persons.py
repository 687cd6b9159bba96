"""A person who uses a site: opens pages, fills forms by their labels, presses buttons, reads what is said.

Nothing is known of the site but what a person sees. Two can do it: one with plain HTTP, one with a real browser.
"""

import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
from typing_extensions import override

from web_sites import ADDRESS, PASSWORD, PATIENCE, Site, text_of

MAIL, CODE, OLD, NEW = "Mail address", "Code from the mail", "Password", "New password"  # labels
SEND, SAVE, LOG_IN = "Send the mail", "Save the new password", "Log in"  # buttons
ANOTHER: Final = "a new and longer password"
LINK: Final = re.compile(r"https?://\S+/(?:reset|choose)[/#]\S+")
CODE_FORM: Final = re.compile(r"\b[B-Z]{4}-[B-Z]{4}\b")


class Person(ABC):
    """Who does what people do."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @abstractmethod
    def open(self, address: str) -> None:
        """Type an address, or click a link in a mail."""

    @abstractmethod
    def send(self, button: str, **fields: str) -> None:
        """Fill the form by its labels, and press the button."""

    @property
    @abstractmethod
    def heading(self) -> str:
        """What the page is about."""

    @property
    @abstractmethod
    def told(self) -> str:
        """What the page says has happened: its status or alert."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What stands in the address bar."""

    def fill(self, button: str, fields: Mapping[str, str]) -> None:
        self.send(button, **fields)

    def ask(self, email: str = ADDRESS) -> None:
        self.open("/forgot")
        self.fill(SEND, {MAIL: email})

    def link(self) -> str:
        """From the last mail."""
        found = LINK.search(text_of(self.site.post.last()))
        assert found is not None
        return found[0]

    def code(self) -> str:
        found = CODE_FORM.search(text_of(self.site.post.last()))
        assert found is not None
        return found[0]

    def log_in(self, password: str, email: str = ADDRESS) -> bool:
        self.open("/login")
        self.fill(LOG_IN, {MAIL: email, OLD: password})
        return self.told.startswith("You are logged in")

    def is_logged_in(self) -> bool:
        self.open("/")
        return self.told.startswith("You are logged in")


class Reader(HTMLParser):
    """What is on a page: its forms with their labelled fields, its heading, its status and alert."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.labels: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._into: list[tuple[str, str]] = []
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "form":
            self.forms.append({"action": found["action"], "method": found["method"], "fields": [], "buttons": []})
        elif tag == "input" and self.forms:
            self.forms[-1]["fields"].append(found)
        elif tag in {"label", "button", "h1", "title", "p"}:
            self._into.append((tag, found.get("for") or found.get("role") or ""))

    @override
    def handle_data(self, data: str) -> None:
        for tag, mark in self._into:
            if tag == "label":
                self.labels[data.strip()] = mark
            elif tag == "button":
                self.forms[-1]["buttons"].append(data.strip())
            else:
                key = mark or tag
                self.texts[key] = self.texts.get(key, "") + data

    @override
    def handle_endtag(self, tag: str) -> None:
        if self._into and self._into[-1][0] == tag:
            self._into.pop()


class PlainPerson(Person):
    """Plain HTTP, with the headers that a browser sends."""

    response: httpx.Response  # the last one
    _proof: tuple[list[tuple[str, str | None]], dict[str, str], dict[str, str]] | None = None

    def __init__(self, site: Site, trust: ssl.SSLContext | bool = False) -> None:
        super().__init__(site)
        self.client = httpx.Client(base_url=site.origin, follow_redirects=True, verify=trust, timeout=PATIENCE)
        self.client.event_hooks["response"].append(self._see)

    def close(self) -> None:
        self.client.close()

    @staticmethod
    def _see(response: httpx.Response) -> None:
        assert response.status_code < 500, f"{response.request.url} failed"

    @property
    def page(self) -> Reader:
        return Reader(self.response.text)

    def proof(self) -> tuple[dict[str, str], dict[str, str]]:
        """The fields and headers that a form of the site's own holds against forgery, in a page that is kept open."""
        if self._proof is None or self._proof[0] != self._cookies():
            self.open("/forgot")
            fields = self.page.forms[0]["fields"]
            hidden = {each["name"]: each["value"] for each in fields if each["type"] == "hidden"}
            self._proof = self._cookies(), hidden, self.headers()
        return self._proof[1:]

    def _cookies(self) -> list[tuple[str, str | None]]:
        return [(each.name, each.value) for each in self.client.cookies.jar if each.path == "/"]

    def post(self, path: str, data: Mapping[str, Any], **options: Any) -> httpx.Response:
        """Send fields of one's own choice as if by the site's own form."""
        fields, headers = self.proof()
        headers = headers | options.pop("headers", {})
        self.response = self.client.post(path, data={**fields, **data}, headers=headers, **options)
        return self.response

    @override
    def open(self, address: str) -> None:
        self.response = self.client.get(address, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})

    @override
    def send(self, button: str, **fields: str) -> None:
        page, form = self.page, self.form(button)
        data = {each["name"]: each.get("value") or "" for each in form["fields"]}
        for label, value in fields.items():
            (name,) = [each["name"] for each in form["fields"] if each.get("id") == page.labels[label]]
            data[name] = value
        self.response = self.client.post(urljoin(self.address, form["action"]), data=data, headers=self.headers())

    def form(self, button: str) -> dict[str, Any]:
        (form,) = [each for each in self.page.forms if button in each["buttons"]]
        assert form["method"] == "post"
        return form

    def headers(self) -> dict[str, str]:
        """What a browser adds to a form of this page's. Under no-referrer the Origin is null: Fetch, section 3.2."""
        silent = self.response.headers["Referrer-Policy"] == "no-referrer"
        shown = {"Origin": "null"} if silent else {"Origin": self.site.origin, "Referer": self.address}
        return {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", **shown}

    @property
    @override
    def heading(self) -> str:
        return self.page.texts["h1"].strip()

    @property
    @override
    def told(self) -> str:
        texts = self.page.texts
        return " ".join((texts.get("alert") or texts.get("status") or "").split())

    @property
    @override
    def address(self) -> str:
        return str(self.response.url)


def play_the_whole_story(person: Person, elsewhere: Person) -> None:
    """Ask, read, look twice, refuse, reset, log in; `elsewhere` is logged in meanwhile, and then no more."""
    assert elsewhere.log_in(PASSWORD)
    person.ask()
    assert person.heading == "Check your mail"
    assert person.told.startswith("If there is an account")
    link = person.link()
    token = link.rpartition("/")[2]
    for _ in range(2):
        person.open(link)
        assert person.heading == "Choose a new password"
        assert token not in person.address
    person.fill(SAVE, {NEW: "short"})
    assert "at least 8 characters" in person.told
    assert elsewhere.is_logged_in()
    person.fill(SAVE, {NEW: ANOTHER})
    assert person.heading == "Password changed"
    assert not elsewhere.is_logged_in()
    assert not person.is_logged_in()
    person.open(link)
    assert "already used" in person.told
    assert not person.log_in(PASSWORD)
    assert person.log_in(ANOTHER)
    assert urlsplit(person.address).path == "/"
    assert "changed" in str(person.site.post.last()["Subject"])
