"""The promises of an account directory, each as a test: subclass `AccountDirectoryConformance` or its async twin.

The author writes ``open_accounts``, and makes an account for `identifier` there. What the kit cannot know is optional,
and declared by implementing it: `rejected_password`, `log_in`, `knows_password`, `change_address`, `remove`; and
`other_identifier` for a second account.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from inspect import isawaitable
from typing import Any, ClassVar, Final, TypeVar

from typing_extensions import override

from resetkit._checks import MAX_ID_LENGTH
from resetkit._sync import LiftedDirectory
from resetkit.errors import PasswordRejectedError
from resetkit.protocols import AccountDirectory, AsyncAccountDirectory
from resetkit.testing._kit import (
    Async,
    BrokenPromiseError,
    Conformance,
    Sync,
    expect,
    expect_that,
    explored_promise,
    promise,
    undeclared,
)
from resetkit.values import Account

T = TypeVar("T")

Session = Callable[[], bool | Awaitable[bool]]
"""Says whether a session lives."""

# What nobody is called, and a query, a filter, a format, a path or a parser reads as something else. All of it is one
# line, as all that the manager passes is.
NOBODY: Final = (
    *("nobody@nowhere.invalid", "@", "a@", "@a", "a@b@c", "None", "null", "undefined", "-1", "NaN", "[]", "{}"),
    *("' OR 1=1--", "' OR ''='", '" OR ""="', "'; DROP TABLE users; --", "\\", "\\'", "x'--", "') OR ('1'='1", "`"),
    *("*)(uid=*))(|(uid=*", "(mail=*)", "*)(&", "\\2a", '{"$gt": ""}', '{"$regex": "^a"}', "[$ne]=1"),
    *("%s", "%d%n", "{0.__class__}", "${HOME}", "{{7*7}}", "../../etc/passwd", "<script>", "&amp;", "=?utf-8?q?x?="),
    *(
        "x" * 320,
        "\U0001f511" * 320,
        "é" * 320,
        "\U0001f511@\U0001f511",
        "\u202eabc",
        "\ufeffx",
        "\u200bx",
        "a\u0301" * 99,
    ),
)

# What a look-up by pattern, part or list takes for everybody.
PATTERNS: Final = (
    "%",
    "%%",
    "_",
    "*",
    "?",
    ".*",
    "^",
    ".",
    "%@%",
    "*@*",
    "_%@_%",
    "[a-z]*",
    "@example.org",
    "a%",
    "[]",
)

# Ids that no application gives, though it may parse or compare them.
FOREIGN_IDS: Final = (
    *("nobody", "-1", "None", "null", "NaN", "inf", "1e309", "9" * 30, "9" * 255, "-9223372036854775809", "0x1f", "''"),
    *("00000000-0000-0000-0000-000000000000", "urn:uuid:0", "ffffffffffffffffffffffff", "x" * 255, "\U0001f511" * 255),
    *(" ", "\t", "\n", "\r\n", "\x01", "\x7f", "\u2028", "\ufeff", "\u202e", "\u200b", "é", "e\u0301", "\U0010ffff"),
    *(
        "%",
        "_",
        "*",
        "?",
        "' OR 1=1--",
        "\\",
        "'; DROP TABLE users; --",
        '{"$gt": ""}',
        "*)(uid=*",
        "../1",
        "%s",
        "{0}",
    ),
)

# Look-alikes: what some folding (lower, upper, casefold, NFKC, a database's collation) takes for the same letter.
LOOK_ALIKES: Final = {
    "i": "\u0131\u0130",
    "k": "\u212a",
    "s": "\u017f",
    "a": "\uff41\u0430\u00e0",
    "e": "\u00e9\u0435",
    "o": "\u03bf\u043e",
    "c": "\u0441\u00e7",
    "l": "\uff4c",
    "@": "\uff20",
}

MAX_PASSWORD: Final = 1024  # characters; what the policy lets through, if nothing else is said

# What is trimmed, cut, folded or refused by mistake: 73 bytes are one too many for bcrypt.
PASSWORDS: Final = (
    *(" ", "a", "0", "  x  ", "\t\r\n", "\x01\x7f\x85", "\u00a0\u2003", "\u2028\u2029"),
    *("\ufeff", "\u202eabc", "\u200d"),
    *("é", "e\u0301", "ß", "ﬁ", "\u0131", "\u0130", "\U0001f511", "\U0010ffff", "\ufdfa", "كلمة السر", "パスワード"),
    *("null", "'; DROP TABLE users; --", "%s%n", "{0}", "\\", '"', "$2b$12$", "x" * 72, "x" * 73, "é" * 37),
    *("x" * MAX_PASSWORD, "\U0001f511" * MAX_PASSWORD, "\ufdfa" * MAX_PASSWORD),
)


class AccountDirectoryChecks(Conformance[AsyncAccountDirectory], shipped=True):
    """What both colours promise."""

    port = "AccountDirectory"
    opens = "open_accounts"

    identifier: ClassVar[str] = "alice@example.org"
    """How a visitor names the account that `open_accounts` makes. It may reset, and no other answers to it."""
    other_identifier: ClassVar[str | None] = None
    """How a visitor names a second account, where there is one."""
    password: ClassVar[str] = "Correct-Horse-7-Battery!"  # of no account but the kit's
    """A password that the application takes, also with digits after it."""

    _yielded: Any = None

    # find

    @promise("find")
    async def test_an_account_is_found_and_read_alike(self, accounts: AsyncAccountDirectory) -> None:
        """What `find` says of an account, `get` says of its id: address, stamp and all."""
        account = await self._account(accounts)
        expect_that(account.can_reset, f"the account of {self.identifier!r} must be one that may reset")
        expect(await accounts.get(account.id), account, "find and get tell of the same account")

    @promise("find")
    async def test_answers_are_accounts_or_none(self, accounts: AsyncAccountDirectory) -> None:
        """`find` and `get` answer with an `Account` or None, and with nothing that passes for them."""
        account = await self._account(accounts)
        for known in (account, await accounts.get(account.id)):
            expect_that(isinstance(known, Account), f"expected an Account, got {type(known).__name__}")
        for unknown in (await accounts.find(NOBODY[0]), await accounts.get(FOREIGN_IDS[0])):
            expect_that(unknown is None, f"expected None, got {unknown!r}")

    @promise("find")
    async def test_reading_changes_nothing(self, accounts: AsyncAccountDirectory) -> None:
        """However often an account is found and read, it stays as it is: its stamp moves with the password alone."""
        account = await self._account(accounts)
        for _ in range(5):
            expect(await accounts.find(self.identifier), account, "nothing was done to it")
            expect(await accounts.get(account.id), account, "nothing was done to it")

    @promise("find")
    async def test_what_nobody_is_called_is_none(self, accounts: AsyncAccountDirectory) -> None:
        """Text that names nobody is None, without an error: SQL, LDAP, formats, paths, any script, 320 characters."""
        for text in NOBODY:
            expect(await accounts.find(text), None, f"nobody is called {text[:40]!r}")
        await self._account(accounts)

    @promise("find")
    async def test_a_pattern_finds_nobody(self, accounts: AsyncAccountDirectory) -> None:
        """Neither a wildcard nor a part of an identifier finds an account."""
        account = await self._account(accounts)
        for pattern in PATTERNS:
            expect(await accounts.find(pattern), None, f"{pattern!r} names nobody")
        for part in _parts(self.identifier):
            found = await accounts.find(part)
            expect_that(found is None or found.id != account.id, f"{part!r} found the account of {self.identifier!r}")

    @promise("find")
    async def test_a_look_alike_is_answered_with_the_stored_address(self, accounts: AsyncAccountDirectory) -> None:
        """An identifier in another case, script or company finds nobody, or the account as it stands.

        Never the address that was typed: it may be another person's. CVE-2019-19844, CVE-2023-7028, CVE-2024-27295.
        """
        await self._account(accounts)
        for typed in _look_alikes(self.identifier):
            found = await accounts.find(typed)
            if found is not None:
                expect(found, await accounts.get(found.id), f"{typed!r} was typed, and the stored address counts")

    @explored_promise("find")
    def test_any_text_is_taken_by_find(self) -> None:
        """Whatever line of text, `find` raises nothing, and answers None or an account as it stands."""
        from resetkit.testing._explore_accounts import explore_find  # noqa: PLC0415  # Hypothesis is in the extra

        explore_find(self)

    # get

    @promise("get")
    async def test_a_foreign_id_is_none(self, accounts: AsyncAccountDirectory) -> None:
        """An id that the application never gave is None, without an error: of another type, too long, too large."""
        for account_id in FOREIGN_IDS:
            expect(await accounts.get(account_id), None, f"nobody has the id {account_id[:40]!r}")
        await self._account(accounts)

    @promise("get")
    async def test_an_id_in_another_spelling_is_none_or_the_same_account(self, accounts: AsyncAccountDirectory) -> None:
        """An id in another case, or with spaces or zeros, is nobody's, or the account says its own id all the same."""
        account = await self._account(accounts)
        for spelling in _spellings(account.id):
            found = await accounts.get(spelling)
            if found is not None:
                expect(found, await accounts.get(found.id), f"{spelling!r} was asked for, and the stored id counts")
                own = found.id == account.id or found.email != account.email
                expect_that(own, f"the account {account.id!r} was asked for as {spelling!r}, and says that as its id")

    @explored_promise("get")
    def test_any_id_is_taken_by_get(self) -> None:
        """Whatever text of 1 to 255 characters, `get` raises nothing, and answers None or an account as it stands."""
        from resetkit.testing._explore_accounts import explore_get  # noqa: PLC0415  # Hypothesis is in the extra

        explore_get(self)

    # set_password

    @promise("set_password")
    async def test_a_new_password_changes_the_stamp(self, accounts: AsyncAccountDirectory) -> None:
        """After each new password the stamp is another text, and not empty; id and address stay."""
        before = await self._account(accounts)
        seen = {str(before.stamp)}
        for number in range(3):
            await self._set_password(accounts, before.id, number)
            after = await read(accounts, before.id)
            expect_that(after.stamp not in seen, "the password is another, and the stamp is not")
            expect_that(after.stamp != "", "an account with a password has a stamp")
            expect((after.id, str(after.email)), (before.id, str(before.email)), "only the password was to change")
            expect(await accounts.find(self.identifier), after, "find and get tell of the same account")
            seen.add(str(after.stamp))

    @promise("set_password")
    async def test_a_new_password_is_seen_everywhere_at_once(self, accounts: AsyncAccountDirectory) -> None:
        """As soon as `set_password` returns, `get` and `find` show the new stamp in every thread or task.

        A stale read, of a cache, an identity map or a replica, revives tokens.
        """
        before = await self._account(accounts)
        expect(await accounts.get(before.id), before, "find and get tell of the same account")
        await self.together(self._set_password(accounts, before.id, 1))
        here = await read(accounts, before.id)
        expect_that(here.stamp != before.stamp, "it was changed elsewhere, and here the old stamp is seen")
        await self._set_password(accounts, before.id, 2)
        for seen in await self.together(*(self._seen(accounts, before.id) for _ in range(4))):
            expect_that(here not in seen, "it was changed here, and elsewhere the old stamp is seen")
            expect(seen, [await read(accounts, before.id)] * 2, "find and get tell of the same account")

    @promise("set_password")
    async def test_a_new_password_is_of_no_concern_to_others(self, accounts: AsyncAccountDirectory) -> None:
        """A new password changes one account: the stamps of others stay, so that their tokens do."""
        account, other = await self._account(accounts), await self._other(accounts)
        await self._set_password(accounts, account.id, 1)
        expect(await accounts.get(other.id), other, "nothing was done to it")

    @explored_promise("set_password")
    def test_any_password_is_taken_or_refused(self) -> None:
        """Whatever text of 1 to 1024 characters without NUL: it becomes the password, or PasswordRejectedError.

        A refusal leaves the account as it was.
        """
        from resetkit.testing._explore_accounts import explore_passwords  # noqa: PLC0415  # Hypothesis is in the extra

        explore_passwords(self)

    @promise("set_password")
    async def test_a_refused_password_changes_nothing(self, accounts: AsyncAccountDirectory) -> None:
        """A password that the application refuses is a PasswordRejectedError, and the account is as it was."""
        refused, before = self.rejected_password(), await self._account(accounts)
        await self._set_refused(accounts, before.id, refused)
        expect(await accounts.get(before.id), before, "nothing was to change, or the token cannot stay good")

    @promise("set_password")
    async def test_a_refused_password_leaves_the_old_one(self, accounts: AsyncAccountDirectory) -> None:
        """After a refusal the old password counts, and the refused one does not."""
        refused, account = self.rejected_password(), await self._account(accounts)
        password = await self._set_password(accounts, account.id, 1)
        await self._set_refused(accounts, account.id, refused)
        expect_that(await self._knows(account.id, password), "the new one was refused, and the old one does not count")
        expect_that(not await self._knows(account.id, refused), "the password was refused, and counts")

    @promise("set_password")
    async def test_a_refused_password_ends_no_session(self, accounts: AsyncAccountDirectory) -> None:
        """After a refusal who was logged in is so still."""
        refused, account = self.rejected_password(), await self._account(accounts)
        is_logged_in = await self._log_in(account.id)
        await self._set_refused(accounts, account.id, refused)
        expect_that(await answered(is_logged_in()), "the password was refused, and the session ended")

    @promise("set_password")
    async def test_the_new_password_counts_and_no_other(self, accounts: AsyncAccountDirectory) -> None:
        """After a change the new password is the account's, and the one before is not."""
        account = await self._account(accounts)
        old = await self._set_password(accounts, account.id, 1)
        new = await self._set_password(accounts, account.id, 2)
        expect_that(await self._knows(account.id, new), f"the new password does not count: {new!r}")
        expect_that(not await self._knows(account.id, old), f"the password before still counts: {old!r}")

    @promise("set_password")
    async def test_a_password_is_kept_whole(self, accounts: AsyncAccountDirectory) -> None:
        """A password counts as it was given: not trimmed, cut at 72 bytes, lower-cased or stripped of its accents."""
        account = await self._account(accounts)
        for password, others in _careless(self.password).items():
            try:
                await accounts.set_password(account.id, password)
            except PasswordRejectedError:
                continue
            expect_that(await self._knows(account.id, password), f"{password!r} was taken, and does not count")
            for other in others:
                expect_that(not await self._knows(account.id, other), f"{other!r} counts for {password!r}")

    # end_sessions

    @promise("end_sessions")
    async def test_end_sessions_may_be_called_twice(self, accounts: AsyncAccountDirectory) -> None:
        """`end_sessions` raises nothing for an account that has no session, and nothing the second time."""
        account = await self._account(accounts)
        for _ in range(3):
            await accounts.end_sessions(account.id)

    @promise("end_sessions")
    async def test_ending_sessions_leaves_the_account(self, accounts: AsyncAccountDirectory) -> None:
        """`end_sessions` leaves the account as it stands; its stamp may move, where sessions hang on it."""
        account = await self._account(accounts)
        await accounts.end_sessions(account.id)
        left = await accounts.get(account.id)
        expect(left and replace(left, stamp=account.stamp), account, "only its sessions were to end")
        expect(await accounts.find(self.identifier), left, "only its sessions were to end")

    @promise("end_sessions")
    async def test_every_session_ends(self, accounts: AsyncAccountDirectory) -> None:
        """After `end_sessions` no log-in of the account lives, and who logs in then stays so."""
        account = await self._account(accounts)
        sessions = [await self._log_in(account.id) for _ in range(3)]
        for session in sessions:
            expect_that(await answered(session()), "log_in was to begin a session, and it does not live")
        await accounts.end_sessions(account.id)
        for session in sessions:
            expect_that(not await answered(session()), "a session lives on")
        later = await self._log_in(account.id)
        expect_that(await answered(later()), "a session that began afterwards does not live")

    @promise("end_sessions")
    async def test_sessions_of_others_live_on(self, accounts: AsyncAccountDirectory) -> None:
        """`end_sessions` and a new password log nobody else out."""
        account, other = await self._account(accounts), await self._other(accounts)
        is_logged_in = await self._log_in(other.id)
        await self._set_password(accounts, account.id, 1)
        await accounts.end_sessions(account.id)
        expect_that(await answered(is_logged_in()), "another account's session ended")

    # The account changes by other means.

    @promise("get")
    async def test_a_changed_address_is_seen_at_once(self, accounts: AsyncAccountDirectory) -> None:
        """As soon as the stored address is another, `get` and `find` answer with it, and the id stays."""
        before, address = await self._account(accounts), "new.address@example.org"
        await self._ask(self.change_address, before.id, address)
        after = await read(accounts, before.id)
        expect((after.id, str(after.email)), (before.id, address), "the mail goes to the stored address")
        for identifier in (self.identifier, address):
            found = await accounts.find(identifier)
            expect_that(found is None or found == after, f"{identifier!r} finds the account as it was, not as it is")

    @promise("get")
    async def test_a_removed_account_is_gone(self, accounts: AsyncAccountDirectory) -> None:
        """As soon as an account is removed, `get` and `find` answer None."""
        account = await self._account(accounts)
        await self._ask(self.remove, account.id)
        expect(await accounts.get(account.id), None, "the account is gone")
        expect(await accounts.find(self.identifier), None, "the account is gone")

    # Several at once.

    @promise("")
    async def test_several_may_call_at_once(self, accounts: AsyncAccountDirectory) -> None:
        """In several threads, or several tasks, each call works and is answered as if it were alone."""
        account = await self._account(accounts)
        for number in range(3):
            reads = [self._seen(accounts, account.id) for _ in range(6)]
            for seen in await self.together(*reads):
                expect(seen, [account] * 2, "nobody changes it")
            work = [self._set_password(accounts, account.id, number), accounts.end_sessions(account.id)]
            await self.together(*work, *(self._seen(accounts, account.id) for _ in range(4)))
            changed = await read(accounts, account.id)
            expect_that(changed.stamp != account.stamp, "the password was set, and the stamp is the old one")
            account = changed

    # Optional abilities: implement them, or state why not. Each may be ``async def``. `accounts` is what
    # `open_accounts` yielded.

    def rejected_password(self) -> str:
        """A password that the application refuses."""
        undeclared("rejected_password", "a password that the application refuses")

    def log_in(self, accounts: Any, account_id: str, /) -> Session | Awaitable[Session]:
        """Begin a session of the account; answers with a function that says whether it lives."""
        undeclared("log_in", "begin a session, and return a function that says whether it lives")

    def knows_password(self, accounts: Any, account_id: str, password: str, /) -> bool | Awaitable[bool]:
        """Whether this is the account's password, as its log-in would judge."""
        undeclared("knows_password", "whether a password is the account's, as its log-in would judge")

    def change_address(self, accounts: Any, account_id: str, address: str, /) -> Awaitable[None] | None:
        """Store another address for the account."""
        undeclared("change_address", "store another address")

    def remove(self, accounts: Any, account_id: str, /) -> Awaitable[None] | None:
        """Delete the account."""
        undeclared("remove", "delete an account")

    # What the checks say again and again.

    async def _account(self, accounts: AsyncAccountDirectory) -> Account:
        return await standing(accounts, self.identifier)

    async def _other(self, accounts: AsyncAccountDirectory) -> Account:
        if self.other_identifier is None:
            undeclared("other_identifier", "how a second account is found")
        return await standing(accounts, self.other_identifier)

    async def _seen(self, accounts: AsyncAccountDirectory, account_id: str) -> list[Account | None]:
        return [await accounts.find(self.identifier), await accounts.get(account_id)]

    async def _set_password(self, accounts: AsyncAccountDirectory, account_id: str, number: int) -> str:
        password = f"{self.password}{number}"
        try:
            await accounts.set_password(account_id, password)
        except PasswordRejectedError as rejected:
            hint = f"{password!r} was refused ({' '.join(rejected.messages)}): set `password` to one that is taken"
            raise BrokenPromiseError(hint) from None
        return password

    async def _set_refused(self, accounts: AsyncAccountDirectory, account_id: str, password: str) -> None:
        try:
            await accounts.set_password(account_id, password)
        except PasswordRejectedError:
            return
        raise BrokenPromiseError(f"expected PasswordRejectedError for {password!r}, and it was taken")

    async def _ask(self, ability: Callable[..., T | Awaitable[T]], *args: object) -> T:
        return await answered(ability(self._yielded, *args))

    async def _log_in(self, account_id: str) -> Session:
        return await self._ask(self.log_in, account_id)

    async def _knows(self, account_id: str, password: str) -> bool:
        return await self._ask(self.knows_password, account_id, password)


