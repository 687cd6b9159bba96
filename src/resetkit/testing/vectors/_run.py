"""How each kind of case is tried on a site, and what is said if it fails."""

import re
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from resetkit.testing._kit import BrokenPromiseError, expect, expect_that
from resetkit.testing.vectors._cases import Case, Check, cases
from resetkit.testing.vectors._site import LINK, Mailed, OpenSite, Site

T = TypeVar("T")

# Reserved for documentation: RFC 2606.
_ALICE: Final = "alice@example.org"
_MALLORY: Final = "mallory@example.net"
_NOBODY: Final = "nobody@example.com"
_WITNESS: Final = "witness@example.com"

# Long, with signs of every kind: an application's own rules take them.
_OLD: Final = "Old-Correct-Horse-7-Battery!"
_NEW: Final = "New-Correct-Horse-7-Battery!"

_TOKEN: Final = re.compile(r"[0-9a-f]{96}", re.ASCII)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]*", re.IGNORECASE)
_SELECTOR_LENGTH: Final = 32
_SWITCH: Final = 1e-5  # seconds until the interpreter lets another thread go on: many gaps, each a chance to race


def check(case: Case, open_site: OpenSite) -> None:
    """Try one case on newly opened sites. Raises BrokenPromiseError, which names the case and says what went wrong."""
    try:
        _CHECKS[case.check](case, open_site)
    except BrokenPromiseError as broken:
        raise BrokenPromiseError(f"{case.id} ({case.comment}): {broken}") from None
    except Exception as error:
        found = f"an error came out where a page was expected: {type(error).__name__}: {error}"
        raise BrokenPromiseError(f"{case.id} ({case.comment}): {found}") from error


def run(open_site: OpenSite, chosen: Iterable[Case] | None = None) -> dict[str, str]:
    """Try the `chosen` cases, or all; what went wrong, by the case's id. Empty: nothing did."""
    failures: dict[str, str] = {}
    for case in cases() if chosen is None else chosen:
        try:
            check(case, open_site)
        except BrokenPromiseError as broken:
            failures[case.id] = str(broken)
    return failures


# What visitors type.


def _check_types(case: Case, open_site: OpenSite) -> None:
    """What is no text, in the place of a text: nothing happens, and the link stays good."""
    with _opened(open_site) as site:
        token = _asked(site, _ALICE)
        before = len(site.mails())
        value = _filled(case.input["value"], {"token": token})
        match case.input["field"]:
            case "identifier":
                _ = site.ask(value, {})
            case "token":
                site.look(value)
                expect(site.redeem(value, _NEW), False, "what is no text is no token")
            case _:
                expect(site.redeem(token, value), False, "what is no text is no password")
        expect(_recipients(site)[before:], [], "what is no text mails nobody")
        _expect_untouched(site)
        _expect_redeems(site, token)


def _check_typed(case: Case, open_site: OpenSite) -> None:
    """What may be typed for an address: the answer is everyone's, and at most the owner is mailed."""
    owners: list[str] = case.input["accounts"]
    with open_site(LINK) as site:
        for each in owners:
            site.register(each, _OLD)
        usual = site.ask(_NOBODY, {})
        expect(site.ask(case.input["typed"], {}), usual, "the answer must be that for an unknown address")
        found = _recipients(site)
        if found or case.result == "valid":
            owner = [] if case.result == "invalid" else owners[:1]
            expect(found, owner, "nobody is mailed but the owner of the account that is meant")
        for each in owners:
            expect(site.logs_in(each, _OLD), True, "asking changes no password")
        _expect_alive(site)


def _check_stored(case: Case, open_site: OpenSite) -> None:
    """An address that the application may have stored: one plain recipient, or no mail at all."""
    with open_site(LINK) as site:
        try:
            site.register(case.input, _OLD)
        except ValueError:
            expect_that(case.result != "valid", "the application must take this address")
            _expect_alive(site)
            return
        usual = site.ask(_NOBODY, {})
        expect(site.ask(case.input, {}), usual, "the answer must be that for an unknown address")
        expect(_recipients(site), [case.input] if case.result == "valid" else [], "one plain address, or no mail")
        _expect_alive(site)


