"""What Hypothesis explores of an account directory."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resetkit.errors import PasswordRejectedError
from resetkit.protocols import AsyncAccountDirectory
from resetkit.testing._explore import exploring
from resetkit.testing._kit import expect, expect_that
from resetkit.testing.directories import MAX_PASSWORD, PASSWORDS, AccountDirectoryChecks, read, standing

_HASHES = 20  # as many examples, unless the kit says otherwise: an honest password hash takes its time

# What the manager passes to `find`: one line of 320 characters at most, and not only spaces.
_LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=320).filter(
    lambda text: not text.isspace()
)
_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_IDS = st.text(_TEXT, min_size=1, max_size=255)
_PASSWORDS = st.text(_TEXT, min_size=1, max_size=MAX_PASSWORD)


def explore_find(kit: AccountDirectoryChecks) -> None:
    """Any line, also within the identifier, and the identifier in any case."""
    with kit.opened() as accounts:

        @exploring(kit)
        @given(line=_LINES, place=st.integers(0, len(kit.identifier)))
        def any_line_is_taken(line: str, place: int) -> None:
            kit.transcript.begin_anew()
            head, tail = kit.identifier[:place], kit.identifier[place:]
            for text in (line, f"{head}{line}{tail}", f"{head.swapcase()}{tail}"):
                kit.run(_expect_stored(accounts, text))

        any_line_is_taken()


async def _expect_stored(accounts: AsyncAccountDirectory, text: str) -> None:
    found = await accounts.find(text[:320])
    if found is not None:
        expect(found, await accounts.get(found.id), f"{text!r} was typed, and the stored account counts")


def explore_get(kit: AccountDirectoryChecks) -> None:
    """Any id."""
    with kit.opened() as accounts:

        @exploring(kit)
        @given(account_id=_IDS)
        def any_id_is_taken(account_id: str) -> None:
            kit.transcript.begin_anew()
            kit.run(_expect_stored_id(accounts, account_id))

        any_id_is_taken()


async def _expect_stored_id(accounts: AsyncAccountDirectory, account_id: str) -> None:
    found = await accounts.get(account_id)
    if found is not None:
        expect(found, await accounts.get(found.id), f"{account_id!r} was asked for, and the stored account counts")


def explore_passwords(kit: AccountDirectoryChecks) -> None:
    """The passwords that go wrong, one after another; then any."""
    with kit.opened() as accounts:
        account_id = kit.run(standing(accounts, kit.identifier)).id
        for password in PASSWORDS:
            before = kit.run(read(accounts, account_id))
            if kit.run(_takes(accounts, account_id, password)):
                after = kit.run(read(accounts, account_id))
                expect_that(after.stamp != before.stamp, f"{password[:40]!r} was taken, and the stamp is the old one")

        @settings(exploring(kit), max_examples=kit.examples or _HASHES)
        @given(password=_PASSWORDS)
        def any_password_is_taken_or_refused(password: str) -> None:
            kit.transcript.begin_anew()
            kit.run(_takes(accounts, account_id, password))

        any_password_is_taken_or_refused()


async def _takes(accounts: AsyncAccountDirectory, account_id: str, password: str) -> bool:
    """Whether the password is taken. A refusal leaves the account as it was."""
    before = await read(accounts, account_id)
    try:
        await accounts.set_password(account_id, password)
    except PasswordRejectedError:
        expect(await accounts.get(account_id), before, "a refusal changes nothing")
        return False
    return True
