"""Known failures of pages, tried on every web example over a real socket.

Each sentence begins with the id of a failure in docs/attacks.md, or says whose sibling it is.
"""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, urlsplit

import httpx
import pytest

from persons import ANOTHER, LINK, NEW, SAVE, PlainPerson, Reader
from resetkit.testing import vectors
from resetkit.testing.vectors._run import _filled, _pieces
from web_sites import ADDRESS, BY_PATH, EXAMPLES, PASSWORD, Site, open_site, roomy, text_of

MALLORY = "mallory@example.net"
NOBODY = "nobody@example.com"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STRANGE = {400, 413, 422}  # a server that will not read this

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "\"'><iframe srcdoc='<script>alert(1)</script>'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
)


@pytest.fixture(params=EXAMPLES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    policy = roomy(code_guesses=1, account_quotas=((100, timedelta(days=1)),))
    with open_site(request.param, tmp_path, policy=policy) as opened:
        opened.sign_up(MALLORY, PASSWORD)
        yield opened


# The site with the fragment is Starlette's, but for the page that its link leads to.
each_framework = pytest.mark.parametrize("site", BY_PATH, indirect=True)


@pytest.fixture
def visit(site: Site) -> Iterator[Callable[[], PlainPerson]]:
    """Visitors, each with cookies of their own."""
    visitors: list[PlainPerson] = []

    def come() -> PlainPerson:
        visitors.append(PlainPerson(site))
        return visitors[-1]

    yield come
    for each in visitors:
        each.close()


@pytest.fixture
def visitor(visit: Callable[[], PlainPerson]) -> PlainPerson:
    return visit()


def token_for(person: PlainPerson, email: str = ADDRESS) -> str:
    person.site.post.deliveries()  # a notice that is still on its way would come last
    person.ask(email)
    return re.split("[/#]", person.link())[-1]


def raw(text: str) -> str:
    """In a form or a path, whatever it is: half a character too, which no library would write."""
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


def send(person: PlainPerson, path: str, **fields: str) -> httpx.Response:
    """A form of our own making, with what the site's own form holds against forgery."""
    proof, headers = person.proof()
    body = "&".join(f"{name}={raw(value)}" for name, value in (proof | fields).items())
    person.response = person.client.post(path, content=body, headers=headers | FORM)
    return person.response


def seen(response: httpx.Response) -> tuple[int, str, str]:
    """What a visitor gets, without what differs each time."""
    text = re.sub(r'(name="(csrf_token|csrfmiddlewaretoken)" value=)"[^"]*"', r"\1", response.text)
    address, text = (re.sub(r"[0-9a-f]{32,}", "*", each) for each in (str(response.url), text))
    return response.status_code, address, text


def recipients(site: Site) -> list[str]:
    return [one for each in site.post.deliveries() for one in each.recipients]


# Host and other headers.


@each_framework
def test_no_header_has_a_say_in_the_link_the_mail_or_the_answer(site: Site, visit: Callable[[], PlainPerson]) -> None:
    """CVE-2017-9303, CVE-2026-22794, CVE-2025-48936, CVE-2026-34835: refused alike for everyone, or overlooked."""
    for case in vectors.cases("request_headers"):
        answers: list[tuple[int, str, str]] = []
        for email in (NOBODY, ADDRESS):
            person = visit()
            before = len(site.post.deliveries())
            answers.append(seen(person.post("/forgot", {"email": email}, headers=case.input)))
            for delivery in site.post.deliveries()[before:]:
                text = delivery.content.decode()
                assert delivery.recipients == (ADDRESS,)
                assert "evil" not in text.lower()
                assert set(re.findall(r"https?://[^/\s\"]+", text_of(delivery.message))) == {site.origin}
            person.close()
        assert answers[0] == answers[1], case
        assert answers[0][0] in {200, 400, 403}, case


def test_an_address_that_is_nearly_right_leads_to_no_other_host(site: Site, visitor: PlainPerson) -> None:
    """A sibling of CVE-2017-9303: a framework that mends an address must not take the host from the request."""
    token = token_for(visitor)
    visitor.client.follow_redirects = False
    for path in (f"/reset/{token}/", f"/reset//{token}", f"//reset/{token}", "/forgot/", "/static", "/static//x"):
        answer = visitor.client.get(f"{site.origin}{path}", headers={"Host": "evil.example"})
        assert "evil" not in answer.headers.get("Location", ""), path


def test_an_address_that_a_header_claims_is_no_other_client(tmp_path: Path) -> None:
    """H1-723974: a limit by client, and each request says that it comes from elsewhere."""
    for name in EXAMPLES:
        folder = tmp_path / name
        folder.mkdir()
        with open_site(name, folder, policy=roomy(client_limit=(3, timedelta(minutes=15)))) as site:
            person = PlainPerson(site)
            for number in range(5):
                headers = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "Forwarded"), f"192.0.2.{number}")
                person.post("/forgot", {"email": f"{number}@example.org"}, headers=headers)
                assert person.response.status_code == (200 if number < 3 else 429)
            assert 0 < int(person.response.headers["Retry-After"]) <= 900
            assert person.told.startswith("Too many requests")
            person.close()