def _check_passwords(case: Case, open_site: OpenSite) -> None:
    """A new password is set as it is or refused, and then the link stays good."""
    password: str = case.input["password"]
    with _opened(open_site) as site:
        token = _asked(site, _ALICE)
        taken = site.redeem(token, password)
        if case.result != "acceptable":
            expect(taken, case.result == "valid", "whether the password is taken")
        if not taken:
            _expect_untouched(site)
            _expect_redeems(site, token)
            return
        expect(site.logs_in(_ALICE, password), True, "the password that was taken logs in")
        for other in (_OLD, *case.input["others"]):
            expect(site.logs_in(_ALICE, other), False, f"another password must not log in, such as {other!r:.40}")


# Links.


def _check_links(case: Case, open_site: OpenSite) -> None:
    """A template for the link: refused when the site is made, or mailed as it is."""
    try:
        with open_site(case.input) as site:
            expect_that(case.result != "invalid", "a site with this link must not come up")
            site.register(_ALICE, _OLD)
            _expect_link(site, case.input, {})
    except ValueError as error:
        expect_that(case.result != "valid", f"this link must be taken, and was refused: {error}")


def _check_headers(case: Case, open_site: OpenSite) -> None:
    """Request headers have no say in the link, the recipient or the answer."""
    with _opened(open_site) as site:
        usual = site.ask(_NOBODY, {})
        expect(site.ask(_NOBODY, case.input), usual, "headers must not change the answer")
        _expect_link(site, LINK, case.input)


def _expect_link(site: Site, link: str, headers: Mapping[str, str]) -> None:
    token = _asked(site, _ALICE, headers)
    text = site.mails()[-1].text
    for each in {url.replace("&amp;", "&") for url in _URL.findall(text) if token in url} or {""}:
        expect(each, link.replace("{token}", token), "the token stands in the site's own link and in no other")
    expect("evil" in text.casefold(), False, "nothing of a hostile header stands in the mail")


# Tokens.


def _check_tokens(case: Case, open_site: OpenSite) -> None:
    """A text made of two good tokens by an attacker: it opens nothing, and spends neither."""
    with _opened(open_site) as site:
        token, other = _asked(site, _ALICE), _asked(site, _MALLORY)
        text = _filled(case.input, _pieces(token, other))
        site.look(text)
        taken = site.redeem(text, _NEW)
        if case.result != "acceptable":
            expect(taken, case.result == "valid", "whether the token is taken")
        expect(site.logs_in(_MALLORY, _OLD), True, "nobody else's password changes")
        if not taken:
            _expect_untouched(site)
            _expect_redeems(site, token)


def _check_orders(case: Case, open_site: OpenSite) -> None:
    """Steps in their order; the result is that of the last one."""
    tokens: list[str] = []
    password, taken = _OLD, True
    with _opened(open_site) as site:
        for number, step in enumerate(case.input):
            action, _, which = step.partition(" ")
            match action:
                case "ask":
                    tokens.append(_asked(site, _ALICE))
                case "look":
                    site.look(tokens[int(which) - 1])
                case _:
                    taken = site.redeem(tokens[int(which) - 1], f"{number}{_NEW}")
                    password = f"{number}{_NEW}" if taken else password
        expect(taken, case.result == "valid", "whether the last token is taken")
        expect(site.logs_in(_ALICE, password), True, "the last password that was set logs in")
        expect_that(password == _OLD or not site.logs_in(_ALICE, _OLD), "the old password logs in no more")


def _check_races(case: Case, open_site: OpenSite) -> None:
    """Many at the same moment come to what one after another does."""
    times: int = case.input["times"]
    for _ in range(case.input["rounds"]):
        if case.input["action"] == "redeem":
            _race_for_a_token(open_site, case.input["links"], times)
        else:
            _race_for_mails(open_site, times)


def _race_for_a_token(open_site: OpenSite, links: int, times: int) -> None:
    with _opened(open_site) as site:
        tokens = [_asked(site, _ALICE) for _ in range(links)]
        passwords = [f"{number}{_NEW}" for number in range(times)]
        redeeming = [partial(site.redeem, tokens[number % links], each) for number, each in enumerate(passwords)]
        won = _together(redeeming)
        winners = [password for password, taken in zip(passwords, won, strict=True) if taken]
        expect(len(winners), 1, "of all redemptions at once exactly one wins")
        expect(site.logs_in(_ALICE, winners[0]), True, "the winner's password logs in")


