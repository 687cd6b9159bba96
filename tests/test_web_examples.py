"""The web examples as a person uses them, over real sockets, with a real mail server, in plain HTTP."""

import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from email.message import EmailMessage
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from packaging.requirements import Requirement

import resetkit
from persons import ANOTHER, CODE, LINK, NEW, SAVE, PlainPerson, play_the_whole_story
from web_sites import BY_PATH, CERTIFICATES, PATIENCE, Site, open_site

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=BY_PATH)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with open_site(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def people(site: Site) -> Iterator[tuple[PlainPerson, PlainPerson]]:
    with ExitStack() as stack:
        persons = PlainPerson(site), PlainPerson(site)
        for each in persons:
            stack.callback(each.close)
        yield persons


def test_the_whole_story(people: tuple[PlainPerson, PlainPerson]) -> None:
    play_the_whole_story(*people)


@pytest.mark.parametrize("name", BY_PATH)
def test_the_whole_story_over_tls(name: str, tmp_path: Path) -> None:
    trust = CERTIFICATES.client_context()
    with open_site(name, tmp_path, https=True) as site, ExitStack() as stack:
        persons = PlainPerson(site, trust), PlainPerson(site, trust)
        for each in persons:
            stack.callback(each.close)
        play_the_whole_story(*persons)
        assert all(cookie.secure for each in persons for cookie in each.client.cookies.jar)


# To the letter of the documentation.

PAGES = {name: f"{name}.md" for name in BY_PATH} | {"fragment": "web.md"}


def steps(page: str) -> tuple[list[str], str, str]:
    """What pip installs, the command that copies an example, and the program that is run then."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.search(r"^python -m pip install (.+)\n(cp -r .+)\npython (\S+)$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1]), found[2], found[3]


def install(wanted: list[str], folder: Path) -> None:
    """Of what is installed here, what pip would install for `wanted`, and nothing else."""
    folder.mkdir()
    (folder / "resetkit").symlink_to(Path(resetkit.__file__).parent)  # which may be no copy, but a checkout
    todo, seen = [Requirement(each.removeprefix("../")) for each in wanted], set[str]()
    while todo:
        one = todo.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        found = distribution(one.name)
        for file in found.files or ():
            (top, *_), place = file.parts, folder / file.parts[0]
            if top not in {"..", "__pycache__"} and not place.is_symlink():
                place.symlink_to(str(found.locate_file(top)))
        needed = map(Requirement, found.requires or ())
        extras = [{"extra": extra} for extra in ("", *one.extras)]
        todo += [each for each in needed if each.marker is None or any(map(each.marker.evaluate, extras))]


class Printed:
    """Mails that an example prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def last(self) -> EmailMessage:
        """The next one, up to its rule."""
        assert self._process.stdout is not None
        message = EmailMessage()
        lines: list[str] = []
        end = threading.Timer(PATIENCE, self._process.kill)  # of a wait for what does not come
        end.start()
        for line in self._process.stdout:
            lines.append(line)
            if LINK.search(line):
                break
        end.cancel()
        message.set_content("".join(lines))
        return message


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("name", PAGES)
def test_what_the_documentation_says_to_install_and_copy_runs_and_prints_its_mails(name: str, tmp_path: Path) -> None:
    wanted, copy, program = steps(PAGES[name])
    install(wanted, tmp_path / "installed")
    (tmp_path / "resetkit").symlink_to(ROOT)
    folder = tmp_path / "reset-demo"
    folder.mkdir()
    subprocess.run(["bash", "-c", copy], cwd=folder, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"ORIGIN": origin, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-S", "-W", "error", program],  # -S: without what else is installed
        cwd=folder,
        env=environment | {"PYTHONPATH": str(tmp_path / "installed")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        person = PlainPerson(Site(name, origin, Printed(process), lambda *_: None))
        wait_until_open(person, process)
        assert person.log_in("correct horse battery")
        person.ask()
        token = re.split("[/#]", person.link())[-1]
        person.post("/reset", {"token": token, "password": ANOTHER})
        assert person.heading == "Password changed"
        assert not person.is_logged_in()
        assert person.log_in(ANOTHER)
        person.close()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
def test_the_server_that_a_page_names_finds_the_application(page: str) -> None:
    """Some are no dependency of the tests, so they are not run."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = re.findall(r"(?:gunicorn|uvicorn)\b[^`]*?[ \"](\w[\w.]*):(\w+)", text)
    assert named or page == "web.md"
    for module, factory in named:
        assert callable(getattr(import_module(module), factory))


@pytest.mark.parametrize("name", [name for name in PAGES if name != "django"])
def test_without_the_account_to_try_it_there_is_a_site_without_accounts(name: str, tmp_path: Path) -> None:
    program = (ROOT / "examples" / f"{name}_app.py").read_text("utf-8")
    left = re.sub(
        r"^(    if .+alice@example\.org.+\n)?.+alice@example\.org.+leave it out\n", "", program, flags=re.MULTILINE
    )
    assert "alice@example.org" not in left
    (tmp_path / "site_app.py").write_text(left, "utf-8")
    making = "import site_app; site_app.make_app(); print(site_app.LINK if hasattr(site_app, 'LINK') else '')"
    environment = os.environ | {
        "ORIGIN": "https://app.example/",
        "DATABASE": str(tmp_path / "site.sqlite3"),
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT / "examples")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", making], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in {"https://app.example/reset/{token}", ""}
    with closing(sqlite3.connect(tmp_path / "site.sqlite3")) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)


def wait_until_open(person: PlainPerson, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            person.open("/")
        except httpx.ConnectError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_every_example_shows_the_same_pages(tmp_path: Path) -> None:
    """So what is seen of one in a browser, or in a picture, holds for all."""
    shown: dict[str, list[object]] = {}
    for name in BY_PATH:
        (folder := tmp_path / name).mkdir()
        with open_site(name, folder) as site:
            person = PlainPerson(site)
            shown[name] = list(visit_every_page(person))
            person.close()
    for name, pages in shown.items():
        assert pages == shown["flask"], name


def visit_every_page(person: PlainPerson) -> Iterator[object]:
    """What is on each, without what is made anew each time."""

    def page() -> tuple[object, object]:
        return [tag for tag in person.page.tags if tag[1].get("type") != "hidden"], person.page.texts

    for path in ("/", "/login", "/forgot", "/reset", "/done"):
        person.open(path)
        yield page()
    person.log_in("wrong")
    yield page()
    person.log_in("correct horse battery")
    yield page()
    person.ask()
    yield page()
    person.fill(SAVE, {CODE: "BBBB-BBBB", NEW: ANOTHER})
    yield page()
    person.open(person.link())
    yield page()
    person.fill(SAVE, {NEW: "short"})
    yield page()[0]  # its words are the framework's


def test_a_link_that_was_mailed_twice_tells_of_the_newer(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    person.ask()
    old = person.link()
    person.ask()
    new = person.link()
    person.open(old)
    assert person.told == "A newer mail was sent. Please use that one."
    person.open(new)
    assert person.heading == "Choose a new password"


def test_a_code_is_typed_where_it_was_asked_for(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    person.ask()
    person.fill(SAVE, {CODE: "BBBB-BBBB", NEW: ANOTHER})
    assert person.heading == "Check your mail"
    assert person.told.startswith("This link or code is not valid")
    person.fill(SAVE, {CODE: person.code().lower().replace("-", " "), NEW: ANOTHER})
    assert person.heading == "Password changed"
    assert person.log_in(ANOTHER)


PARTS, PART = "multipart/form-data; boundary=-", b'---\r\nContent-Disposition: form-data; name="email"\r\n'
UNREADABLE = {
    "bytes that are no text": ("application/x-www-form-urlencoded", b"email=\xff"),
    "no such charset": ("application/x-www-form-urlencoded; charset=none", b"email=x"),
    "no boundary": ("multipart/form-data", b"email=x"),
    "a part that is no text": (
        PARTS,
        PART + b"\r\n\xff\r\n-----\r\n",
    ),
    "a part in no charset": (PARTS, PART + b"Content-Type: text/plain; charset=none\r\n\r\nx\r\n-----\r\n"),
    "a part in no encoding": (PARTS, PART + b"Content-Transfer-Encoding: none\r\n\r\nx\r\n-----\r\n"),
    "a part that ends in its head": (PARTS, b"---\r\nemail"),
    "a part with a head without end": (PARTS, b"---\r\nA: " + 100_000 * b"a"),
}


@pytest.mark.parametrize(("kind", "body"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_form_that_cannot_be_read_is_no_failure(
    people: tuple[PlainPerson, PlainPerson], kind: str, body: bytes
) -> None:
    person, _ = people
    headers = {"Content-Type": kind, "Sec-Fetch-Site": "same-origin", "Origin": person.site.origin}
    for path in ("/forgot", "/reset", "/login"):
        assert person.client.post(path, content=body, headers=headers).status_code < 500
    assert person.site.post.deliveries() == []


def test_a_length_without_end_is_no_failure(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    where = urlsplit(person.site.origin)
    request = f"POST /forgot HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {'9' * 5000}\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), PATIENCE) as visitor:
        visitor.sendall(request.encode())
        assert re.match(rb"HTTP/1.[01] 4", visitor.recv(100))


def test_cookies_of_other_applications_do_no_harm(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    assert person.log_in("correct horse battery")
    own = "; ".join(f"{name}={value}" for name, value in person.client.cookies.items())
    person.client.cookies.clear()
    strange = 'a/b=1; {"c": 2}; d[e]=3; "f; =g; h'
    assert "You are logged in" in person.client.get("/", headers={"Cookie": f"{strange}; {own}"}).text


def test_what_was_done_is_told_to_who_does_not_see_it(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    person.open("/done")
    assert person.page.texts["status"].startswith("Your password was changed")


def test_who_opens_the_page_without_a_link_is_told_how_to_get_one(people: tuple[PlainPerson, PlainPerson]) -> None:
    person, _ = people
    person.open("/reset")
    assert person.told.startswith("This link or code is not valid")
    assert ("a", "/forgot") in [(tag, attributes.get("href")) for tag, attributes in person.page.tags]
