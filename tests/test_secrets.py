"""No secret shows: a whole story is played, everything that it leaves is printed, and the print is searched.

What is exempt, and why. A mail's body, for it is what a secret is sent in. An attribute that is read by its name,
`mail.token`, for somebody has to. The frames and objects of the application and its adapters, here those of the tests
and of `resetkit.testing`, for they hold what they were handed. The mail server's own log.
"""

import base64
import copy
import dataclasses
import hmac
import io
import json
import logging
import pickle
import pprint
import re
import sqlite3
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typing_extensions import override

import resetkit
from harness import ADDRESS, KEY, Colour, Harness, StoreKind, tap
from resetkit import (
    Argon2TokenHasher,
    DuplicateSelectorError,
    KeyedTokenHasher,
    Mail,
    TokenRecord,
    _manager,
    _sync,
    code_token,
    dispatch,
    mails,
)
from resetkit._confidential import Confidential, Secret, SecretBytes
from resetkit._jobs import ResetJob, decode_job, encode_job
from resetkit._tokens import bind, parse_token
from resetkit.dispatch import AsyncTaskDispatcher, ThreadDispatcher
from resetkit.events import Event, log_event
from resetkit.mailers import AsyncSMTPMailer, SMTPMailer, default_message, smtp
from resetkit.stores import SQLiteTokenStore, sqlite
from resetkit.testing._minting import shapes
from resetkit.testing._records import record
from resetkit.throttle import AsyncMemoryThrottle, MemoryThrottle
from smtp_server import PASSWORD, USERNAME, MailServer

OLD_KEY = bytes(range(100, 132))
HOUR = timedelta(hours=1)
NEW_PASSWORD, WEAK_PASSWORD = "a new and secret password", "a weak but secret password"
HERE, FAKES = str(Path(__file__).parent), str(Path(resetkit.__file__).parent / "testing")


def exempt(filename: str) -> bool:
    return filename.startswith((HERE, FAKES))