def _race_for_mails(open_site: OpenSite, times: int) -> None:
    with _opened(open_site) as calm, _opened(open_site) as site:
        for _ in range(times):
            _ = calm.ask(_ALICE, {})
        _ = _together([lambda: site.ask(_ALICE, {})] * times)
        most, found = len(calm.mails()), len(site.mails())
        expect_that(most > 0, "a request for an account mails its owner")
        expect_that(found <= most, f"{times} at once made {found} mails, one after another {most}")


def _together(actions: Sequence[Callable[[], T]]) -> list[T]:
    """What actions answer that begin at the same moment, each in its own thread."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], T]) -> T:
        _ = barrier.wait()
        return action()

    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        with ThreadPoolExecutor(len(actions)) as threads:
            return list(threads.map(act, actions))
    finally:
        sys.setswitchinterval(usual)


# What the checks share.


@contextmanager
def _opened(open_site: OpenSite) -> Generator[Site, None, None]:
    """A site with two accounts."""
    with open_site(LINK) as site:
        for each in (_ALICE, _MALLORY):
            site.register(each, _OLD)
        yield site


def _asked(site: Site, email: str, headers: Mapping[str, str] | None = None) -> str:
    """The token that a request for this address mails."""
    before = len(site.mails())
    _ = site.ask(email, headers or {})
    new = [mail for mail in site.mails()[before:] if mail.recipients == (email,)]
    expect(len(new), 1, "a request for an account mails its owner once")
    found = set(_TOKEN.findall(new[0].text))
    expect(len(found), 1, "a reset mail holds one token")
    return str(found.pop())


def _expect_alive(site: Site) -> None:
    """A site that mails nobody at all would keep most promises."""
    site.register(_WITNESS, _OLD)
    _ = _asked(site, _WITNESS)


def _recipients(site: Site) -> list[str]:
    """Who was mailed, each mail to one."""
    mails: Sequence[Mailed] = site.mails()
    for mail in mails:
        expect(len(mail.recipients), 1, "every mail has one recipient")
    return [mail.recipients[0] for mail in mails]


def _expect_untouched(site: Site) -> None:
    for each in (_ALICE, _MALLORY):
        expect(site.logs_in(each, _OLD), True, "nobody's password changes")


def _expect_redeems(site: Site, token: str) -> None:
    expect(site.redeem(token, _NEW), True, "the link itself stays good")
    expect(site.logs_in(_ALICE, _NEW), True, "the password that was set logs in")


def _pieces(token: str, other: str) -> dict[str, str]:
    """What attackers make texts of; as the cases call it."""
    return {
        "token": token,
        "selector": token[:_SELECTOR_LENGTH],
        "secret": token[_SELECTOR_LENGTH:],
        "other_selector": other[:_SELECTOR_LENGTH],
        "other_secret": other[_SELECTOR_LENGTH:],
        "short": token[:-1],
        "upper": token[:_SELECTOR_LENGTH] + token[_SELECTOR_LENGTH:].upper(),
        "reversed": token[::-1],
        "wide": "".join(chr(ord(char) + 0xFEE0) for char in token),
        "percent": "".join(f"%{ord(char):02x}" for char in token),
        "arabic": "".join(chr(ord(char) + 0x0630) if char.isdigit() else char for char in token),
        "changed": token[:-1] + ("1" if token[-1] == "0" else "0"),
    }


def _filled(value: Any, pieces: Mapping[str, str]) -> Any:
    """`value` with each ``{piece}`` in its texts written out."""
    match value:
        case str():
            for name, piece in pieces.items():
                value = value.replace(f"{{{name}}}", piece)
            return value
        case dict():
            return {key: _filled(each, pieces) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]  # JSON
        case list():
            return [_filled(each, pieces) for each in value]  # pyright: ignore[reportUnknownVariableType]  # JSON
        case _:
            return value


_CHECKS: Final[dict[Check, Callable[[Case, OpenSite], None]]] = {
    "types": _check_types,
    "typed": _check_typed,
    "stored": _check_stored,
    "passwords": _check_passwords,
    "links": _check_links,
    "headers": _check_headers,
    "tokens": _check_tokens,
    "orders": _check_orders,
    "races": _check_races,
}
