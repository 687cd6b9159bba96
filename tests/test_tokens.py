"""The forms of tokens, what binds their hashes, the link's template and the keys of the throttle."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness import ADDRESS
from resetkit import Account, ConfigurationError, ResetManager
from resetkit._confidential import Secret
from resetkit._keys import client_form, identifier_form, throttle_key
from resetkit._link import check_link, fill_link
from resetkit._tokens import (
    bind,
    decoy_account_id,
    digest,
    link_token,
    make_secret,
    make_selector,
    parse_token,
    stamp_digest,
    stored_part,
)
from resetkit.mailers import MemoryMailer
from resetkit.stores import MemoryTokenStore
from resetkit.testing import FakeAccounts
from resetkit.testing._records import NOW, record

entropy16, entropy32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)


class TestForms:
    @given(entropy16, entropy32)
    def test_a_link_token_reads_as_it_was_made(self, for_selector: bytes, for_secret: bytes) -> None:
        selector, secret = make_selector(for_selector), make_secret(for_secret)
        token = link_token(selector, secret)
        parsed = parse_token(token)
        assert parsed is not None
        assert (parsed.part, parsed.selector, parsed.secret) == ("link", selector, secret)
        assert len(token) == 96
        assert token.isalnum()

    @given(st.text())
    def test_any_text_is_a_token_or_none(self, text: str) -> None:
        assert parse_token(text) is None

    def test_no_bit_of_entropy_is_lost(self) -> None:
        """A selector holds 128 bits, a secret 256, so a change of any byte changes them."""
        assert make_selector(bytes(range(16))) == bytes(range(16)).hex()
        assert make_secret(bytes(range(32))) == bytes(range(32)).hex()

    def test_a_record_without_a_code_has_no_hash_for_one(self) -> None:
        bare = record()
        full = record(code_hash="code hash", code_expires_at=NOW)
        assert stored_part(bare, "link") == (bare.link_hash, bare.expires_at)
        assert stored_part(bare, "code") is None
        assert stored_part(full, "code") == ("code hash", NOW)

    def test_a_decoy_s_account_is_its_selector_s_own(self) -> None:
        assert decoy_account_id("a") != decoy_account_id("b")


WITHOUT_NUL = st.text(st.characters(exclude_categories=[], exclude_characters="\0"))
PARTS = st.tuples(WITHOUT_NUL, WITHOUT_NUL, st.text(st.characters(exclude_categories=[])))

BOUND: dict[str, Any] = {
    "realm": "realm",
    "kind": "mail",
    "selector": "selector",
    "account_id": "alice",
    "stamp_digest": "digest",
    "expires_at": NOW,
}


class TestBinding:
    @pytest.mark.parametrize(
        "change",
        [
            {"realm": "other"},
            {"kind": "operator"},
            {"selector": "other"},
            {"account_id": "bob"},
            {"stamp_digest": "other"},
            {"expires_at": NOW + timedelta(seconds=1)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_every_field_of_the_record_is_bound(self, change: dict[str, Any]) -> None:
        assert bind("link", "secret", **BOUND) != bind("link", "secret", **BOUND | change)

    def test_the_formats_of_what_is_kept_are_fixed(self) -> None:
        """Or an upgrade would end every outstanding token."""

        def hashed(*parts: str) -> bytes:
            return hashlib.sha256("\0".join(parts).encode()).digest()

        account = Account(id="alice", email=ADDRESS, stamp="stamp")
        kept = hashed("resetkit-1", "stamp", "realm", "alice", "selector", ADDRESS, "stamp").hex()
        assert stamp_digest("realm", "selector", account) == kept
        expiry = str(int(NOW.timestamp()))
        bound = hashed(
            "resetkit-1", "secret", "realm", "mail", "link", "selector", "alice", "digest", expiry, "the secret"
        )
        assert bind("link", "the secret", **BOUND) == bound

    def test_part_and_secret_are_bound(self) -> None:
        bound = bind("link", "secret", **BOUND)
        assert bound != bind("code", "secret", **BOUND)
        assert bound != bind("link", "secret ", **BOUND)
        assert len(bound) == 32

    @given(first=PARTS, second=PARTS)
    @example(first=("a", "bc", ""), second=("ab", "c", ""))
    @example(first=("", "", "\0a"), second=("", "", "a"))
    def test_no_two_lists_of_as_many_parts_give_the_same_bytes(
        self, first: tuple[str, str, str], second: tuple[str, str, str]
    ) -> None:
        """As long as only the last holds NUL: no field of the values does, but the stamp."""
        assert (digest(*first) == digest(*second)) == (first == second)

    @pytest.mark.parametrize("change", [{"id": "bob"}, {"stamp": "other"}, {"email": "Alice@example.org"}])
    def test_the_stamp_s_digest_holds_account_stamp_and_exact_address(self, change: dict[str, str]) -> None:
        fields: dict[str, Any] = {"id": "alice", "email": ADDRESS, "stamp": "stamp"}
        changed: dict[str, Any] = fields | change
        account, other = Account(**fields), Account(**changed)
        assert stamp_digest("", "s", account) != stamp_digest("", "s", other)

    def test_the_stamp_s_digest_holds_realm_and_selector(self) -> None:
        """Two accounts, mails or tenants with the same password hash share nothing (CVE-2015-2559)."""
        account = Account(id="alice", email=ADDRESS, stamp="")
        digests = {stamp_digest(realm, selector, account) for realm in "ab" for selector in "ab"}
        assert len(digests) == 4

    def test_a_stamp_may_be_any_text(self) -> None:
        assert stamp_digest("", "s", Account(id="a", email=ADDRESS, stamp="\0\ud800" * 1000))


GOOD_LINKS = [
    "https://app.example/reset#{token}",
    "https://app.example/reset/{token}",
    "https://app.example/reset/{token}/done",
    "https://app.example/reset?token={token}",
    "https://app.example/?a=b&token={token}#c",
    "https://app.example/?next=%2Fhome&token={token}",
    "https://app.example:8443/{token}",
    "https://app.example:1/{token}",
    "https://xn--bcher-kva.example/reset#{token}",
    "https://192.0.2.1/reset#{token}",
    "https://[2001:db8::1]/reset#{token}",
    "http://localhost:8000/reset#{token}",
    "http://127.0.0.1/reset#{token}",
    "http://[::1]:8000/reset#{token}",
    "https://app.example#{token}",
    "https://app.example?t={token}",
]

BAD_LINKS = [
    "",
    "https://app.example/reset",
    "{token}",
    "https://{token}",
    "https://{token}/",
    "https://{token}.app.example/",
    "https://app.example{token}",
    "https://app.example:{token}/",
    "https://app.example/{token}{token}",
    "https://app.example/{token}/{user}",
    "https://app.example/{0}/{token}",
    "https://app.example/{ token }",
    "http://app.example/reset#{token}",
    "http://127.0.0.1.evil.example/#{token}",
    "http://localhost.evil.example/#{token}",
    "ftp://app.example/#{token}",
    "javascript:alert(1)//{token}",
    "//app.example/#{token}",
    "/reset#{token}",
    "https:///reset#{token}",
    "https://good.example@evil.example/#{token}",
    "https://user:password@app.example/#{token}",
    "https://@app.example/#{token}",
    "https://app.example\\@evil.example/#{token}",
    "https://app.example/\\#{token}",
    "https://app.example/#{token}\r\nX: y",
    "https://app.example/#{token}\n",
    "https://app.example/ #{token}",
    "https://app.example/\0#{token}",
    "https://bücher.example/#{token}",
    "https://app.example/<b>#{token}",
    'https://app.example/"#{token}',
    "https://app..example/#{token}",
    "https://-app.example/#{token}",
    "https://app_x.example/#{token}",
    "https://app.example:99999/#{token}",
    "https://app.example:0/#{token}",
    "https://[::1/#{token}",
    "https://[::1].evil.example/#{token}",
    "http://[::1]000:8000/#{token}",
    "http://[::1%25evil]/#{token}",
    "https://[v1.x]/#{token}",
    "https://app.example/%{token}",
    "https://app.example/?t=%2{token}",
    "https://app.example/%zz#{token}",
    "https://%61pp.example/#{token}",
    None,
    5,
    b"https://app.example/#{token}",
]


class TestLink:
    @pytest.mark.parametrize("template", GOOD_LINKS)
    def test_a_plain_https_page_is_taken_as_it_is(self, template: str) -> None:
        assert check_link(template) == template
        assert fill_link(template, Secret("t0k")) == template.replace("{token}", "t0k")

    @pytest.mark.parametrize("template", BAD_LINKS)
    def test_anything_else_is_refused_at_construction(self, template: Any) -> None:
        """CVE-2026-22794, CVE-2025-48936, CVE-2012-4520: no request ever has a say in the link."""
        with pytest.raises(ConfigurationError, match="link"):
            ResetManager(FakeAccounts(), MemoryTokenStore(), MemoryMailer(), link=template)

    @pytest.mark.parametrize(
        ("template", "saying"),
        [
            (None, 'link must be a str such as "https://'),
            ("https://app.example/reset", "link must hold {token} exactly once, not 0 times"),
            ("https://app.example/{token}{token}", "link must hold {token} exactly once, not 2 times"),
            ("https://app.example/\\{token}", "link holds '\\\\', which a URL may not hold: only {token} is filled in"),
            ("https://[::1/#{token}", "link has an address or port that cannot be read"),
            ("//app.example/#{token}", "link must be absolute"),
            ("https:///reset#{token}", "link must be absolute"),
            ("https://:80/#{token}", "link must name its host plainly"),
            ("https://app.example:0/#{token}", "link must name its host plainly"),
            ("https://{token}.app.example/", "link must name its host plainly"),
            ("https://user@app.example/#{token}", "link must name its host plainly"),
            ("https://app_x.example/#{token}", "link must name its host in letters"),
            ("http://app.example/#{token}", "link must start with https://"),
            ("ftp://localhost/#{token}", "link must start with https://"),
        ],
    )
    def test_the_error_says_what_is_wrong(self, template: object, saying: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            check_link(template)
        assert str(refused.value).startswith(saying)

    def test_there_is_no_manager_without_a_link(self) -> None:
        """Appsmith GHSA-j9gf-vw2f-9hrw: no fallback exists."""
        with pytest.raises(TypeError, match="link"):
            ResetManager(FakeAccounts(), MemoryTokenStore(), MemoryMailer())  # type: ignore[call-arg]  # that is the point


class TestKeys:
    @pytest.mark.parametrize(
        ("client", "form"),
        [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 ", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:0DB8:0:0:1:2:3:4", "2001:db8::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("fe80::1%any%zone", "fe80::/64"),
            ("2001:db8:0:1::", "2001:db8:0:1::/64"),
            ("session 5", "session 5"),
            ("", ""),
            ("\ud800", "\ud800"),
            ("999.1.1.1", "999.1.1.1"),
        ],
    )
    def test_a_client_counts_by_its_network(self, client: str, form: str) -> None:
        assert client_form(client) == form

    @given(st.text())
    def test_the_form_of_an_identifier_has_a_form_of_its_own(self, identifier: str) -> None:
        """Spotify 2013: a canonical form that changes when taken twice lets one name count as two."""
        once = identifier_form(identifier)
        assert identifier_form(once) == once

    @pytest.mark.parametrize(
        "spelling", ["MIKE@EXAMPLE.ORG", "mi\u212ae@example.org", " mike@example.org\u00a0", "ｍike@example.org"]
    )
    def test_spellings_count_together(self, spelling: str) -> None:
        """CVE-2025-64526: case, Unicode form and white space are one bucket."""
        assert identifier_form(spelling) == "mike@example.org"

    def test_a_key_is_a_digest_that_holds_no_address(self) -> None:
        keys = {
            throttle_key(purpose, realm, ADDRESS)
            for purpose in ("request-client", "request-identifier", "redeem-client")
            for realm in ("", "b")
        }
        assert len(keys) == 6
        assert all(len(key) == 64 and ADDRESS not in key for key in keys)
