"""The promises of a token hasher, each as a test: subclass `TokenHasherConformance`."""

import string
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from resetkit._sync import lift
from resetkit.protocols import TokenHasher
from resetkit.testing._kit import Sync, expect, expect_that, explored_promise, promise

SECRET: Final = bytes(range(32))
MAX_LENGTH: Final = 512  # what a store must be able to keep

# What may stand where a hash should: an empty column, other schemes, their halves, what breaks parsers.
NO_HASHES: Final = (
    *("", " ", "$", "$$$$", "\0", "\n", "x" * 100_000, "None", "null", "\U0001f511", "\udcff", "é" * 32),
    *("$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$v=19$m=0,t=0,p=0$AAAA$AAAA", "$2b$12$" + "a" * 53),
    *("$argon2id$v=19$m=99999999,t=99999999,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "hmac-sha256$$$"),
    *("pbkdf2_sha256$600000$salt$hash", "00" * 32, "sha256:" + "00" * 32),
)


class AsyncHasher(Protocol):
    """A hasher in the shape that checks are written in."""

    def hash(self, secret: bytes, /) -> Awaitable[str]: ...

    def verify(self, stored: str, secret: bytes, /) -> Awaitable[bool]: ...


class _Lifted:
    def __init__(self, hasher: TokenHasher) -> None:
        self.hash: Callable[[bytes], Awaitable[str]] = lift(hasher.hash)
        self.verify: Callable[[str, bytes], Awaitable[bool]] = lift(hasher.verify)


class TokenHasherConformance(Sync[AsyncHasher], shipped=True):
    """Every promise of `TokenHasher`, which is sync under both managers. Subclass it and write `open_hasher`."""

    port = "TokenHasher"
    opens = "open_hasher"

    def open_hasher(self) -> AbstractContextManager[TokenHasher]:
        """A context manager that yields a hasher, always with the same keys."""
        raise NotImplementedError  # a subclass says

    @contextmanager
    def opened(self) -> Generator[AsyncHasher, None, None]:
        """A lifted hasher."""
        with self.open_hasher() as hasher:
            yield self.watched(_Lifted(hasher))

    @promise("hash")
    async def test_a_hash_is_ascii_text_of_bounded_length(self, hasher: AsyncHasher) -> None:
        """A hash is printable ASCII text of 1 to 512 characters, so that any column holds it."""
        stored = await hasher.hash(SECRET)
        expect(type(stored), str, "a store keeps text")
        expect_that(stored.isascii() and stored.isprintable(), f"a store keeps printable ASCII, not {stored!r}")
        expect_that(0 < len(stored) <= MAX_LENGTH, f"expected 1 to {MAX_LENGTH} characters, got {len(stored)}")

    @promise("hash")
    async def test_a_hash_is_salted(self, hasher: AsyncHasher) -> None:
        """The same secret is never hashed to the same text twice."""
        stored = [await hasher.hash(SECRET) for _ in range(5)]
        expect(len(set(stored)), len(stored), "each hash has a salt of its own")

    @promise("hash")
    async def test_a_hash_shows_nothing_of_its_secret(self, hasher: AsyncHasher) -> None:
        """Neither the bytes of the secret nor their hexadecimal form stand in the hash."""
        for secret in (b"A" * 32, string.ascii_letters[:32].encode()):
            stored = await hasher.hash(secret)
            for shown in (secret.decode(), secret.hex(), secret.hex().upper()):
                expect_that(shown not in stored, "the secret stands in its hash")

    @promise("verify")
    async def test_a_hash_verifies_its_own_secret_and_no_other(self, hasher: AsyncHasher) -> None:
        """True for the secret that was hashed; False for one that differs in any byte, in length or in all."""
        stored = await hasher.hash(SECRET)
        expect(await hasher.verify(stored, SECRET), True, "it is the secret that was hashed")
        last = SECRET[:-1] + bytes([SECRET[-1] ^ 1])
        first = bytes([SECRET[0] ^ 128]) + SECRET[1:]
        for other in (last, first, SECRET[::-1], SECRET[:-1], SECRET + b"\0", bytes(32), b""):
            expect(await hasher.verify(stored, other), False, "it is another secret")

    @promise("verify")
    async def test_a_hash_outlives_its_hasher(self, hasher: AsyncHasher) -> None:
        """A hasher that was made anew, as after a restart, verifies what an earlier one hashed."""
        stored = await hasher.hash(SECRET)
        with self.open_hasher() as again:
            expect(again.verify(stored, SECRET), True, "it has the same keys")

    @promise("verify")
    async def test_a_verify_of_what_is_no_hash_is_false_without_an_error(self, hasher: AsyncHasher) -> None:
        """Whatever text a store gives back is taken: what no hasher made is False, and costs no memory or time."""
        for text in NO_HASHES:
            expect(await hasher.verify(text, SECRET), False, f"{text[:40]!r} is no hash")

    @promise("verify")
    async def test_a_changed_hash_is_false_without_an_error(self, hasher: AsyncHasher) -> None:
        """A hash that was cut, doubled, or spelled in another case is False."""
        stored = await hasher.hash(SECRET)
        changed = {stored[:-1], stored[1:], stored[: len(stored) // 2], stored + stored, f" {stored}", stored[::-1]}
        for text in sorted(changed | {stored.swapcase(), f"{stored[:-2]}é"}):
            expect(await hasher.verify(text, SECRET), False, "it is not what was stored")

    @promise("verify")
    async def test_answers_are_true_or_false(self, hasher: AsyncHasher) -> None:
        """A verify answers True or False itself, and nothing else that passes for them."""
        stored = await hasher.hash(SECRET)
        for secret in (SECRET, bytes(32)):
            answer = await hasher.verify(stored, secret)
            expect_that(type(answer) is bool, f"expected True or False, got {answer!r}")

    @promise("hash")
    async def test_several_threads_may_hash_and_verify(self, hasher: AsyncHasher) -> None:
        """Hashes made in several threads at once each verify their own secret."""
        secrets = [bytes([number]) * 32 for number in range(8)]
        hashes = await self.together(*(hasher.hash(secret) for secret in secrets))
        pairs = list(zip(hashes, secrets, strict=True))
        answers = await self.together(*(hasher.verify(stored, secret) for stored, secret in pairs))
        expect(answers, [True] * len(pairs), "no thread's work runs into another's")

    @explored_promise("verify")
    def test_any_text_is_taken(self) -> None:
        """Whatever text and bytes, verify answers False and raises nothing."""
        from resetkit.testing._explore import explore_verify  # noqa: PLC0415  # Hypothesis is in the extra

        explore_verify(self)
