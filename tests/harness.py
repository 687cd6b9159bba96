"""One manager of either colour over either store, driven by the same calls, with a tap on every port."""

import asyncio
import functools
import hmac
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from typing_extensions import override

from resetkit import (
    Account,
    AsyncResetManager,
    AsyncTokenStore,
    IssuedToken,
    KeyedTokenHasher,
    PasswordChangedMail,
    ResetMail,
    ResetManager,
    ResetPolicy,
    ResetReceipt,
    ResetTicket,
    TokenRecord,
    TokenStore,
    code_token,
)
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.events import Event
from resetkit.mailers import AsyncMemoryMailer, MemoryMailer
from resetkit.stores import AsyncMemoryTokenStore, AsyncSQLiteTokenStore, MemoryTokenStore, SQLiteTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock

T = TypeVar("T")
Colour = Literal["sync", "async"]
StoreKind = Literal["memory", "sqlite"]

LINK = "https://app.example/reset#{token}"
KEY = b"k" * 32
ADDRESS = "alice@example.org"
NOTHING: Mapping[str, Callable[..., Any]] = MappingProxyType({})


def tap(
    port: object, called: Callable[[str], None], name: str, replaced: Mapping[str, Callable[..., Any]] = NOTHING
) -> Any:
    """The port, with ``called("name.method before")`` and ``... after`` around each of its methods."""

    class Tapped:
        def __getattr__(self, method: str) -> Any:
            function: Any = getattr(port, method)
            step = f"{name}.{method}"
            if method == "sends_nothing":
                return function

            @functools.wraps(function)
            def plain(*args: Any, **kwargs: Any) -> Any:
                called(f"{step} before")
                result = replaced.get(step, function)(*args, **kwargs)
                called(f"{step} after")
                return result

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                called(f"{step} before")
                result = replaced[step](*args, **kwargs) if step in replaced else await function(*args, **kwargs)
                called(f"{step} after")
                return result

            return awaited if inspect.iscoroutinefunction(function) else plain

    return Tapped()


class ManyAccounts(FakeAccounts):
    """Found by a look in a dict, as by an index: where time is measured, a scan would be all that is seen."""

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__()
        self._by_address = {address: self.add(str(number), address) for number, address in enumerate(addresses)}

    @override
    def find(self, identifier: str, /) -> Account | None:
        return self._by_address.get(identifier)


class Harness:
    """The manager's methods without their colour, and what a test looks at."""

    def __init__(
        self,
        colour: Colour,
        kind: StoreKind,
        folder: Path,
        *,
        policy: ResetPolicy | None = None,
        **options: Any,
    ) -> None:
        self.colour = colour
        self.policy = policy or roomy()
        self.accounts = FakeAccounts()
        self.accounts.add("alice", ADDRESS)
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.steps: list[str] = []
        self.on_step: dict[str, Callable[[], None]] = {}
        self._replaced: dict[str, Callable[..., Any]] = {}
        self._runner = asyncio.Runner() if colour == "async" else None
        self.store, self.plain_store = make_store(colour, kind, folder)
        self.mailer = AsyncMemoryMailer() if colour == "async" else MemoryMailer()
        self.manager = self.make_manager(**options)

    def make_manager(self, **options: Any) -> Any:
        """Another manager over the same ports, with other options."""
        manager, directory, dispatcher = (
            (AsyncResetManager, AsyncFakeAccounts(self.accounts), AsyncInlineDispatcher())
            if self.colour == "async"
            else (ResetManager, self.accounts, InlineDispatcher())
        )
        defaults: dict[str, Any] = {
            "link": LINK,
            "policy": self.policy,
            "hasher": KeyedTokenHasher([KEY]),
            "dispatcher": tap(dispatcher, self._step, "dispatcher"),
            "clock": self.clock,
            "on_event": self.events.append,
        }
        ports: dict[str, Any] = {"accounts": directory, "store": self.store, "mailer": self.mailer}
        tapped = [tap(port, self._step, name, self._replaced) for name, port in ports.items()]
        return manager(*tapped, **(defaults | options))

    def replace(self, port: str, method: str, answer: Callable[..., Any]) -> None:
        """Have one method of a port answered by another function from now on."""
        self._replaced[f"{port}.{method}"] = answer

    def _step(self, step: str) -> None:
        self.steps.append(step)
        if step in self.on_step:
            self.on_step[step]()

    def call(self, result: Any) -> Any:
        """What the manager answered, awaited where it has to be."""
        if self._runner is None:
            return result
        return self._runner.run(_awaited(result))

    def request(
        self,
        identifier: Any = ADDRESS,
        *,
        client: Any = None,
        code: Any = False,
        context: Mapping[str, str] | None = None,
    ) -> ResetReceipt:
        context = {} if context is None else context
        asked = self.manager.request_reset(identifier, client=client, code=code, context=context)
        receipt: ResetReceipt = self.call(asked)
        return receipt

    def check(self, token: Any, *, client: Any = None) -> ResetTicket:
        answer: ResetTicket = self.call(self.manager.check_token(token, client=client))
        return answer

    def reset(self, token: Any, password: Any = "new", **options: Any) -> ResetTicket:
        answer: ResetTicket = self.call(self.manager.reset_password(token, password, **options))
        return answer

    def issue(self, account_id: Any = "alice", **options: Any) -> IssuedToken:
        answer: IssuedToken = self.call(self.manager.issue_token(account_id, **options))
        return answer

    def revoke(self, account_id: str = "alice") -> int:
        answer: int = self.call(self.manager.revoke_tokens(account_id))
        return answer

    def purge(self) -> int:
        answer: int = self.call(self.manager.purge_tokens())
        return answer

    def run_job(self, job: Any) -> None:
        self.call(self.manager.run_job(job))

    def token(self) -> str:
        """Ask, and read the link's token from the mail."""
        self.request()
        return self.reset_mails[-1].token

    def code(self) -> tuple[str, str]:
        """Ask for a code, and read handle and code."""
        receipt = self.request(code=True)
        assert receipt.handle is not None
        code = self.reset_mails[-1].code
        assert code is not None
        return receipt.handle, code

    def code_token(self) -> str:
        return code_token(*self.code())

    @property
    def reset_mails(self) -> list[ResetMail]:
        return [mail for mail in self.mailer.outbox if isinstance(mail, ResetMail)]

    @property
    def notices(self) -> list[PasswordChangedMail]:
        return [mail for mail in self.mailer.outbox if isinstance(mail, PasswordChangedMail)]

    def record(self, token_or_selector: str) -> TokenRecord | None:
        """The record behind a token, read without the manager."""
        return self.plain_store.get(token_or_selector[:32])

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def advance(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))

    @contextmanager
    def failing(self, step: str, error: BaseException) -> Generator[None, None, None]:
        """Have one step raise, as long as the block lasts."""

        def fail() -> None:
            raise error

        self.on_step[step] = fail
        try:
            yield
        finally:
            del self.on_step[step]

    def close(self) -> None:
        self.call(self.manager.close(5.0))
        if isinstance(self.plain_store, SQLiteTokenStore):
            self.plain_store.close()
        if self._runner is not None:
            self._runner.close()