class AccountDirectoryConformance(AccountDirectoryChecks, Sync[AsyncAccountDirectory], shipped=True):
    """Every promise of `AccountDirectory`. Subclass it and write `open_accounts`; see the guide "Write an adapter"."""

    def open_accounts(self) -> AbstractContextManager[AccountDirectory]:
        """A context manager that yields a directory with an account that `identifier` finds and that may reset."""
        raise NotImplementedError  # a subclass says

    @override
    @contextmanager
    def opened(self) -> Generator[AsyncAccountDirectory, None, None]:
        """A lifted directory."""
        with self.open_accounts() as self._yielded:
            yield self.watched(LiftedDirectory(self._yielded))


class AsyncAccountDirectoryConformance(AccountDirectoryChecks, Async[AsyncAccountDirectory], shipped=True):
    """Every promise of `AsyncAccountDirectory`, as `AccountDirectoryConformance`."""

    def open_accounts(self) -> AbstractAsyncContextManager[AsyncAccountDirectory]:
        """As `AccountDirectoryConformance.open_accounts`, but an async context manager."""
        raise NotImplementedError  # a subclass says

    @override
    @contextmanager
    def opened(self) -> Generator[AsyncAccountDirectory, None, None]:
        """The directory, in a loop of its own."""
        with self.in_loop(self._directory()) as accounts:
            yield accounts

    @asynccontextmanager
    async def _directory(self) -> AsyncGenerator[AsyncAccountDirectory, None]:
        async with self.open_accounts() as self._yielded:
            yield self.watched(self._yielded)


