"""Codes, their guesses, and the decoys that make guessing answer alike."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from harness import ADDRESS, KEY, Harness, roomy
from resetkit import InvalidRequestError, InvalidTokenError, KeyedTokenHasher, PasswordRejectedError, code_token
from resetkit._tokens import (
    CODE_ALPHABET,
    CODE_LENGTH,
    decoy_account_id,
    make_code,
    make_secret,
    make_selector,
    parse_token,
)
from resetkit.events import GuessRefused, RequestDropped, TokenRefused

MakeHarness = Callable[..., Harness]

WRONG = "BBBB-BBBB"  # one chance in 1.7 * 10**10 of being right


def reason(kit: Harness, token: str) -> str:
    with pytest.raises(InvalidTokenError) as refused:
        kit.reset(token)
    return refused.value.reason


class TestCodes:
    def test_a_code_resets_once_and_ends_the_link(self, kit: Harness) -> None:
        handle, code = kit.code()
        kit.reset(code_token(handle, code), "by code")
        assert kit.accounts.password("alice") == "by code"
        assert reason(kit, code_token(handle, code)) == "used"
        assert reason(kit, kit.reset_mails[0].token) == "used"

    def test_the_link_of_the_same_mail_works_too(self, kit: Harness) -> None:
        handle, code = kit.code()
        kit.reset(kit.reset_mails[0].token)
        assert reason(kit, code_token(handle, code)) == "used"

    def test_a_handle_is_given_only_when_a_code_was_asked_for_and_then_to_everyone(self, kit: Harness) -> None:
        assert kit.request().handle is None
        assert kit.request("nobody").handle is None
        assert kit.request(code=True).handle is not None
        assert kit.request("nobody", code=True).handle is not None

    def test_a_code_ends_before_its_link(self, kit: Harness) -> None:
        token = kit.code_token()
        kit.advance(minutes=10, seconds=-1)
        kit.check(token)
        kit.advance(seconds=1)
        assert reason(kit, token) == "expired"
        kit.reset(kit.reset_mails[0].token)

    @pytest.mark.parametrize("step", ["store.attempt before", "store.get after"])
    def test_expiry_is_read_after_all_that_may_take_its_time(self, kit: Harness, step: str) -> None:
        """A code that expires while its hash waits for a free place has expired."""
        token = kit.code_token()
        kit.on_step[step] = lambda: kit.advance(minutes=10)
        assert reason(kit, token) == "expired"

    def test_guesses_are_counted_and_then_even_the_right_code_is_unknown(self, kit: Harness) -> None:
        handle, code = kit.code()
        for _ in range(5):
            assert reason(kit, code_token(handle, WRONG)) == "unknown"
        assert reason(kit, code_token(handle, code)) == "unknown"
        assert [event.exhausted for event in kit.of(GuessRefused)] == [False] * 5 + [True]
        kit.reset(kit.reset_mails[0].token)

    def test_the_last_guess_may_be_the_right_one(self, kit: Harness) -> None:
        handle, code = kit.code()
        for _ in range(4):
            assert reason(kit, code_token(handle, WRONG)) == "unknown"
        kit.reset(code_token(handle, code))

    def test_looking_at_a_code_costs_a_guess(self, kit: Harness) -> None:
        token = kit.code_token()
        for _ in range(5):
            kit.check(token)
        assert reason(kit, token) == "unknown"

    def test_a_guess_is_counted_before_it_is_compared(self, kit: Harness) -> None:
        handle, _ = kit.code()
        kit.steps.clear()
        reason(kit, code_token(handle, WRONG))
        assert kit.steps[0] == "store.attempt before"

    def test_a_guess_counts_whatever_became_of_the_record(self, kit: Harness) -> None:
        handle, code = kit.code()
        kit.revoke()
        for _ in range(5):
            assert reason(kit, code_token(handle, code)) == "revoked"
        assert reason(kit, code_token(handle, code)) == "unknown"

    def test_a_right_code_refused_only_for_the_password_gives_its_guess_back(self, kit: Harness) -> None:
        handle, code = kit.code()
        with kit.failing("accounts.set_password before", PasswordRejectedError("too short")):
            for _ in range(9):
                with pytest.raises(PasswordRejectedError):
                    kit.reset(code_token(handle, code), "x")
        kit.reset(code_token(handle, code), "long enough")

    def test_a_newer_code_does_not_refill_the_account_s_day(self, make_harness: MakeHarness) -> None:
        """NIST SP 800-63B-4 3.1.3.2: a new secret resets no count of failures."""
        quotas = ((2, timedelta(hours=24)),)
        kit = make_harness(policy=roomy(account_quotas=quotas))
        for _ in range(9):
            handle = kit.request(code=True).handle
            assert handle is not None
            for _ in range(5):
                reason(kit, code_token(handle, WRONG))
        mailed = {mail.token[:32] for mail in kit.reset_mails}
        assert len(mailed) == 2
        guesses = [event for event in kit.of(GuessRefused) if event.account_id == "alice"]
        assert len(guesses) == 10

    def test_a_code_for_a_record_without_one_is_unknown(self, kit: Harness) -> None:
        token = kit.token()
        kit.steps.clear()
        assert reason(kit, code_token(token[:32], WRONG)) == "unknown"

    def test_of_forty_guesses_at_once_five_are_compared(self, tmp_path: Path) -> None:
        """CVE-2019-5421, GHSA-9pvm-fcf6-9234: through the manager, from eight threads."""
        compared: list[str] = []

        class Counting(KeyedTokenHasher):
            def verify(self, stored: str, secret: bytes, /) -> bool:
                compared.append(stored)
                return super().verify(stored, secret)

        kit = Harness("sync", "sqlite", tmp_path, hasher=Counting([KEY]))
        handle, _ = kit.code()
        record = kit.record(handle)
        assert record is not None
        barrier = threading.Barrier(8)

        def guess(_: int) -> None:
            barrier.wait()
            for _ in range(5):
                reason(kit, code_token(handle, WRONG))

        with ThreadPoolExecutor(8) as guessers:
            list(guessers.map(guess, range(8)))
        assert compared.count(str(record.code_hash)) == 5
        assert len(compared) == 40
        kit.close()


class TestDecoys:
    def dropped(self, kit: Harness) -> list[str]:
        return [event.reason for event in kit.of(RequestDropped)]

    @pytest.mark.parametrize("who", ["unknown", "disabled", "over quota", "empty"])
    def test_guessing_answers_alike_whoever_asked(self, make_harness: MakeHarness, who: str) -> None:
        kit = make_harness(policy=roomy(account_quotas=((1, timedelta(days=1)),)))
        real, _ = kit.code()
        if who == "disabled":
            kit.accounts.change("alice", can_reset=False)
        handle = kit.request({"unknown": "nobody", "empty": "\0"}.get(who, ADDRESS), code=True).handle
        assert handle is not None
        answers: dict[str, list[str]] = {}
        for each in (real, handle):
            kit.steps.clear()
            answers[each] = [reason(kit, code_token(each, WRONG)) for _ in range(6)] + kit.steps
        assert answers[real] == answers[handle]
        mine, decoy = kit.record(real), kit.record(handle)
        assert mine is not None
        assert decoy is not None
        assert (decoy.kind, decoy.state, decoy.guesses) == (mine.kind, "outstanding", mine.guesses)
        assert (decoy.created_at, decoy.expires_at, decoy.code_expires_at, decoy.keep_until) == (
            mine.created_at,
            mine.expires_at,
            mine.code_expires_at,
            mine.keep_until,
        )
        assert decoy.account_id == decoy_account_id(handle)
        assert len(kit.reset_mails) == 1

    @pytest.mark.parametrize("who", ["unknown", "disabled", "over quota", "empty"])
    @pytest.mark.parametrize("code", [False, True])
    def test_a_job_hashes_alike_whoever_asked(self, make_harness: MakeHarness, who: str, code: bool) -> None:
        """A hash keeps the processor busy: whoever goes on asking would see it in the answers."""
        hashed: list[bytes] = []

        class Counting(KeyedTokenHasher):
            @override
            def hash(self, secret: bytes, /) -> str:
                hashed.append(secret)
                return super().hash(secret)

        kit = make_harness(hasher=Counting([KEY]), policy=roomy(account_quotas=((1, timedelta(days=1)),)))
        counts: list[int] = []
        for identifier in (ADDRESS, {"unknown": "nobody", "empty": "\0"}.get(who, ADDRESS)):
            hashed.clear()
            kit.request(identifier, code=code)
            counts.append(len(hashed))
            if who == "disabled":
                kit.accounts.change("alice", can_reset=False)
        assert counts == [1 + code] * 2
        assert len(kit.reset_mails) == 1

    def test_without_a_code_nothing_is_kept_for_a_stranger(self, kit: Harness) -> None:
        kit.request("nobody")
        assert "store.add before" not in kit.steps
        assert self.dropped(kit) == ["unknown"]

    def test_the_directory_never_sees_a_decoy_s_id(self, kit: Harness) -> None:
        seen: list[str] = []
        kit.replace("accounts", "get", seen.append)
        handle = kit.request("nobody", code=True).handle
        assert handle is not None
        reason(kit, code_token(handle, WRONG))
        assert seen == []

    def test_decoys_count_against_no_quota_and_supersede_nothing(self, make_harness: MakeHarness) -> None:
        kit = make_harness(policy=roomy(account_quotas=((1, timedelta(days=1)),)))
        handle, code = kit.code()
        for _ in range(5):
            kit.request(code=True)
        assert self.dropped(kit) == ["quota"] * 5
        kit.reset(code_token(handle, code))

    def test_a_decoy_s_link_opens_nothing(self, kit: Harness) -> None:
        handle = kit.request("nobody", code=True).handle
        assert handle is not None
        assert reason(kit, handle + make_secret(bytes(32))) == "unknown"
        assert {event.reason for event in kit.of(TokenRefused)} == {"unknown"}


class TestForms:
    @given(st.binary(min_size=32, max_size=32))
    def test_every_code_has_eight_letters_of_the_alphabet(self, entropy: bytes) -> None:
        code = make_code(entropy)
        assert len(code) == CODE_LENGTH
        assert set(code) <= set(CODE_ALPHABET)

    def test_the_alphabet_holds_no_vowel_digit_or_look_alike(self) -> None:
        assert not set(CODE_ALPHABET) & set("AEIOUY0123456789Q")
        assert len(set(CODE_ALPHABET)) == len(CODE_ALPHABET)

    @given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32), st.data())
    def test_a_code_is_understood_however_it_is_typed(
        self, selector: bytes, entropy: bytes, data: st.DataObject
    ) -> None:
        handle, code = make_selector(selector), make_code(entropy)
        misread = {"D": "0O", "L": "1I|", "Z": "2", "S": "5$", "G": "6", "B": "8", "V": "U"}
        typed = ""
        for letter in code:
            typed += data.draw(st.sampled_from(["", " ", "-", "–", "\u2011", "\u00a0", ".", "_"]))  # look-alikes
            spellings = [letter, letter.lower(), chr(ord(letter) + 0xFEE0), *misread.get(letter, "")]
            typed += data.draw(st.sampled_from(spellings))
        parsed = parse_token(code_token(handle, typed))
        assert parsed is not None
        assert (parsed.part, parsed.selector, parsed.secret) == ("code", handle, code)

    @given(st.text(), st.text())
    def test_any_text_makes_a_token_that_is_a_code_s_or_none(self, handle: str, typed: str) -> None:
        parsed = parse_token(code_token(handle, typed))
        assert parsed is None or parsed.part == "code"

    def test_a_link_s_secret_typed_as_a_code_is_no_link(self) -> None:
        assert parse_token(code_token("0" * 32, "0" * 64)) is None

    def test_megabytes_are_refused_at_once(self) -> None:
        assert parse_token(code_token("0" * 32, "\u0301" * 1_000_000)) is None
        assert len(code_token("0" * 1_000_000, "B" * 1_000_000)) < 100
        assert code_token("0" * 32, "B" * 64) == f"{'0' * 32}-{'B' * 64}"
        assert code_token("0" * 32, "B" * 65) == f"{'0' * 32}-"

    @pytest.mark.parametrize("value", [None, 5, b"BCDFGHJK", ["BCDFGHJK"], {"$gt": ""}])
    def test_what_is_no_text_is_refused(self, value: object) -> None:
        with pytest.raises(InvalidRequestError, match=r"^typed must be a str"):
            code_token("0" * 32, value)  # type: ignore[arg-type]  # as a framework might
        with pytest.raises(InvalidRequestError, match=r"^handle must be a str"):
            code_token(value, "BCDFGHJK")  # type: ignore[arg-type]  # as a framework might