WAYS: dict[str, Callable[[Any], object]] = {
    "str": str,
    "repr": repr,
    "format": lambda thing: f"{thing} {thing!a:>9} " + "%s %r" % (thing, thing),  # noqa: UP031  # that too
    "pprint": pprint.pformat,
    "in a list": lambda thing: f"{[thing]} {({'key': thing},)}",
    "json": lambda thing: json.dumps([thing], default=repr),
    "vars": lambda thing: pprint.pformat(vars(thing)),
    "state": lambda thing: thing.__getstate__(),
    "reduce": lambda thing: thing.__reduce__(),
    **{
        f"pickle, protocol {protocol}": partial(pickle.dumps, protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "pickle of its vars": lambda thing: pickle.dumps(vars(thing)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": dataclasses.asdict,
    "astuple": dataclasses.astuple,
    "the log": lambda thing: logging.getLogger("application").debug("%s %r", thing, thing),
}


class Search(logging.Handler):
    """What was shown, with the channel that showed it, and the secrets to look for in it."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[tuple[str, bytes]] = set()
        self.secrets: dict[str, bytes] = {}
        self._seen: list[object] = []  # kept, so that no id comes twice

    def hide(self, name: str, secret: str | bytes | None) -> None:
        if secret:
            self.secrets[name] = secret.encode() if isinstance(secret, str) else secret

    def tell(self, channel: str, shown: str | bytes) -> None:
        self.shown.add((channel, shown if isinstance(shown, bytes) else shown.encode("utf-8", "surrogatepass")))

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("mail."):  # aiosmtpd's
            self.tell("the log", f"{self.format(record)} {vars(record)!r}")

    def look(self, *things: object) -> None:
        """Print each in every way, and what it holds of ours."""
        for thing in things:
            if any(thing is seen for seen in self._seen):
                continue
            self._seen.append(thing)
            for way, show in WAYS.items():
                try:
                    shown = show(thing)
                except Exception as refusal:  # noqa: BLE001  # whatever refuses must not show it either
                    self._error(f"the refusal of {way}", refusal)
                else:
                    self.tell(way, shown if isinstance(shown, bytes) else f"{shown!r} {shown}")
            if isinstance(thing, BaseException):
                self._error("an error", thing)
            self.look(*(held for held in vars_of(thing) if is_ours(held)))

    def _error(self, channel: str, error: BaseException | None) -> None:
        if error is None:
            return
        self.tell(channel, "".join(traceback.format_exception_only(error)))
        for frame, _ in traceback.walk_tb(error.__traceback__):  # as capture_locals does, which gives up at a bad repr
            place = Path(frame.f_code.co_filename)
            if not exempt(str(place)):
                for name, value in frame.f_locals.items():
                    self.tell(f"{name} in {frame.f_code.co_name} of {place.name}", shown_in_a_traceback(value))
        self._error(channel, error.__cause__)
        self._error(channel, error.__context__)

    def found(self) -> list[str]:
        """Which secret stands where."""
        everything = b"\n".join(shown for _, shown in self.shown)
        seen = [
            (name, shape) for name, secret in self.secrets.items() for shape in shapes(secret) if shape in everything
        ]
        return sorted(
            {f"{name} in {channel}" for name, shape in seen for channel, shown in self.shown if shape in shown}
        )


def shown_in_a_traceback(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  # an object that is half made or half gone
        return repr(error)


def is_ours(thing: object) -> bool:
    """Whether it is an object of ours, but no secret: one that is taken in hand by itself is plain text on purpose."""
    return type(thing).__module__.startswith("resetkit.") and not isinstance(thing, Secret | SecretBytes)


def vars_of(thing: object) -> Iterator[object]:
    """What hangs below an object of ours, the application's objects aside."""
    if type(thing).__module__.startswith("resetkit.testing"):
        return
    for held in getattr(thing, "__dict__", {}).values():
        yield held
        if isinstance(held, dict):
            yield from held.values()
        elif isinstance(held, list | tuple | set):
            yield from held
        elif callable(held):
            yield getattr(held, "__self__", None)


@contextmanager
def listening(search: Search) -> Generator[None, None, None]:
    """Every logger at DEBUG, every warning and every word on the console."""
    root = logging.getLogger()
    level = root.level
    console = io.StringIO()
    root.addHandler(search)
    root.setLevel(logging.DEBUG)
    with ExitStack() as stack, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("sys.stdout", console)
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("sys.stderr", console)
        try:
            yield
        finally:
            root.removeHandler(search)
            root.setLevel(level)
            search.tell("the console", console.getvalue())
            for each in warned:
                search.tell("a warning", str(each))


class Story:
    """Everything that can be done with a manager, over a real mail server."""

    def __init__(self, search: Search, kit: Harness, server: MailServer, hasher: Any) -> None:
        self.search, self.kit, self.server, self.hasher = search, kit, server, hasher
        is_async = kit.colour == "async"
        mailer, throttle = (AsyncSMTPMailer, AsyncMemoryThrottle()) if is_async else (SMTPMailer, MemoryThrottle())
        self.make_mailer: Callable[..., Any] = mailer
        kit.mailer = self.smtp = self.mailer_to(server.port)
        kit.accounts.add("alice", ADDRESS, notify=("home@example.org",))
        kit.accounts._forbidden = {WEAK_PASSWORD}
        self.options: dict[str, Any] = {
            "hasher": tap(hasher, kit._step, "hasher"),
            "throttle": tap(throttle, kit._step, "throttle"),
            "on_event": lambda event: self.on_event(event),  # noqa: PLW0108  # a method's copy would copy the test
        }
        kit.manager = kit.make_manager(**self.options)
        search.hide("the key", KEY)
        search.hide("the old key", OLD_KEY)
        search.hide("the password", NEW_PASSWORD)
        search.hide("the weak password", WEAK_PASSWORD)
        search.hide("the mail server's password", PASSWORD)
        search.hide("the address", ADDRESS)
        search.hide("another address", "home@example.org")
        search.hide("the first stamp", "stamp of old")
        self.lasting = dict(search.secrets)
        search.look(self.hasher, kit.policy, kit.plain_store, kit.store, self.smtp, throttle)

    def mailer_to(self, port: int, **options: Any) -> Any:
        login = {"security": "plaintext", "username": USERNAME, "password": PASSWORD}
        compose = lambda mail: self.compose(mail)  # noqa: E731, PLW0108  # as with on_event
        usual: dict[str, Any] = {"sender": "no-reply@app.example", "compose": compose}
        return self.make_mailer("localhost", port=port, **(usual | login | options))

    def on_event(self, event: Event) -> None:
        self.search.look(event)
        log_event(event)

    def compose(self, mail: mails.Mail) -> Any:
        """As mails pass, print them, and learn what they hold."""
        if isinstance(mail, mails.ResetMail):
            self.learn(mail.token, mail.code)
        self.search.look(mail, mail.account)
        return default_message(mail)

    def learn(self, token: str, code: str | None = None) -> None:
        """The secrets of a new token, and what is kept of it."""
        hide, number = self.search.hide, len(self.search.secrets)
        hide(f"token {number}", token)
        hide(f"secret half {number}", token[32:])
        hide(f"secret half as bytes {number}", bytes.fromhex(token[32:]))
        hide(f"code {number}", code)
        hide(f"code as shown {number}", code and f"{code[:4]}-{code[4:]}")
        record = self.kit.record(token)
        if record is not None:
            self.learn_record(record, token[32:], code, number)
            self.search.look(record)

    def learn_record(self, record: TokenRecord, secret: str, code: str | None, number: int) -> None:
        hide = self.search.hide
        hide(f"link hash {number}", record.link_hash)
        hide(f"code hash {number}", record.code_hash)
        hide(f"stamp digest {number}", record.stamp_digest)
        bound: dict[str, Any] = {"realm": "", "stamp_digest": record.stamp_digest}
        bound |= {name: getattr(record, name) for name in ("kind", "selector", "account_id")}
        material = bind("link", secret, expires_at=record.expires_at, **bound)
        hide(f"what is hashed of link {number}", material)
        hide(f"the same under the key {number}", hmac.digest(KEY, material, "sha256"))
        if code is not None and record.code_expires_at is not None:
            material = bind("code", code, expires_at=record.code_expires_at, **bound)
            hide(f"what is hashed of code {number}", material)

    def mailed(self) -> tuple[str, str | None]:
        """Token and code of the newest mail, as its reader finds them."""
        for delivery in reversed(self.server.deliveries):
            body = delivery.message.get_body(("plain",))
            text = str(body and body.get_content())
            if found := re.search(r"reset#(\w{96})", text):
                code = re.search(r"    (\w{4}-\w{4})\s", text)
                return found[1], code and code[1]
        raise LookupError("no reset was mailed")

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Do it, and print what came of it."""
        try:
            answer = method(*args, **options)
        except Exception as error:  # noqa: BLE001  # every error is printed
            self.search.look(error)
            return None
        self.search.look(answer)
        return answer

    def play(self) -> None:
        """Each flow to its end, and each way that a visitor can fail."""
        kit, call = self.kit, self.call
        call(kit.request, ADDRESS, client="192.0.2.1", context={"ip": "192.0.2.1"})
        link, _ = self.mailed()
        receipt = call(kit.request, ADDRESS, code=True)
        token, code = self.mailed()
        assert receipt.handle is not None
        assert code is not None
        call(kit.request, "nobody@example.org", code=True)
        call(kit.request, "x" * 999)
        call(kit.request, 5)
        call(kit.check, token)
        call(kit.check, link)
        call(kit.reset, code_token(receipt.handle, "BCDFGHJK"), NEW_PASSWORD)
        for password in (WEAK_PASSWORD, "", NEW_PASSWORD * 99, f"{NEW_PASSWORD}\0", 5):
            call(kit.reset, token, password)
            call(kit.reset, code_token(receipt.handle, code), password)
        call(kit.reset, 5, NEW_PASSWORD)
        call(kit.reset, token, NEW_PASSWORD, client=5)
        call(kit.reset, token, NEW_PASSWORD, context=5)
        call(kit.reset, token[:-1], NEW_PASSWORD)
        call(kit.reset, f"{token}\0", NEW_PASSWORD)
        assert call(kit.reset, code_token(receipt.handle, code), NEW_PASSWORD)
        self.search.hide("the stamp", kit.accounts.get("alice").stamp)  # type: ignore[union-attr]  # she is there
        call(kit.reset, token, NEW_PASSWORD)
        issued = call(kit.issue)
        self.learn(issued.token)
        self.search.look(parse_token(issued.token), decode_job(self.job()))
        call(kit.issue, "nobody")
        assert call(kit.revoke) == 1
        call(kit.check, issued.token)
        kit.advance(days=30)
        assert call(kit.purge)
        self.search.look(kit.manager, kit.mailer, kit.store, kit.plain_store)

    def job(self) -> str:
        now = self.kit.clock().replace(microsecond=0)
        job = ResetJob(realm="", selector="f" * 32, identifier=ADDRESS, code=True, context={}, created_at=now)
        return encode_job(job)

    def break_at(self, step: str) -> None:
        """Have one step of one port fail, wherever it comes."""
        kit, call = self.kit, self.call
        self.search.secrets, self.search.shown = dict(self.lasting), set()
        issued = kit.issue()
        self.learn(issued.token)
        receipt = kit.request(ADDRESS, code=True)
        _, code = self.mailed()
        with kit.failing(step, OSError("away")):
            call(kit.request, ADDRESS, client="192.0.2.1", code=True)
            call(kit.run_job, self.job())
            call(kit.check, issued.token, client="192.0.2.1")
            call(kit.reset, code_token(receipt.handle or "", code or ""), NEW_PASSWORD)
            call(kit.reset, issued.token, NEW_PASSWORD)
            call(kit.issue)
            call(kit.revoke)
            call(kit.purge)
        kit.advance(days=30)
        kit.purge()
        assert self.search.found() == [], step

    def break_the_mail(self) -> None:
        """Have the mail server refuse a mail, hang up in the middle, refuse the log-in; compose badly."""
        kit, call = self.kit, self.call
        for _ in range(2):
            call(kit.run_job, self.job())
            call(kit.request)
        bad_site = partial(default_message, site="two\nlines")
        for options in ({"password": "wrong"}, {"compose": bad_site}):
            kit.mailer = self.mailer_to(self.server.port, **options)
            kit.manager = kit.make_manager(**self.options)
            self.search.look(kit.mailer)
            call(kit.run_job, self.job())
            call(kit.request)

    def fill_the_dispatcher(self) -> None:
        """Have the real dispatcher full, then closed, with a job that waits."""
        kit, call = self.kit, self.call
        dispatcher: Any = (AsyncTaskDispatcher if kit.colour == "async" else ThreadDispatcher)(capacity=1)
        kit.manager = kit.make_manager(
            **self.options, dispatcher=dispatcher, policy=dataclasses.replace(kit.policy, head_start=HOUR / 4)
        )
        for _ in range(2):
            call(kit.request)
        self.search.look(dispatcher, kit.manager)
        call(lambda: kit.call(kit.manager.close(0)))
        self.search.look(dispatcher, kit.manager)
        call(kit.request)
        call(lambda: kit.call(dispatcher.dispatch(self.job(), print)))

    def spoil_the_row(self) -> None:
        """Have a store read back what nobody wrote."""
        issued = self.kit.issue()
        self.learn(issued.token)
        with sqlite3.connect(self.kit.plain_store._path) as connection:  # type: ignore[union-attr]  # of the other store
            connection.execute("UPDATE resetkit_tokens SET state = 'spoilt'")
        connection.close()
        self.call(self.kit.check, issued.token)


PORTS = {
    "accounts": ("find", "get", "set_password", "end_sessions"),
    "store": ("add", "get", "attempt", "claim", "release", "revoke", "purge"),
    "mailer": ("send",),
    "throttle": ("hit",),
    "dispatcher": ("dispatch",),
    "hasher": ("hash", "verify"),
}
STEPS = [
    f"{port}.{method} {when}" for port, methods in PORTS.items() for method in methods for when in ("before", "after")
]

FAULTS = ("554 No", "554 No", "", "")  # the mail server's answers to its first mails; "" hangs up

UNCOUNTED = pytest.mark.no_cover
"""To count lines while every value is looked at is slow, and the flows run the same ones."""
HASHERS = {
    "keyed": KeyedTokenHasher([KEY, OLD_KEY]),
    "argon2": Argon2TokenHasher(time_cost=1, memory_cost=8, keys=[KEY, OLD_KEY], accept_unkeyed=True),
}


@contextmanager
def told(
    colour: Colour, kind: StoreKind, folder: Path, *, hasher: Any = HASHERS["keyed"], **server: Any
) -> Generator[Story, None, None]:
    """A story that is listened to from its beginning to its end."""
    search = Search()
    with listening(search), MailServer(login=True, **server) as mail_server:
        kit = Harness(colour, kind, folder)
        if kit._runner is not None:
            kit._runner.get_loop().set_debug(True)
            kit._runner.get_loop().slow_callback_duration = 0  # so that it logs every callback
        try:
            yield Story(search, kit, mail_server, hasher)
        finally:
            kit.close()


@UNCOUNTED
@pytest.mark.parametrize("hasher", HASHERS.values(), ids=HASHERS)
def test_a_whole_story_shows_no_secret(colour: Colour, store_kind: StoreKind, hasher: Any, tmp_path: Path) -> None:
    """CVE-2025-53886, CVE-2025-11833, Easy WP SMTP: every value, error, log line and local variable that it leaves."""
    with told(colour, store_kind, tmp_path, hasher=hasher) as story:
        story.play()
    assert len(story.search.secrets) > 30
    assert len(story.search.shown) > 1000
    assert story.search.found() == []


@UNCOUNTED
def test_no_failing_port_shows_a_secret(colour: Colour, tmp_path: Path) -> None:
    with told(colour, "memory", tmp_path) as story:
        for step in STEPS:
            story.break_at(step)
    assert set(story.kit.steps) >= set(STEPS)


def test_no_failing_mail_server_shows_a_secret(colour: Colour, tmp_path: Path) -> None:
    """The library beneath keeps the mail in its variables, and an error's traceback would keep those."""
    with told(colour, "memory", tmp_path, faults=FAULTS) as story:
        story.break_the_mail()
    assert story.search.found() == []


def test_no_full_or_closed_dispatcher_shows_a_secret(colour: Colour, tmp_path: Path) -> None:
    with told(colour, "memory", tmp_path) as story:
        story.fill_the_dispatcher()
    assert story.search.found() == []


def test_no_spoilt_row_shows_a_secret(colour: Colour, tmp_path: Path) -> None:
    with told(colour, "sqlite", tmp_path) as story:
        story.spoil_the_row()
    assert story.search.found() == []


# The search itself: what it must find.

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "upper case": bytes.upper,
    "lower case": bytes.lower,
    "utf-16": lambda secret: secret.decode("latin-1").encode("utf-16-le"),
    "hex": lambda secret: secret.hex().encode(),
    "HEX": lambda secret: secret.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 of one byte more": lambda secret: base64.b64encode(b"x" + secret + b"y"),
    "base64 of two bytes more": lambda secret: base64.b64encode(b"xy" + secret + b"yz"),
    "base64 for links": lambda secret: base64.urlsafe_b64encode(b"?" + secret),
    "a repr": lambda secret: repr(secret).encode(),
    "a list of numbers": lambda secret: str([*secret]).encode(),
    "json": lambda secret: json.dumps(["\n", secret.decode("latin-1")]).encode(),
    "a link": lambda secret: quote(secret).encode(),
    "a pickle": pickle.dumps,
}
FOR_TEXTS = {"upper case", "lower case", "utf-16", "json", "a link"}
TEXTS, KEYS = (b"BCDFGHJK", b"0f" * 32, b"0f" * 48), (OLD_KEY, b"\xff\xfe" * 16)


@pytest.mark.parametrize(
    ("secret", "encoding"),
    [(secret, name) for name in ENCODINGS for secret in (TEXTS if name in FOR_TEXTS else TEXTS + KEYS)],
)
def test_a_planted_secret_is_found_in_every_shape(secret: bytes, encoding: str) -> None:
    search = Search()
    search.hide("it", secret)
    search.tell("there", b"before " + ENCODINGS[encoding](secret[::-1]) + b" after")
    assert search.found() == []
    search.tell("here", b"before " + ENCODINGS[encoding](secret) + b" after")
    assert search.found() == ["it in here"]


def leak_through(tell: Callable[[str], object]) -> Callable[[str, Secret], Secret]:
    """A `fill_link` that tells the token by the way."""

    def fill_link(template: str, token: Secret) -> Secret:
        tell(str(token))
        return Secret(template.replace("{token}", token))

    return fill_link


def quote_the_token(text: str) -> object:
    raise ValueError(f"this is no token: {text}")


def leave(value: object, *_: object) -> object:
    return value


Play = Callable[[Story], None]
REDUCE, LOGGER = "__reduce_ex__", logging.getLogger("resetkit")

LEAKS: dict[str, tuple[str, Play, Any, str, Any]] = {  # what is found, when, and what is broken
    "a secret shows itself": ("token 8 in repr", Story.play, Secret, "__repr__", str.__repr__),
    "a mail is pickled": ("token 8 in pickle, protocol 2", Story.play, Confidential, REDUCE, object.__reduce_ex__),
    "a field is copied": ("token 8 in asdict", Story.play, Secret, "__deepcopy__", lambda self, _: str(self)),
    "a token is logged": ("token 8 in the log", Story.play, _manager, "fill_link", leak_through(LOGGER.debug)),
    "a token is in a warning": ("token 8 in a warning", Story.play, _manager, "fill_link", leak_through(warnings.warn)),
    "a token is printed": ("token 8 in the console", Story.play, _manager, "fill_link", leak_through(print)),
    "an error quotes a token": ("token 8 in an error", Story.play, _manager, "parse_token", quote_the_token),
    "a call keeps its token": ("token 15 in token in reset_password of _sync.py", Story.play, _sync, "hidden", leave),
    "a key shows itself": (
        "what is hashed of link 8 in material in _match of _manager.py",
        Story.play,
        SecretBytes,
        "__repr__",
        bytes.__repr__,
    ),
    "a mailer keeps its password": ("the mail server's password in vars", Story.break_the_mail, smtp, "Secret", str),
    "smtplib keeps the mail": (
        "code as shown 8 in flatmsg in send_message of smtplib.py",
        Story.break_the_mail,
        smtp,
        "clear_locals",
        leave,
    ),
    "a store keeps the row": (
        "link hash 8 in row in _read of sqlite.py",
        Story.spoil_the_row,
        sqlite,
        "clear_locals",
        leave,
    ),
    "a dispatcher shows its job": (
        "the address in job in dispatch of dispatch.py",
        Story.fill_the_dispatcher,
        dispatch,
        "hidden",
        leave,
    ),
}


@pytest.mark.parametrize(("found", "play", "owner", "attribute", "fault"), LEAKS.values(), ids=LEAKS)
def test_a_planted_leak_is_found(
    found: str, play: Play, owner: Any, attribute: str, fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = FAULTS if play is Story.break_the_mail else ()
    monkeypatch.setattr(owner, attribute, fault)
    with told("sync", "sqlite", tmp_path, faults=faults) as story, suppress(AssertionError):
        play(story)
    monkeypatch.undo()
    assert found in story.search.found()


class BrokenMailer(SMTPMailer):
    """Fails before it connects."""

    def _message(self, mail: Mail) -> Any:
        raise LookupError(type(mail).__name__)


def of_the_application(order: int) -> None:
    raise KeyError(order)


def test_the_error_that_the_application_handles_meanwhile_keeps_its_variables(tmp_path: Path) -> None:
    """A failing operation forgets what it had in hand itself, and nothing of its caller's."""
    mail: Any = None
    mailer = BrokenMailer("smtp.example.org", sender="no-reply@app.example")
    with closing(SQLiteTokenStore(tmp_path / "tokens.sqlite3")) as store:
        store.add(record("s1"), quotas=(), keep=1)
        try:
            of_the_application(42)
        except KeyError as handled:
            with pytest.raises(DuplicateSelectorError):
                store.add(record("s1", "bob"), quotas=(), keep=1)
            with pytest.raises(LookupError):
                mailer.send(mail)
            frames = [frame.f_locals for frame, _ in traceback.walk_tb(handled.__traceback__)]
            assert frames[-1] == {"order": 42}