# What comes in the place of a field.


def test_a_query_overrides_no_form(site: Site, visitor: PlainPerson) -> None:
    """H1-96636: address, token and password in the query, beside those of the form."""
    visitor.post(f"/forgot?email={quote(MALLORY)}", {"email": ADDRESS})
    assert recipients(site) == [ADDRESS]
    visitor.post(f"/forgot?email={quote(MALLORY)}", {})
    assert recipients(site) == [ADDRESS]
    mallorys, hers = token_for(visitor, MALLORY), token_for(visitor, ADDRESS)
    visitor.post(f"/reset?token={mallorys}", {"password": ANOTHER})
    visitor.post(f"/reset?token={mallorys}&password=overridden", {"token": hers, "password": ANOTHER})
    assert visitor.heading == "Password changed"
    assert visitor.log_in(PASSWORD, MALLORY)
    assert visitor.log_in(ANOTHER, ADDRESS)


def test_a_field_that_comes_twice_is_one_of_both(site: Site, visitor: PlainPerson) -> None:
    """CVE-2023-7028: two addresses, one of them a stranger's; as fields of one name, as a list, as an object."""
    visitor.post("/forgot", {"email": [ADDRESS, MALLORY]})
    assert len(recipients(site)) == 1
    for name in ("email[]", "email[0]", "user[email][]", "email.value"):
        visitor.post("/forgot", {name: [ADDRESS, MALLORY]})
    assert len(recipients(site)) == 1
    token = token_for(visitor)
    visitor.post("/reset", {"token[]": token, "password": ANOTHER})
    visitor.post("/reset", {"token": token, "password[]": ANOTHER})
    assert visitor.log_in(PASSWORD)
    visitor.post("/reset", {"token": token, "password": ANOTHER})
    assert visitor.log_in(ANOTHER)


@each_framework
def test_what_is_no_text_is_no_field(site: Site, visitor: PlainPerson) -> None:
    """CVE-2009-2762, CVE-2018-12421: JSON of any type, and files, where a text belongs; and the link stays good."""
    token = token_for(visitor)
    before = len(site.post.deliveries())
    for case in vectors.cases("types"):
        value = _filled(case.input["value"], {"token": token})
        body = {"email": ADDRESS, "token": token, "password": ANOTHER, case.input["field"]: value, "code": value}
        for path in ("/forgot", "/reset"):
            headers = visitor.proof()[1] | {"Content-Type": "application/json"}
            visitor.client.post(path, content=json.dumps(body), headers=headers)
    texts = {"email": ADDRESS, "token": token, "password": PASSWORD}
    for path, name in [("/forgot", "email"), ("/reset", "token"), ("/reset", "password"), ("/login", "password")]:
        others = {each: text for each, text in texts.items() if each != name}
        visitor.post(path, others, files={name: ("x.txt", texts[name].encode(), "text/plain")})
    assert not visitor.is_logged_in()
    assert len(site.post.deliveries()) == before
    assert visitor.log_in(PASSWORD)
    visitor.post("/reset", {"token": token, "password": ANOTHER})
    assert visitor.heading == "Password changed"


@each_framework
def test_whatever_is_typed_for_an_address_is_answered_as_an_unknown_one(site: Site, visitor: PlainPerson) -> None:
    """CVE-2017-5537, CVE-2026-28288: or not read at all, if it is a megabyte long."""
    usual = seen(send(visitor, "/forgot", email=NOBODY))
    for case in vectors.cases("hostile_text"):
        answer = seen(send(visitor, "/forgot", email=case.input["typed"]))
        assert answer == usual or (answer[0] in STRANGE and "megabyte" in case.id), case
    assert recipients(site) == []
    assert seen(send(visitor, "/forgot", email=ADDRESS)) == usual