async def answered(answer: T | Awaitable[T]) -> T:
    """What an author's method answers, be it sync or async."""
    result: Any = answer
    if isawaitable(result):
        result = await result
    told: T = result
    return told


async def standing(accounts: AsyncAccountDirectory, identifier: str) -> Account:
    """The account that `open_accounts` made."""
    found = await accounts.find(identifier)
    if found is None:
        raise BrokenPromiseError(f"expected the account of {identifier!r}, got None: open_accounts must make it")
    return found


async def read(accounts: AsyncAccountDirectory, account_id: str) -> Account:
    """The account that is there."""
    account = await accounts.get(account_id)
    if account is None:
        raise BrokenPromiseError(f"expected the account with the id {account_id!r}, got None")
    return account


def _parts(identifier: str) -> list[str]:
    """Patterns that match the identifier, pieces of it, and what it is a piece of."""
    half = len(identifier) // 2
    patterns = [f"{identifier[:half]}%", f"%{identifier[half:]}", f"{identifier[:-1]}_", f"{identifier[:-1]}?"]
    patterns += [f"{identifier[:half]}*", f"^{identifier[:half]}.*$", f"{identifier[:-1]}[{identifier[-1]}]"]
    return [*patterns, identifier[:-1], identifier[2:], identifier[:half], identifier[half:], identifier * 2]