def make_store(colour: Colour, kind: StoreKind, folder: Path) -> tuple[Any, MemoryTokenStore | SQLiteTokenStore]:
    """A store of this colour, and the plain one beneath it for looking."""
    if kind == "memory":
        memory = AsyncMemoryTokenStore() if colour == "async" else MemoryTokenStore()
        return memory, memory._store if isinstance(memory, AsyncMemoryTokenStore) else memory
    path = folder / "tokens.sqlite3"
    sqlite = AsyncSQLiteTokenStore(path) if colour == "async" else SQLiteTokenStore(path)
    return sqlite, sqlite._store if isinstance(sqlite, AsyncSQLiteTokenStore) else sqlite


def put(store: TokenStore, *records: TokenRecord) -> None:
    """Add records without a quota, and keep them all."""
    for each in records:
        assert store.add(each, quotas=(), keep=99)


def spy_on_comparisons(monkeypatch: Any) -> list[tuple[str | bytes, str | bytes]]:
    """What `hmac.compare_digest` is given from now on."""
    compared: list[tuple[str | bytes, str | bytes]] = []
    compare: Callable[[Any, Any], bool] = hmac.compare_digest

    def spy(first: Any, second: Any, /) -> bool:
        compared.append((first, second))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    return compared


def roomy(**changes: Any) -> ResetPolicy:
    """The default policy with room in the throttle and the quotas, for tests of other things."""
    minute = timedelta(minutes=1)
    wide = ResetPolicy(
        account_quotas=((20, timedelta(hours=24)),), client_limit=(10_000, minute), identifier_limit=(10_000, minute)
    )
    return replace(wide, **changes)


async def _awaited(result: Coroutine[Any, Any, T]) -> T:
    return await result


# What other processes run, which import it from here.


@contextmanager
def open_file(path: Path) -> Generator[TokenStore, None, None]:
    with closing(SQLiteTokenStore(path)) as store:
        yield store


@asynccontextmanager
async def open_file_async(path: Path) -> AsyncGenerator[AsyncTokenStore, None]:
    with closing(AsyncSQLiteTokenStore(path)) as store:
        yield store


def reset_in_child() -> str:
    """A whole reset by a manager of this process's own; the new password."""
    accounts = FakeAccounts()
    accounts.add("alice", ADDRESS)
    hasher = KeyedTokenHasher([KEY])
    with ResetManager(accounts, MemoryTokenStore(), MemoryMailer(), link=LINK, hasher=hasher) as manager:
        manager.reset_password(manager.issue_token("alice").token, "new")
    return accounts.password("alice")