def test_no_text_but_the_token_opens_anything(site: Site, visitor: PlainPerson) -> None:
    """CVE-2010-4535, CVE-2008-3681, CVE-2026-43926: in the address, the cookie and the form; all refused alike."""
    token, other = token_for(visitor), token_for(visitor, MALLORY)
    pieces = _pieces(token, other)
    answers: set[tuple[int, str, str]] = set()
    for case in vectors.cases("malformed_tokens"):
        if case.result != "invalid":
            continue
        text = _filled(case.input, pieces)
        if len(text) < 10_000:
            visitor.open(f"/reset/{raw(text)}")
        response = send(visitor, "/reset", token=text, password=ANOTHER)
        assert response.status_code in STRANGE, case
        answers |= {seen(response)} if len(text) < 1_000 else set()
    assert len(answers) == 1
    assert visitor.log_in(PASSWORD)
    assert visitor.log_in(PASSWORD, MALLORY)
    send(visitor, "/reset", token=token, password=ANOTHER)
    assert visitor.heading == "Password changed"


@each_framework
def test_a_password_is_taken_as_it_was_typed_or_refused(site: Site, visitor: PlainPerson) -> None:
    """CVE-2013-1443, CVE-2018-12421: neither trimmed nor cut by form, page or framework; and then the link is good."""
    token = ""
    for case in vectors.cases("passwords"):
        password = case.input["password"]
        token = token or token_for(visitor)  # one that was refused is good for the next
        send(visitor, "/reset", token=token, password=password)
        taken = urlsplit(visitor.address).path == "/done"
        is_text = not re.search("[\ud800-\udfff]", password)  # what is none was replaced on the way
        assert case.result == "acceptable" or not is_text or taken == (case.result == "valid"), case
        if taken and is_text:
            assert visitor.log_in(password), case
            assert "space" not in case.id or not visitor.log_in(case.input["others"][0]), case
        if taken:
            token = ""
    send(visitor, "/reset", token=token or token_for(visitor), password=ANOTHER)
    assert visitor.heading == "Password changed"


# What pages say, load and leave behind.


def test_every_answer_is_kept_by_nobody_and_tells_nobody(site: Site, visitor: PlainPerson) -> None:
    """H1-322988, CVE-2016-9450, H1-1626281, H1-2133308, H1-751581, H1-303322: caches, engines, reports, referrers."""
    token = token_for(visitor)
    visitor.client.follow_redirects = False
    got = ["/", "/login", "/forgot", f"/sent/{'0' * 32}", f"/reset/{token}", "/reset", "/done"]
    answers = [visitor.client.get(path) for path in got]
    answers += [visitor.post("/forgot", {"email": ADDRESS}), visitor.post("/forgot", {"email": NOBODY})]
    answers += [visitor.post("/reset", {"token": token, "password": "short"}), visitor.post("/reset", {})]
    answers += [visitor.post("/login", {"email": ADDRESS, "password": each}) for each in ("wrong", PASSWORD)]
    answers += [visitor.client.post("/forgot", headers={"Sec-Fetch-Site": "cross-site"})]
    assert {answer.status_code for answer in answers} >= {200, 403, 422}
    for answer in answers:
        headers = answer.headers
        assert headers["Cache-Control"] == "no-store", answer.url
        assert headers["X-Robots-Tag"] == "noindex"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
        rest = {"default-src": "'none'", "style-src": "'self'", "form-action": "'self'"}
        rest |= {"base-uri": "'none'", "frame-ancestors": "'none'"}
        assert policy.pop("script-src", "'self'") == "'self'"
        assert policy == rest
        # Where the address holds no token, a form that its framework protects by Origin needs "same-origin".
        silent = {"no-referrer"} if token in str(answer.url) else {"no-referrer", "same-origin"}
        assert headers["Referrer-Policy"] in silent
        for tag, attributes in Reader(answer.text).tags:
            for name in ("src", "href", "action"):
                assert (attributes.get(name) or "/").startswith("/"), tag
    assert not any(token in answer.text for answer in answers if answer.url.path != "/reset")