def _look_alikes(identifier: str) -> list[str]:
    """What a folding or a lenient parser takes for the identifier, and another person may be called."""
    folded = [identifier.replace(letter, other) for letter, others in LOOK_ALIKES.items() for other in others]
    cases = [identifier.upper(), identifier.swapcase(), identifier.title()]
    invisible = [f"{identifier[0]}{sign}{identifier[1:]}" for sign in "\u00ad\u200b\u200d\u200e\ufeff\u00a0"]
    spaced = [
        f" {identifier}",
        f"{identifier} ",
        f"{identifier}\u00a0",
        f"{identifier}.",
        identifier.replace("@", " @ "),
    ]
    lists = [f"{identifier}{sign}eve@evil.example" for sign in (",", ";", " ", ", ", " OR ", "%00", "&to=", "+")]
    lists += [f"eve@evil.example,{identifier}", f"{identifier} <eve@evil.example>", f"eve@evil.example <{identifier}>"]
    lists += [f"{identifier})eve@evil.example", f'"{identifier} "@evil.example', f'["{identifier}","eve@evil.example"]']
    return [each for each in (*folded, *cases, *invisible, *spaced, *lists) if each != identifier]


def _spellings(account_id: str) -> list[str]:
    """What a database or a parser takes for the id."""
    changed = [account_id.upper(), account_id.lower(), account_id.swapcase(), account_id.title()]
    changed += [f" {account_id}", f"{account_id} ", f"{account_id}\n", f"0{account_id}", f"+{account_id}"]
    changed += [f"{account_id}.0", f"{account_id}e0", f"{{{account_id}}}", account_id.replace("-", "")]
    wide = account_id.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    others = [each for each in dict.fromkeys([*changed, wide]) if each != account_id]
    return [each for each in others if 1 <= len(each) <= MAX_ID_LENGTH]


def _careless(password: str) -> dict[str, list[str]]:
    """Passwords, and what careless applications hash in their place. Few: each costs an honest hash."""
    letters = "".join(chr(ord("a") + number % 26) for number in range(100))
    spaced, long = f"  {password}  ", f"{password}{letters}"[:100]
    accented, wide = f"{password} é ß \U0001f511", password + "é" * 40
    return {
        spaced: [spaced.strip(), spaced.lstrip(), spaced.rstrip()],
        long: [long[:99], long[:72], long[:64], long[:32], long.lower(), long.upper()],
        accented: [accented.encode("ascii", how).decode() for how in ("ignore", "replace")],
        wide: [wide.encode()[:72].decode(errors="ignore"), wide.replace("é", "e")],
    }
