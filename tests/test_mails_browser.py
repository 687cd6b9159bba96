"""The default mails' page in a real browser, as narrow, dark and sheet-dropping mail programs show it."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import pytest

from browsers import Window, open_browser
from resetkit import Mail
from resetkit.mailers import default_message
from test_languages import content, each_mail, each_tag, notice_mail, reset_mail

if TYPE_CHECKING:  # it may be missing
    from playwright.sync_api import Browser, ViewportSize

NARROW: "ViewportSize" = {"width": 320, "height": 640}
WIDE: "ViewportSize" = {"width": 900, "height": 640}
LONG = "a-quite-long-address-without-any-break@" + "sub." * 12 + "example.org"
HEAD = re.compile(r"<!doctype.*?<body[^>]*>|</body>\s*</html>", re.DOTALL)

# WCAG 2.2, 1.4.3: the least contrast of what is written, as it is shown, against what is behind it.
LEAST_CONTRAST = """() => {
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(part => part / 255)
    .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? behind(element.parentElement) : colour;
  };
  const written = [...document.body.querySelectorAll("*")]
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return Math.min(...written.map(each => {
    const pair = [light(getComputedStyle(each).color), light(behind(each))].sort((one, other) => other - one);
    return (pair[0] + .05) / (pair[1] + .05);
  }));
}"""


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Literal["light", "dark"]:
    scheme: Literal["light", "dark"] = request.param
    return scheme


@pytest.fixture(scope="module")
def window(browser: "Browser", scheme: Literal["light", "dark"]) -> Iterator[Window]:
    """One for all mails."""
    with closing(Window(browser, color_scheme=scheme)) as window:
        yield window


@each_tag
@each_mail
def test_it_fits_and_can_be_read_at_any_width_in_light_and_dark_with_or_without_its_sheet(
    tag: str, make: Callable[[str | None], Mail], window: Window
) -> None:
    page = content(default_message(make(tag), site="Example"), "html")
    for shown in (page, HEAD.sub("", page)):
        window.page.set_content(shown)
        for size in (NARROW, WIDE):
            window.page.set_viewport_size(size)
            assert window.fits()
            assert window.page.evaluate(LEAST_CONTRAST) >= 4.5
    assert window.loaded == []


def test_in_the_dark_it_is_dark(window: Window, scheme: str) -> None:
    window.page.set_content(content(default_message(reset_mail("en")), "html"))
    shown = window.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shown == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(242, 244, 247)")


def test_a_long_address_is_broken_and_not_the_page(window: Window) -> None:
    for mail in (reset_mail("de", to=LONG), notice_mail("ar", to=LONG)):
        window.page.set_content(content(default_message(mail, site="Example" * 20), "html"))
        window.page.set_viewport_size(NARROW)
        assert window.fits()


def test_arabic_begins_at_the_right_with_link_and_code_from_the_left(window: Window) -> None:
    page = content(default_message(reset_mail("ar"), site="Example"), "html")
    for shown in (page, HEAD.sub("", page)):
        window.page.set_content(shown)
        directions = "selector => getComputedStyle(document.querySelector(selector)).direction"
        found = {each: window.page.evaluate(directions, each) for each in ("h1", "p", ".button", ".address", ".code")}
        assert found == {"h1": "rtl", "p": "rtl", ".button": "rtl", ".address": "ltr", ".code": "ltr"}


@pytest.mark.parametrize(
    ("breaks", "proof"),
    [
        ("overflow-wrap:anywhere", "document.documentElement.scrollWidth <= innerWidth"),
        (".card { background: #1e232b !important; }", f"({LEAST_CONTRAST})() >= 4.5"),
    ],
)
def test_a_broken_page_is_caught(breaks: str, proof: str, browser: "Browser") -> None:
    page = content(default_message(reset_mail("de", to=LONG), site="Example"), "html")
    assert breaks in page
    with closing(Window(browser, color_scheme="dark", viewport=NARROW)) as window:
        window.page.set_content(page)
        assert window.page.evaluate(proof)
        window.page.set_content(page.replace(breaks, ""))
        assert not window.page.evaluate(proof)