def test_what_visitors_send_is_no_markup(site: Site, visitor: PlainPerson) -> None:
    """CVE-2021-21332, CVE-2021-27909: in each field, in the address and in the cookie that a page shows again."""
    tags: dict[str, set[str]] = {}

    def tell(what: str) -> None:
        shown = str([(tag, sorted(attributes)) for tag, attributes in visitor.page.tags])
        tags.setdefault(what, set()).add(shown)

    token = token_for(visitor)
    for payload in ("harmless", *PAYLOADS):
        for name in ("email", "next"):
            visitor.post("/forgot", {"email": ADDRESS, name: payload})
            tell("forgot")
        visitor.post("/login", {"email": payload, "password": payload})
        tell("login")
        for name in ("handle", "code"):
            visitor.post("/reset", {"handle": "0" * 32, "code": "x", "password": "short", name: payload})
            tell("code")
        visitor.post("/reset", {"token": payload, "password": payload})
        tell("token")
        visitor.open(f"/forgot?email={quote(payload)}&next={quote(payload)}")
        tell("query")
        visitor.client.cookies.clear()
        visitor.client.get("/reset", headers={"Cookie": f"reset={quote(payload)}; login={quote(payload)}"})
        visitor.open(f"/sent/{quote(payload)}")
        if visitor.response.status_code == 200:  # some routes take no such handle
            tell("sent")
    assert {what: len(shown) for what, shown in tags.items()} == dict.fromkeys(tags, 1)
    visitor.post("/reset", {"token": token, "password": "<b>7", "code": "<b>7"})
    assert "<b>7" not in visitor.response.text


def test_no_page_leads_elsewhere(visitor: PlainPerson) -> None:
    """H1-281575: whatever a link or form names as the page to go to next."""
    token = token_for(visitor)
    evil = dict.fromkeys(("next", "redirect", "return_to", "url", "continue"), "https://evil.example/")
    query = "&".join(f"{name}={quote(where)}" for name, where in evil.items())
    visitor.client.follow_redirects = False
    for path, fields in {
        "/reset": {"token": token, "password": ANOTHER},
        "/login": {"email": ADDRESS, "password": ANOTHER},
        "/forgot": {"email": ADDRESS},
    }.items():
        answer = visitor.post(f"{path}?{query}", fields | evil)
        assert answer.is_redirect
        assert urlsplit(answer.headers["Location"]).netloc in {"", urlsplit(visitor.site.origin).netloc}
        assert "evil" not in answer.headers["Location"]


# Who sends a form.


FORGERIES: dict[str, dict[str, str]] = {
    "from another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "from a sibling": {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.app.example"},
    "by an older browser": {"Origin": "https://evil.example", "Referer": "https://evil.example/"},
    "from a sandboxed frame": {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    "from an older frame": {"Origin": "null"},
    "without a word": {},
}


@each_framework
@pytest.mark.parametrize("headers", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_form_does_nothing(
    site: Site, visit: Callable[[], PlainPerson], visitor: PlainPerson, headers: dict[str, str]
) -> None:
    """H1-1086752, H1-6910: sent by another site, in the browser of who is logged in and has opened the link."""
    assert visitor.log_in(PASSWORD)
    token = token_for(visitor)
    visitor.open(visitor.link())
    before = len(site.post.deliveries())
    forms: dict[str, dict[str, str]] = {
        "/forgot": {"email": ADDRESS},
        "/reset": {"password": ANOTHER, "token": token},
        "/login": {"email": MALLORY, "password": PASSWORD},
        "/logout": {},
    }
    for path, fields in forms.items():
        answer = visitor.client.post(path, data=fields, headers=headers)
        assert answer.status_code == 403
        assert "not sent by our own page" in answer.text
        # SameSite keeps the cookies back. An answer that set new ones would log the visitor out.
        assert "Set-Cookie" not in visit().client.post(path, data=fields, headers=headers).headers
    assert len(site.post.deliveries()) == before
    visitor.open("/")
    assert ADDRESS in visitor.told


def test_a_browser_that_says_less_is_served(site: Site, visitor: PlainPerson) -> None:
    """The other side of H1-1086752: an older browser, without Sec-Fetch-Site, sends the Origin of our own page."""
    visitor.open("/forgot")
    proof = {each["name"]: each["value"] for each in visitor.page.forms[0]["fields"] if each["type"] == "hidden"}
    answer = visitor.client.post("/forgot", data={**proof, "email": ADDRESS}, headers={"Origin": site.origin})
    assert answer.url.path.startswith("/sent/")
    assert recipients(site) == [ADDRESS]


# Sessions.


def test_a_session_that_somebody_planted_is_nobody_s(visit: Callable[[], PlainPerson]) -> None:
    """H1-53531, CVE-2019-12203: the cookies of before a log-in are worth nothing after it, nor after a reset."""
    attacker, victim = visit(), visit()
    attacker.ask(MALLORY)
    attacker.open("/login")
    planted = dict(attacker.client.cookies) | {"login": "planted", "session": "planted", "sessionid": "planted"}
    for name, value in (planted | dict(attacker.client.cookies)).items():
        victim.client.cookies.set(name, value, domain="127.0.0.1")
    assert victim.log_in(PASSWORD)
    assert not attacker.is_logged_in()
    for name, value in planted.items():
        attacker.client.cookies.set(name, value, domain="127.0.0.1")
    assert not attacker.is_logged_in()
    victim.ask()
    victim.open(victim.link())
    if victim.site.name == "fragment":
        victim.post("/reset", {"token": victim.link().rpartition("#")[2], "password": ANOTHER})
    else:
        victim.fill(SAVE, {NEW: ANOTHER})
    assert victim.heading == "Password changed"
    assert not victim.is_logged_in()
    assert not attacker.is_logged_in()


def cookies_of(response: httpx.Response) -> dict[str, set[str]]:
    """What stands behind each cookie that an answer sets, but for its end by date."""
    parts = [each.lower().split("; ") for each in response.headers.get_list("Set-Cookie")]
    return {pair.partition("=")[0]: {each for each in rest if "expires" not in each} for pair, *rest in parts}


@each_framework
def test_no_script_no_other_site_and_no_other_page_gets_a_cookie(site: Site, visitor: PlainPerson) -> None:
    """Siblings of H1-53531: a token that a script reads, or that is sent where it does not belong, is a stolen one."""
    token = token_for(visitor)
    visitor.client.follow_redirects = False
    opened = cookies_of(visitor.client.get(f"/reset/{token}"))
    assert opened["reset"] == {"httponly", "samesite=lax", "path=/reset", "max-age=1800"}
    ended = cookies_of(visitor.post("/reset", {"token": token, "password": ANOTHER}))
    assert {"path=/reset", "max-age=0"} <= ended["reset"]
    logged_in = cookies_of(visitor.post("/login", {"email": ADDRESS, "password": ANOTHER}))
    (kept,) = (logged_in[name] for name in ("login", "session", "sessionid") if name in logged_in)
    strict = "lax" if site.name == "flask" else "strict"  # Flask's session holds the token for forms, too
    assert kept - {"max-age=2592000", "max-age=1209600"} == {"httponly", f"samesite={strict}", "path=/"}


def test_looking_spends_nothing(site: Site, visit: Callable[[], PlainPerson], visitor: PlainPerson) -> None:
    """H1-1086752, H1-6910: scanners of mail open the link, and ask for its head, again and again."""
    token = token_for(visitor)
    link = visitor.link()
    scanner = visit()
    for _ in range(5):
        for method in ("GET", "HEAD"):
            answer = scanner.client.request(method, link.partition("#")[0])
            assert answer.status_code == 200
            assert method == "GET" or not answer.content
        scanner.client.request("OPTIONS", link.partition("#")[0])
    visitor.post("/reset", {"token": token, "password": ANOTHER})
    assert visitor.heading == "Password changed"


def test_of_forms_sent_at_once_one_wins(visit: Callable[[], PlainPerson]) -> None:
    """CVE-2026-22751: eight browsers send the same link's form at the same moment."""
    first = visit()
    token = token_for(first)
    people = [visit() for _ in range(8)]
    for each in people:
        each.open("/forgot")

    def redeem(number: int) -> bool:
        answer: Any = send(people[number], "/reset", token=token, password=f"{number} {ANOTHER}")
        return bool(answer.url.path == "/done")

    with ThreadPoolExecutor(len(people)) as threads:
        won = list(threads.map(redeem, range(len(people))))
    assert won.count(True) == 1
    assert first.log_in(f"{won.index(True)} {ANOTHER}")


def test_known_and_unknown_are_answered_alike(site: Site, visit: Callable[[], PlainPerson]) -> None:
    """CVE-2022-39307: status, address, page and headers of the answer, and of the guess at a code that follows it."""

    def told(email: str) -> list[Any]:
        person = visit()
        person.ask(email)
        sent = seen(person.response)
        kept = [sorted(name for name in each.headers if name != "date") for each in person.response.history]
        handle = person.address.rpartition("/")[2]
        guess = person.post("/reset", {"handle": handle, "code": "BBBB-BBBB", "password": ANOTHER})
        return [sent, kept, seen(guess), sorted(guess.headers)]

    answers = [told(email) for email in (ADDRESS, NOBODY, "no address", "")]
    assert all(each == answers[0] for each in answers)
    assert recipients(site) == [ADDRESS]
    assert LINK.search(text_of(site.post.last()))
