"""Mails in people's languages: the catalogues, which one is whose, what arrives over SMTP, and one's own words."""

import asyncio
import html
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from functools import partial
from gettext import GNUTranslations, translation
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Literal

import pytest
from babel import Locale
from babel.core import get_global
from babel.dates import format_skeleton
from babel.localedata import locale_identifiers
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.units import format_unit
from hypothesis import given, settings
from hypothesis import strategies as st

import resetkit.mailers
from resetkit import (
    Account,
    AsyncResetManager,
    ConfigurationError,
    KeyedTokenHasher,
    Mail,
    PasswordChangedMail,
    ResetMail,
    ResetManager,
)
from resetkit.dispatch import AsyncInlineDispatcher, InlineDispatcher
from resetkit.mailers import AsyncSMTPMailer, SMTPMailer, default_message
from resetkit.stores import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.testing import AsyncFakeAccounts, FakeAccounts, FakeClock
from smtp_server import Delivery, MailServer

SHIPPED = Path(resetkit.mailers.__file__).parent / "locale"
CATALOGUES = ("ar", "de", "es", "fr", "it", "ja", "nl", "pl", "pt", "pt_BR", "tr", "zh_Hans", "zh_Hant")
TAGS = ("en", *(name.replace("_", "-") for name in CATALOGUES))
MANUAL = Path(__file__).parent.parent / "docs" / "mails.md"

NOW = datetime(2030, 11, 5, 12, 0, tzinfo=UTC)
ADDRESS = "alice@example.org"
SENDER = "noreply@mail.example.org"
TOKEN = "0123456789abcdef" * 6
LINK = f"https://app.example/reset#{TOKEN}"
MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they change directions unseen
PLACEHOLDER = re.compile(r"%\((\w+)\)")


def reset_mail(
    tag: str | None,
    *,
    to: str = ADDRESS,
    link: str = LINK,
    code: str | None = "BCDFGHJK",
    lifetime: timedelta = timedelta(minutes=30),
) -> ResetMail:
    """A mail as the manager makes it for an account with this locale."""
    return ResetMail(
        to=to,
        account=Account(id="alice", email=to, stamp="stamp", locale=tag),
        token=TOKEN,
        link=link,
        code=code,
        created_at=NOW,
        expires_at=NOW + lifetime,
        code_expires_at=NOW + timedelta(minutes=10) if code else None,
        locale=tag,
    )


def notice_mail(tag: str | None, *, to: str = ADDRESS) -> PasswordChangedMail:
    """A notice as the manager makes it for Alice's account with this locale."""
    account = Account(id="alice", email=ADDRESS, stamp="stamp", notify=("old@example.org",), locale=tag)
    return PasswordChangedMail(to=to, account=account, changed_at=NOW, locale=tag)


MAILS: dict[str, Callable[[str | None], Mail]] = {
    "reset": partial(reset_mail, code=None),
    "reset with code": reset_mail,
    "notice": notice_mail,
    "notice elsewhere": partial(notice_mail, to="old@example.org"),
}
each_mail = pytest.mark.parametrize("make", MAILS.values(), ids=MAILS.keys())
each_tag = pytest.mark.parametrize("tag", TAGS)
each_catalogue = pytest.mark.parametrize("name", CATALOGUES)


def content(message: EmailMessage, kind: Literal["plain", "html"]) -> str:
    """What stands in one of the parts, with a link line ending of one kind."""
    part = message.get_body((kind,))
    assert part is not None
    return "\n".join(str(part.get_content()).splitlines()) + "\n"


class Page(HTMLParser):
    """A page's elements in order, and its text without the sheet."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.sheet = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data
        else:
            self.sheet += data

    def of(self, **wanted: str) -> list[str]:
        """The tags of the elements that have these attributes."""
        return [tag for tag, found in self.elements if wanted.items() <= found.items()]


def page_of(message: EmailMessage) -> Page:
    return Page(content(message, "html"))


def lang_of(message: EmailMessage) -> str | None:
    """The language that the page says it is in."""
    found = re.search(r'<html lang="([^"]*)"', content(message, "html"))
    return found and found[1]


def chosen(tag: str | None) -> str | None:
    """The language that a notice to an account with this locale is in."""
    return lang_of(default_message(notice_mail(tag)))


def read(name: str) -> Catalog:
    """The source of a shipped catalogue; of the template for an empty name."""
    path = SHIPPED / name / "LC_MESSAGES" / "resetkit.po" if name else SHIPPED / "resetkit.pot"
    with path.open("rb") as file:
        return read_po(file, locale=name or None, domain="resetkit", abort_invalid=True)


def compiled(catalogue: Catalog) -> GNUTranslations:
    """What gettext reads in it."""
    file = BytesIO()
    write_mo(file, catalogue)
    file.seek(0)
    return GNUTranslations(file)


def write(folder: Path, name: str, texts: Mapping[str | tuple[str, str], str]) -> Path:
    """A catalogue of an application's own, of texts by (context and) English text, compiled under `folder`."""
    catalogue = Catalog()
    for key, text in texts.items():
        context, english = key if isinstance(key, tuple) else (None, key)
        catalogue.add(english, text, context=context)
    path = folder / name / "LC_MESSAGES" / "resetkit.mo"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_mo(file, catalogue)
    return folder


# The catalogues.


def each(text: object) -> list[str]:
    """One text, or all forms of one."""
    return [text] if isinstance(text, str) else [str(form) for form in text] if isinstance(text, tuple | list) else []


def forms(message: Message) -> list[tuple[str, str]]:
    """Each English form beside its translation; every plural form beside the English plural."""
    return [(each(message.id)[-1], text) for text in each(message.string)]


def one_number_forms(catalogue: Catalog) -> set[int]:
    """The plural forms that serve one number alone, and so may spell it out: two days, a day."""
    uses = Counter(map(plural_of(catalogue), range(1500)))
    return {form for form, numbers in uses.items() if numbers == 1}


def plural_of(catalogue: Catalog) -> Callable[[int], int]:
    """Which form gettext takes for a number."""
    plural: Callable[[int], int] = vars(compiled(catalogue))["plural"]
    return plural


def faults(catalogue: Catalog, template: Catalog) -> list[str]:
    """What is wrong with a catalogue: each fault with the English text that it is about."""
    known = {(message.id, message.context) for message in template}
    found = [f"unknown: {message.id}" for message in catalogue if (message.id, message.context) not in known]
    found += [f"obsolete: {key}" for key in catalogue.obsolete]
    for wanted in template:
        message = catalogue.get(wanted.id, wanted.context)
        if not wanted.id:
            continue  # the header
        if message is None or not all(each(message.string) or [""]):
            found.append(f"missing: {wanted.id}")
            continue
        found += [f"{fault}: {wanted.id}" for fault in faults_of(message, catalogue)]
    return found


def faults_of(message: Message, catalogue: Catalog) -> Iterator[str]:
    """What is wrong with one translated text."""
    if message.fuzzy:
        yield "fuzzy"
    if message.pluralizable and len(each(message.string)) != catalogue.num_plurals:
        yield "plural forms"
    for _ in message.check(catalogue):
        yield "format"
    alone = one_number_forms(catalogue) if message.pluralizable else set[int]()
    for number, (english, text) in enumerate(forms(message)):
        wanted, named = sorted(PLACEHOLDER.findall(english)), sorted(PLACEHOLDER.findall(text))
        if named != wanted and not (number in alone and not named):
            yield "placeholders"
        if re.search(r"[<>&]|://|\\", text):
            yield "markup"
        if text != text.strip() or re.search(r"[\n\r\t]|  ", text):
            yield "white space"
        if set(text) & set(MARKS):
            yield "invisible marks"
        if re.search(r"[.:]$", english) and not re.search(r"[.:。：]$", text):
            yield "full stop"


class TestCatalogues:
    def test_these_languages_are_shipped(self) -> None:
        assert sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) == sorted(CATALOGUES)

    @each_catalogue
    def test_each_is_complete_with_the_same_placeholders_the_right_plural_forms_and_no_markup(self, name: str) -> None:
        template = read("")
        assert len(template) > 20
        assert faults(read(name), template) == []

    @each_catalogue
    def test_what_gettext_reads_is_what_the_source_says(self, name: str) -> None:
        """The .mo files lie beside the .po files, and each agrees with its own."""
        with (SHIPPED / name / "LC_MESSAGES" / "resetkit.mo").open("rb") as file:
            shipped = GNUTranslations(file)
        source = compiled(read(name))
        assert texts_of(shipped) == texts_of(source)
        assert len(texts_of(shipped)) > 20
        for key in ("language", "plural-forms", "content-type"):
            assert shipped.info()[key] == source.info()[key]

    @each_catalogue
    def test_the_plural_forms_are_those_of_the_language(self, name: str) -> None:
        """Numbers of one CLDR category share a form, and each form has a category, as far as a duration counts."""
        catalogue, locale = read(name), Locale.parse(name)
        plural = plural_of(catalogue)
        seen: dict[str, set[int]] = {}
        for number in range(1, 1500):
            seen.setdefault(locale.plural_form(number), set()).add(plural(number))
        assert all(len(found) == 1 for found in seen.values())
        assert set().union(*seen.values()) | {plural(0)} == set(range(catalogue.num_plurals))

    @each_catalogue
    def test_it_names_its_language_and_direction(self, name: str) -> None:
        texts = translation("resetkit", SHIPPED, [name])
        assert texts.pgettext("language tag", "en") == name.replace("_", "-")
        assert (
            texts.pgettext("direction", "ltr")
            == {"left-to-right": "ltr", "right-to-left": "rtl"}[Locale.parse(name).character_order]
        )

    @each_catalogue
    def test_day_month_and_year_stand_in_the_order_of_the_language(self, name: str) -> None:
        """As CLDR has it; in Arabic from the year down, for digits side by side are read in either direction."""
        texts = translation("resetkit", SHIPPED, [name])
        template = texts.gettext("%(year)d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d UTC")
        usual = re.findall(r"\d+", format_skeleton("yMd", date(2003, 2, 1), locale=name))
        expected = [{"2003": "year", "02": "month", "2": "month", "01": "day", "1": "day"}[each] for each in usual]
        if name == "ar":
            expected = ["year", "month", "day"]
        assert PLACEHOLDER.findall(template) == [*expected, "hour", "minute"]
        assert "UTC" in template

    @each_catalogue
    def test_no_sentence_is_left_in_english(self, name: str) -> None:
        told = [pair for message in read(name) for pair in forms(message)]
        sentences = [(english, text) for english, text in told if " " in english and not PLACEHOLDER.match(english)]
        assert len(sentences) > 15
        assert [english for english, text in sentences if text == english] == []


def texts_of(texts: GNUTranslations) -> dict[object, str]:
    """The texts of a compiled catalogue, without its header."""
    found: dict[object, str] = vars(texts)["_catalog"]
    return {key: text for key, text in found.items() if key}


def changed(catalogue: Catalog, english: str, text: str | tuple[str, ...], *, context: str | None = None) -> None:
    message = catalogue.get(english, context)
    assert message is not None
    message.string = text


ASKED = "Somebody asked for a new password for the account %(address)s at %(site)s."
WORKS = "The code works for %(duration)s, until %(time)s."
TYPE = "Or type this code on the page where you asked:"


def lose_a_placeholder(catalogue: Catalog) -> None:
    changed(catalogue, ASKED, "Ktoś poprosił o nowe hasło w serwisie %(site)s.")


def mistype_a_placeholder(catalogue: Catalog) -> None:
    changed(catalogue, WORKS, "Kod działa przez %(duraton)s, do %(time)s.")


def name_one_twice(catalogue: Catalog) -> None:
    changed(catalogue, WORKS, "Kod działa przez %(time)s, do %(time)s.")


def count_in_one_form_only(catalogue: Catalog) -> None:
    changed(catalogue, "%(count)d minute", ("%(count)d minutę", "minuty", "%(count)d minut"), context="works for")


def forget_a_form(catalogue: Catalog) -> None:
    changed(catalogue, "%(count)d hour", ("%(count)d godzinę", "%(count)d godziny"), context="works for")


def leave_a_form_empty(catalogue: Catalog) -> None:
    changed(catalogue, "%(count)d hour", ("%(count)d godzinę", "%(count)d godziny", ""), context="works for")


def leave_one_empty(catalogue: Catalog) -> None:
    changed(catalogue, TYPE, "")


def leave_one_out(catalogue: Catalog) -> None:
    catalogue.delete(TYPE)


def keep_an_old_one(catalogue: Catalog) -> None:
    catalogue.add("An older text.", "Starszy tekst.")


def guess_one(catalogue: Catalog) -> None:
    message = catalogue.get(TYPE)
    assert message is not None
    message.flags.add("fuzzy")


def write_markup(catalogue: Catalog) -> None:
    changed(catalogue, TYPE, "Możesz też wpisać <b>ten</b> kod:")


def write_an_address(catalogue: Catalog) -> None:
    changed(catalogue, TYPE, "Możesz też wpisać ten kod na https://evil.example:")


def break_a_line(catalogue: Catalog) -> None:
    changed(catalogue, TYPE, "Możesz też\nwpisać ten kod:")


def turn_the_text(catalogue: Catalog) -> None:
    changed(catalogue, TYPE, "Możesz też wpisać \u202eten kod:")


def lose_the_full_stop(catalogue: Catalog) -> None:
    changed(catalogue, WORKS, "Kod działa przez %(duration)s, do %(time)s")


TWINS = {
    lose_a_placeholder: "placeholders",
    mistype_a_placeholder: "format",
    name_one_twice: "placeholders",
    count_in_one_form_only: "placeholders",
    forget_a_form: "plural forms",
    leave_a_form_empty: "missing",
    leave_one_empty: "missing",
    leave_one_out: "missing",
    keep_an_old_one: "unknown",
    guess_one: "fuzzy",
    write_markup: "markup",
    write_an_address: "markup",
    break_a_line: "white space",
    turn_the_text: "invisible marks",
    lose_the_full_stop: "full stop",
}


@pytest.mark.parametrize(("twin", "fault"), TWINS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_catalogue_is_caught(twin: Callable[[Catalog], None], fault: str) -> None:
    catalogue, template = read("pl"), read("")
    twin(catalogue)
    assert fault in {each.partition(":")[0] for each in faults(catalogue, template)}


def test_a_compiled_catalogue_that_was_not_compiled_anew_is_caught() -> None:
    catalogue = read("pl")
    changed(catalogue, TYPE, "Możesz też wpisać ten kod:")
    with (SHIPPED / "pl" / "LC_MESSAGES" / "resetkit.mo").open("rb") as file:
        assert texts_of(compiled(catalogue)) != texts_of(GNUTranslations(file))


# How long, in words.

WORDS: dict[str, dict[timedelta, str]] = {
    "en": {timedelta(minutes=1): "1 minute", timedelta(minutes=30): "30 minutes", timedelta(hours=1): "1 hour"},
    "pl": {
        timedelta(seconds=1): "1 minutę",
        timedelta(minutes=1): "1 minutę",
        timedelta(minutes=2): "2 minuty",
        timedelta(minutes=5): "5 minut",
        timedelta(minutes=12): "12 minut",
        timedelta(minutes=22): "22 minuty",
        timedelta(minutes=30): "30 minut",
        timedelta(minutes=112): "112 minut",
        timedelta(hours=1): "1 godzinę",
        timedelta(hours=2): "2 godziny",
        timedelta(hours=5): "5 godzin",
        timedelta(hours=24): "24 godziny",
    },
    "ar": {
        timedelta(minutes=1): "دقيقة واحدة",
        timedelta(minutes=2): "دقيقتين",
        timedelta(minutes=3): "3 دقائق",
        timedelta(minutes=10): "10 دقائق",
        timedelta(minutes=11): "11 دقيقة",
        timedelta(minutes=30): "30 دقيقة",
        timedelta(minutes=100): "100 دقيقة",
        timedelta(minutes=103): "103 دقائق",
        timedelta(hours=1): "ساعة واحدة",
        timedelta(hours=2): "ساعتين",
        timedelta(hours=5): "5 ساعات",
        timedelta(hours=24): "24 ساعة",
    },
    "fr": {timedelta(minutes=1): "1 minute", timedelta(minutes=90): "90 minutes", timedelta(hours=2): "2 heures"},
    "ja": {timedelta(minutes=1): "1 分", timedelta(hours=24): "24 時間"},
}


@pytest.mark.parametrize(
    ("tag", "lifetime", "words"),
    [(tag, lifetime, words) for tag, table in WORDS.items() for lifetime, words in table.items()],
)
def test_how_long_the_link_works_stands_in_words_with_the_language_s_plurals(
    tag: str, lifetime: timedelta, words: str
) -> None:
    text = plain(default_message(reset_mail(tag, code=None, lifetime=lifetime)))
    assert re.search(rf"(?<!\d){words}(?!\w)", text)


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag not in {"pl", "ar"}])
def test_elsewhere_a_duration_is_said_as_in_cldr(tag: str) -> None:
    """Polish and Arabic decline it after their words for "for", and CLDR does not."""
    locale = Locale.parse(tag, sep="-")
    for minutes in (1, 2, 5, 10, 21, 30, 59, 61, 90, 101):
        said = in_cldr(minutes, "duration-minute", locale)
        text = plain(default_message(reset_mail(tag, code=None, lifetime=timedelta(minutes=minutes))))
        assert said in squeezed(text)
    for hours in (1, 2, 5, 12, 24):
        said = in_cldr(hours, "duration-hour", locale)
        text = plain(default_message(reset_mail(tag, code=None, lifetime=timedelta(hours=hours))))
        assert said in squeezed(text)


def in_cldr(number: int, unit: str, locale: Locale) -> str:
    """As CLDR says it, without spaces; in full, or, where that is the same, as what is short for it."""
    said = (format_unit(number, unit, length, locale=locale) for length in ("long", "short"))
    return next(squeezed(each) for each in said if unit not in each)


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def plain(message: EmailMessage) -> str:
    """The text part as its reader sees it, without marks that nobody sees."""
    return content(message, "plain").translate(dict.fromkeys(map(ord, MARKS)))


# What arrives.


def decoded(raw: bytes) -> str:
    """The subject as another reader decodes it."""
    unfolded = message_from_bytes(raw)["Subject"].replace("\r\n", "")
    return str(make_header(decode_header(unfolded)))


INSTANTS = {
    "en": "2030-11-05 12:{} UTC",
    "ar": "2030/11/05 12:{} UTC",
    "de": "05.11.2030 um 12:{} Uhr (UTC)",
    "es": "05/11/2030 a las 12:{} (UTC)",
    "fr": "05/11/2030 à 12\u00a0h\u00a0{} (UTC)",
    "it": "05/11/2030 alle 12:{} (UTC)",
    "ja": "2030年11月5日 12:{} UTC",
    "nl": "05-11-2030 om 12:{} uur (UTC)",
    "pl": "05.11.2030, godz. 12:{} (UTC)",
    "pt": "05/11/2030 às 12:{} (UTC)",
    "pt-BR": "05/11/2030 às 12:{} (UTC)",
    "tr": "05.11.2030 12:{} (UTC)",
    "zh-Hans": "2030年11月5日 12:{} UTC",
    "zh-Hant": "2030年11月5日 12:{} UTC",
}


@pytest.fixture(scope="module")
def old_server() -> Iterator[MailServer]:
    """A server that takes ASCII alone."""
    with MailServer(smtputf8=False) as server:
        yield server


def deliver(server: MailServer, mail: Mail, *, site: str = "") -> Delivery:
    """What arrives of the default message for this mail."""
    mailer = SMTPMailer(
        "localhost",
        sender=SENDER,
        security="plaintext",
        port=server.port,
        compose=partial(default_message, site=site),
    )
    mailer.send(mail)
    return server.deliveries[-1]


class TestDelivery:
    @each_tag
    @each_mail
    @pytest.mark.parametrize("site", ["", "Example", "Bücherei 図書館 מכתבה مكتبة, Inc. " + "long " * 20])
    def test_the_mail_that_arrives_is_the_mail_that_was_composed_in_each_language(
        self, tag: str, make: Callable[[str | None], Mail], site: str, old_server: MailServer
    ) -> None:
        """Also by a server that takes nothing but ASCII; the subject letter by letter."""
        mail = make(tag)
        delivery = deliver(old_server, mail, site=site.strip())
        composed = default_message(mail, site=site.strip())
        assert delivery.content.isascii()
        assert max(map(len, delivery.content.splitlines())) <= 998
        assert delivery.recipients == (mail.to,)
        arrived = delivery.message
        assert str(arrived["Subject"]) == str(composed["Subject"])
        assert arrived.get_content_type() == "multipart/alternative"
        assert lang_of(arrived) == tag
        for kind in ("plain", "html"):
            assert content(arrived, kind) == content(composed, kind)
        assert site.strip() in arrived["Subject"]
        assert site.strip() in plain(arrived)

    @each_tag
    def test_link_code_address_and_ends_stand_in_both_parts(self, tag: str, old_server: MailServer) -> None:
        message = deliver(old_server, reset_mail(tag), site="Example").message
        for text in (plain(message), page_of(message).text.translate(dict.fromkeys(map(ord, MARKS)))):
            lines = [line.strip() for line in text.splitlines()]
            assert lines.count(LINK) == 1
            assert lines.count("BCDF-GHJK") == 1
            assert ADDRESS in text
            assert INSTANTS[tag].format("30") in text
            assert INSTANTS[tag].format("10") in text

    @each_tag
    def test_the_line_of_the_link_is_the_link_and_nothing_unseen(self, tag: str) -> None:
        """A mark that is copied along with a link or a code would spoil it."""
        text = content(default_message(reset_mail(tag)), "plain")
        assert LINK in text.split("\n")
        assert "    BCDF-GHJK" in text.split("\n")

    @each_tag
    def test_without_a_code_none_is_spoken_of(self, tag: str) -> None:
        with_code, without = (plain(default_message(reset_mail(tag, code=code))) for code in ("BCDFGHJK", None))
        assert len(with_code.split("\n\n")) == len(without.split("\n\n")) + 3
        assert not [line for line in without.splitlines() if line not in with_code.splitlines()]

    @each_tag
    def test_a_notice_has_no_link_no_code_and_the_instant(self, tag: str, old_server: MailServer) -> None:
        message = deliver(old_server, notice_mail(tag), site="Example").message
        page = page_of(message)
        assert not [attributes for _, attributes in page.elements if "href" in attributes]
        for text in (plain(message), content(message, "html")):
            assert "://" not in text
            assert TOKEN not in text
        assert INSTANTS[tag].format("00") in plain(message)

    @each_tag
    def test_a_notice_to_another_address_names_that_one_alone(self, tag: str) -> None:
        for site in ("", "Example"):
            message = default_message(notice_mail(tag, to="old@example.org"), site=site)
            own = default_message(notice_mail(tag), site=site)
            assert "old@example.org" in plain(message)
            assert ADDRESS not in plain(message) + content(message, "html")
            assert plain(message).replace("old@example.org", ADDRESS) != plain(own)

    @settings(deadline=None)
    @given(
        tag=st.sampled_from(TAGS),
        words=st.lists(st.sampled_from(["é", "Köln", "図書館", "مكتبة", "Inc.", "x" * 90, "d'été"]), max_size=30),
        gaps=st.sampled_from([" ", "  ", " - "]),
    )
    def test_a_subject_of_any_length_arrives_letter_by_letter(self, tag: str, words: list[str], gaps: str) -> None:
        """In lines that any reader takes: RFC 2047, 2, wants 76 characters at most."""
        message = default_message(notice_mail(tag), site=gaps.join(words))
        raw = message.as_bytes()
        header = raw.partition(b"\r\nMIME-Version")[0]
        assert header.startswith(b"Subject: ")
        assert header.isascii()
        assert max(map(len, header.splitlines())) <= 76
        read = (message_from_bytes(raw, policy=policy.default)["Subject"], decoded(raw))
        assert [str(each) for each in read] == [str(message["Subject"])] * 2
        assert gaps.join(words) in message["Subject"]

    @each_mail
    def test_no_two_languages_say_the_same(self, make: Callable[[str | None], Mail]) -> None:
        messages = [default_message(make(tag), site="Example") for tag in TAGS]
        assert len({str(message["Subject"]) for message in messages}) == len(TAGS)
        assert len({plain(message) for message in messages}) == len(TAGS)


class AccountsWith(FakeAccounts):
    """Accounts with this locale."""

    def __init__(self, locale: str | None) -> None:
        super().__init__()
        self._locale = locale
        self.add("alice", ADDRESS)

    def get(self, account_id: str, /) -> Account | None:
        account = super().get(account_id)
        return account and replace(account, locale=self._locale)

    def find(self, identifier: str, /) -> Account | None:
        account = super().find(identifier)
        return account and replace(account, locale=self._locale)


class TestTheWholeStory:
    @each_tag
    def test_both_mails_come_in_the_account_s_language_and_hold_no_password(
        self, tag: str, old_server: MailServer
    ) -> None:
        before = len(old_server.deliveries)
        mailer = SMTPMailer("localhost", sender=SENDER, security="plaintext", port=old_server.port)
        with pytest.warns(RuntimeWarning, match="while the visitor waits"):
            manager = ResetManager(
                AccountsWith(tag),
                MemoryTokenStore(),
                mailer,
                link="https://app.example/reset#{token}",
                hasher=KeyedTokenHasher([b"k" * 32]),
                dispatcher=InlineDispatcher(),
                clock=FakeClock(),
            )
        manager.request_reset(ADDRESS, client=None, code=True)
        (link,) = re.findall(r"https://\S+", plain(old_server.deliveries[-1].message))
        manager.reset_password(link.partition("#")[2], "correct horse battery staple")
        reset, notice = (delivery.message for delivery in old_server.deliveries[before:])
        assert [lang_of(message) for message in (reset, notice)] == [tag, tag]
        for message in (reset, notice):
            assert "correct horse" not in plain(message) + content(message, "html") + str(message["Subject"])

    def test_and_so_with_the_async_manager(self, old_server: MailServer) -> None:
        async def story() -> None:
            with pytest.warns(RuntimeWarning, match="while the visitor waits"):
                manager = AsyncResetManager(
                    AsyncFakeAccounts(AccountsWith("pl")),
                    AsyncMemoryTokenStore(),
                    AsyncSMTPMailer("localhost", sender=SENDER, security="plaintext", port=old_server.port),
                    link="https://app.example/reset#{token}",
                    hasher=KeyedTokenHasher([b"k" * 32]),
                    dispatcher=AsyncInlineDispatcher(),
                    clock=FakeClock(),
                )
            async with manager:
                await manager.request_reset(ADDRESS, client=None)

        asyncio.run(story())
        assert lang_of(old_server.deliveries[-1].message) == "pl"


# Which language is whose.

HEARD = {
    None: "en",
    "": "en",
    "C": "en",
    "POSIX": "en",
    "C.UTF-8": "en",
    "*": "en",
    "en-GB": "en",
    "i-klingon": "en",
    "x-private": "en",
    "Deutsch": "en",
    "d": "en",
    "sv": "en",
    "de": "de",
    "DE": "de",
    "de-AT": "de",
    "de_AT.UTF-8": "de",
    "de_DE@euro": "de",
    "de-DE-1996": "de",
    "de-Latn-CH": "de",
    "de-u-co-phonebk": "de",
    "de-AT,en;q=0.5": "de",
    "pt": "pt",
    "pt-PT": "pt",
    "pt_AO": "pt",
    "pt-BR": "pt-BR",
    "PT-br": "pt-BR",
    "pt_BR.ISO8859-1": "pt-BR",
    "pt-Latn-BR": "pt-BR",
    "pt-BRX": "pt",
    "es-419": "es",
    "zh": "zh-Hans",
    "zh-CN": "zh-Hans",
    "zh-Hans-CN": "zh-Hans",
    "zh_CN.GB18030": "zh-Hans",
    "zh-SG": "zh-Hans",
    "zh-TW": "zh-Hant",
    "zh-HK": "zh-Hant",
    "zh_Hant": "zh-Hant",
    "zh-Hant-CN": "zh-Hant",
    "zh-Hans-HK": "zh-Hans",
    "ar-EG": "ar",
    "ar-u-nu-latn": "ar",
    "ſv": "en",
    "\u212ao": "en",
    "dе": "en",  # its second letter is Cyrillic
}


@pytest.mark.parametrize(("tag", "lang"), HEARD.items(), ids=[ascii(tag) for tag in HEARD])
def test_a_tag_finds_its_language(tag: str | None, lang: str) -> None:
    assert chosen(tag) == lang


def test_every_locale_that_cldr_knows_finds_the_language_and_script_that_it_is_in() -> None:
    found = set[str | None]()
    for number, identifier in enumerate(locale_identifiers()):
        locale = Locale.parse(identifier)
        lang = {"zh": f"zh-{script_of(locale)}", "pt": "pt-BR" if locale.territory == "BR" else "pt"}.get(
            locale.language, locale.language
        )
        tag = (identifier, identifier.replace("_", "-"), f"{identifier}.UTF-8")[number % 3]
        heard = chosen(tag)
        assert heard == (lang if lang in TAGS else "en"), tag
        found.add(heard)
    assert found == set(TAGS)


def script_of(locale: Locale) -> str:
    """The script that it is written in, said or not."""
    likely = get_global("likely_subtags")  # zh_TW: zh_Hant_TW
    return locale.script or likely.get(f"zh_{locale.territory}", "zh_Hans_CN").split("_")[1]


subtags = st.text(st.sampled_from("abcdehpnrstuzACDEHRSTUZ0189"), min_size=1, max_size=8)
tags = (
    st.builds(
        "{}{}".format,
        st.sampled_from(TAGS),
        st.lists(st.builds("{}{}".format, st.sampled_from("-_.@;, "), subtags), max_size=4).map("".join),
    )
    | st.text(max_size=40)
    | st.lists(st.sampled_from(["..", "/", "\\", "de", "C:", "%2e", "~", "\0", "\ud800"]), max_size=6).map("".join)
)


@settings(deadline=None)
@given(tags)
def test_whatever_the_tag_there_is_a_mail_in_one_of_the_languages(tag: str) -> None:
    """Also in a mail made by hand, whose tag nobody has checked."""
    mail = notice_mail(None)
    object.__setattr__(mail, "locale", tag)
    message = default_message(mail)
    assert lang_of(message) in TAGS
    assert set(message.keys()) == {"Subject", "MIME-Version", "Content-Type"}


@settings(deadline=None)
@given(
    tag=st.sampled_from(TAGS),
    upper=st.booleans(),
    separator=st.sampled_from("-_"),
    rest=st.sampled_from(["", ".UTF-8", "@euro", ".utf8@latin", ";q=0.8", ",en", " "]),
)
def test_case_separator_and_what_follows_change_nothing(tag: str, upper: bool, separator: str, rest: str) -> None:
    written = (tag.upper() if upper else tag.lower()).replace("-", separator)
    assert chosen(written + rest) == tag


def test_the_language_of_the_process_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is given no language at all, gettext asks the environment."""
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.setenv(variable, "de_DE.UTF-8")
    assert [chosen(tag) for tag in (None, "", "zz", "garbage")] == ["en"] * 4


TRAPS = (
    *("../outside", "../../outside", "..\\outside", "./../outside", "de/../../outside", "outside"),
    *("de_/../../outside", "de-AT/../../outside", "de.UTF-8/../../outside", "de@/../../outside", "%2e%2e/outside"),
)


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder of catalogues, and one outside of it, to which many paths lead."""
    write(tmp_path, "outside", {"If it was you, there is nothing to do.": "TRAPPED"})
    folder = write(tmp_path / "inside", "sv", {("language tag", "en"): "sv"})
    for trap in TRAPS:
        (folder / trap.partition("/")[0]).mkdir(exist_ok=True)
    return folder


class TestPaths:
    def test_no_tag_leads_out_of_the_folder(self, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(inside)
        for tag in (*TRAPS, str(inside.parent / "outside")):
            assert "TRAPPED" not in plain(default_message(notice_mail(tag), localedir=inside))

    @pytest.mark.parametrize("tag", ["../outside", "de_/../../outside"])
    def test_gettext_alone_would_follow_it(self, tag: str, inside: Path) -> None:
        """The trap is one."""
        texts = translation("resetkit", inside, [tag], fallback=True)
        assert texts.gettext("If it was you, there is nothing to do.") == "TRAPPED"


# Catalogues of one's own.


class TestOwnCatalogues:
    def test_a_language_is_added(self, tmp_path: Path, old_server: MailServer) -> None:
        localedir = write(
            tmp_path,
            "he",
            {
                ("language tag", "en"): "he",
                ("direction", "ltr"): "rtl",
                "Your password was changed": "הסיסמה שלך שונתה",
                "The password of the account %(address)s was changed at %(time)s.": (
                    "הסיסמה של החשבון %(address)s שונתה ב-%(time)s."
                ),
                ("works for", "%(count)d minute"): "%(count)d דקות",
            },
        )
        mailer = SMTPMailer(
            "localhost",
            sender=SENDER,
            security="plaintext",
            port=old_server.port,
            compose=partial(default_message, localedir=localedir),
        )
        mailer.send(notice_mail("he-IL"))
        message = old_server.deliveries[-1].message
        assert message["Subject"] == "הסיסמה שלך שונתה"
        assert page_of(message).of(lang="he", dir="rtl") == ["html", "div"]
        assert f"הסיסמה של החשבון \u2068{ADDRESS}\u2069 שונתה" in content(message, "plain")

    def test_short_sentences_are_sent_in_ascii_too(self, tmp_path: Path, old_server: MailServer) -> None:
        """Where each line is short, the standard library would leave it as it is, in eight bits."""
        texts = dict[str | tuple[str, str], str]()
        for message in read("de"):
            if isinstance(message.id, str) and message.id and message.context is None:
                texts[message.id] = "Größe"
        compose = partial(default_message, localedir=write(tmp_path, "de", texts))
        mailer = SMTPMailer("localhost", sender=SENDER, security="plaintext", port=old_server.port, compose=compose)
        mailer.send(notice_mail("de"))
        delivery = old_server.deliveries[-1]
        assert delivery.content.isascii()
        assert plain(delivery.message).split() == ["Größe"] * 3

    def test_what_it_leaves_out_is_said_in_resetkit_s_words(self, tmp_path: Path) -> None:
        localedir = write(tmp_path, "de", {"Your password was changed": "Passwort geändert"})
        own, usual = default_message(notice_mail("de-AT"), localedir=localedir), default_message(notice_mail("de"))
        assert own["Subject"] == "Passwort geändert"
        assert plain(own) == plain(usual)
        assert lang_of(own) == "de"

    def test_the_english_words_may_be_others_too(self, tmp_path: Path) -> None:
        localedir = write(tmp_path, "en", {"If it was you, there is nothing to do.": "Was it you? Then all is well."})
        for tag in ("en", "en-GB", "sv", None):
            assert "Then all is well." in plain(default_message(notice_mail(tag), localedir=localedir))
        german = default_message(notice_mail("de"), localedir=localedir)
        assert plain(german) == plain(default_message(notice_mail("de")))

    def test_a_language_that_only_resetkit_has_stays(self, tmp_path: Path) -> None:
        localedir = write(tmp_path, "sv", {("language tag", "en"): "sv"})
        assert lang_of(default_message(notice_mail("tr"), localedir=str(localedir))) == "tr"
        assert lang_of(default_message(notice_mail("sv"), localedir=str(localedir))) == "sv"

    def test_a_script_is_told_apart_from_the_language_s_other_one(self, tmp_path: Path) -> None:
        write(tmp_path, "sr", {("language tag", "en"): "sr-Cyrl"})
        write(tmp_path, "sr_Latn", {("language tag", "en"): "sr-Latn"})
        for tag, lang in {"sr": "sr-Cyrl", "sr-RS": "sr-Cyrl", "sr-Latn-RS": "sr-Latn", "sr_Latn": "sr-Latn"}.items():
            assert lang_of(default_message(notice_mail(tag), localedir=tmp_path)) == lang

    def test_words_of_one_s_own_are_plain_text_in_the_page(self, tmp_path: Path) -> None:
        evil: dict[str | tuple[str, str], str] = {
            "If it was you, there is nothing to do.": "<script>1</script>",
            ("language tag", "en"): '"><script>',
        }
        message = default_message(notice_mail("de"), localedir=write(tmp_path, "de", evil))
        assert "script" not in {tag for tag, _ in page_of(message).elements}
        assert "<script>1</script>" in page_of(message).text

    @pytest.mark.parametrize("folder", ["missing", "", "de"])
    def test_a_folder_without_a_catalogue_is_refused(self, folder: str, tmp_path: Path) -> None:
        """A wrong path would leave mails in words that nobody chose, and nobody would notice."""
        (tmp_path / "de" / "LC_MESSAGES").mkdir(parents=True)
        (tmp_path / "de" / "LC_MESSAGES" / "resetkit.po").touch()
        with pytest.raises(ConfigurationError, match=r"localedir holds no .*\.mo"):
            default_message(notice_mail("en"), localedir=tmp_path / folder)

    @pytest.mark.parametrize(
        "text", ["%(adress)s: %(time)s", "%(address)s: 100 %", "%(address)d", "%(token)s", "%(link", "%(address)s %"]
    )
    def test_a_placeholder_that_is_none_is_refused_and_the_error_shows_no_address(
        self, text: str, tmp_path: Path
    ) -> None:
        english = "The password of the account %(address)s was changed at %(time)s."
        localedir = write(tmp_path, "de", {english: text})
        with pytest.raises(ConfigurationError, match="no other placeholders than address, site, time") as caught:
            default_message(notice_mail("de"), localedir=localedir)
        assert ADDRESS not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_a_direction_that_is_none_is_refused(self, tmp_path: Path) -> None:
        localedir = write(tmp_path, "he", {("direction", "ltr"): "ימין"})
        with pytest.raises(ConfigurationError, match='"ltr" or "rtl"'):
            default_message(notice_mail("he"), localedir=localedir)

    def test_a_message_has_one_subject(self) -> None:
        message = default_message(notice_mail("de"))
        with pytest.raises(ValueError, match="at most 1"):
            message["Subject"] = "another"

    @pytest.mark.parametrize("line", ["Passwort\r\nBcc: eve@evil.example", "Passwort\nBcc: eve@evil.example"])
    def test_a_subject_of_two_lines_makes_no_message(self, line: str, tmp_path: Path) -> None:
        localedir = write(tmp_path, "de", {"Your password was changed": line})
        with pytest.raises(ValueError, match="linefeed or carriage return"):
            default_message(notice_mail("de"), localedir=localedir)


# The page.

HOSTILE = "<b>Fish & \"Chips\"</b><img src=x onerror='1'>{title}%(link)s%s"


class TestPage:
    @each_tag
    @each_mail
    def test_language_and_direction_are_said_at_the_page_and_once_more_inside(
        self, tag: str, make: Callable[[str | None], Mail]
    ) -> None:
        """Mail programs drop the outermost elements."""
        page = page_of(default_message(make(tag)))
        direction = "rtl" if tag == "ar" else "ltr"
        assert page.of(lang=tag, dir=direction) == ["html", "div"]

    @each_tag
    @each_mail
    def test_it_loads_nothing_from_anywhere(self, tag: str, make: Callable[[str | None], Mail]) -> None:
        mail = make(tag)
        page = page_of(default_message(mail, site="Example"))
        allowed = {"html", "head", "meta", "title", "style", "body", "div", "h1", "p", "a", "span"}
        assert {tag for tag, _ in page.elements} <= allowed
        named = {name for _, attributes in page.elements for name in attributes}
        assert named <= {"lang", "dir", "charset", "name", "content", "class", "style", "href"}
        targets = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
        assert targets == [LINK, LINK] * isinstance(mail, ResetMail)
        styles = [attributes["style"] or "" for _, attributes in page.elements if "style" in attributes]
        assert not [style for style in [page.sheet, *styles] if re.search(r"url|@import|expression|//", style)]

    @each_tag
    def test_it_is_made_for_light_and_dark(self, tag: str) -> None:
        page = page_of(default_message(reset_mail(tag)))
        assert page.of(name="color-scheme", content="light dark") == ["meta"]
        assert page.of(name="viewport", content="width=device-width,initial-scale=1") == ["meta"]
        assert "color-scheme: light dark" in page.sheet
        dark = page.sheet.partition("@media (prefers-color-scheme: dark)")[2]
        named = set(re.findall(r"\.(\w+) \{", dark))
        used = {attributes["class"] for _, attributes in page.elements if "class" in attributes}
        assert named == used == {"page", "card", "button", "address", "code"}

    def test_light_and_dark_colours_are_far_enough_apart_to_read(self) -> None:
        """WCAG 2.2, 1.4.3: 4.5 to 1. In each scheme, what is written against what is behind it."""
        page = page_of(default_message(reset_mail("en")))
        light = {
            str(attributes["class"]): str(attributes["style"])
            for tag, attributes in page.elements
            if "class" in attributes and tag != "body"
        }
        dark = dict(re.findall(r"\.(\w+) \{ (.*) \}", page.sheet.partition("prefers-color-scheme: dark")[2]))
        for scheme in (light, dark):
            page_ink, card = colour("color", scheme["page"]), colour("background", scheme["card"])
            pairs = [
                (page_ink, card),
                (page_ink, colour("background", scheme["page"])),
                (page_ink, colour("background", scheme["code"])),
                (colour("color", scheme["address"]), card),
                (colour("color", scheme["button"]), colour("background", scheme["button"])),
            ]
            assert [pair for pair in pairs if contrast(*pair) < 4.5] == []

    @each_tag
    def test_link_and_code_stand_from_left_to_right_and_the_code_in_letters_that_differ(self, tag: str) -> None:
        page = page_of(default_message(reset_mail(tag)))
        assert page.of(dir="ltr", href=LINK) == ["a"]
        ((_, code),) = [each for each in page.elements if each[1].get("class") == "code"]
        assert code["dir"] == "ltr"
        assert "monospace" in str(code["style"])

    @each_mail
    def test_in_arabic_each_value_is_kept_apart_from_the_words_around_it(
        self, make: Callable[[str | None], Mail]
    ) -> None:
        mail = make("ar")
        message = default_message(mail, site="Example, Inc.")
        for text in (content(message, "plain"), html.unescape(content(message, "html"))):
            bare = re.sub(r"<[^>]*>", "", text)
            assert f"\u2068{mail.to}\u2069" in bare
            assert "\u2068Example, Inc.\u2069" in bare
            assert text.count("\u2068") == text.count("\u2069") > 2
        assert not set(MARKS) & set(message["Subject"])

    @each_tag
    @each_mail
    def test_elsewhere_nothing_unseen_stands_in_a_mail(self, tag: str, make: Callable[[str | None], Mail]) -> None:
        message = default_message(make(tag), site="Example")
        unseen = set(MARKS) & set(content(message, "plain") + content(message, "html"))
        assert bool(unseen) == (tag == "ar")

    @each_tag
    @each_mail
    def test_what_comes_from_outside_stays_text(self, tag: str, make: Callable[[str | None], Mail]) -> None:
        """CVE-2021-21333, and formats within values are no formats."""
        message = default_message(make(tag), site=HOSTILE)
        page = page_of(message)
        assert {"b", "img"} & {tag for tag, _ in page.elements} == set()
        for text in (plain(message), page.text, str(message["Subject"])):
            assert HOSTILE in text

    @each_tag
    def test_an_odd_address_stays_text(self, tag: str) -> None:
        address = "a&b'%s{0}$x`c@example.org"
        message = default_message(reset_mail(tag, to=address), site="Example")
        assert address in plain(message)
        assert address in page_of(message).text
        assert "a&amp;b&#x27;%s{0}$x`c@example.org" in content(message, "html")

    @pytest.mark.parametrize("link", ["https://app.example/?a='b'&c=<d>&token=", "http://[::1]:8000/reset/"])
    @each_tag
    def test_a_link_s_own_signs_are_escaped(self, tag: str, link: str) -> None:
        mail = reset_mail(tag, link=link + TOKEN)
        message = default_message(mail)
        page = page_of(message)
        assert page.of(href=mail.link) == ["a", "a"]
        assert content(message, "html").count(html.escape(mail.link)) == 3
        assert mail.link in [line.strip() for line in page.text.splitlines()]

    @each_tag
    def test_the_instant_is_not_broken_over_two_lines(self, tag: str) -> None:
        source = content(default_message(reset_mail(tag)), "html")
        unbroken = re.findall(r'<span style="white-space:nowrap">([^<]*)</span>', source)
        assert [shown.strip(MARKS) for shown in unbroken] == [INSTANTS[tag].format(minute) for minute in ("30", "10")]


def colour(name: str, style: str) -> int:
    """The colour of this property."""
    return int(re.findall(rf"(?:^|[; ]){name}: ?#([0-9a-f]{{6}})", style)[0], 16)


def contrast(first: int, second: int) -> float:
    """The contrast of two colours (WCAG 2.2, "contrast ratio")."""

    def luminance(colour: int) -> float:
        parts = [(colour >> shift & 255) / 255 for shift in (16, 8, 0)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted([luminance(first), luminance(second)])
    return (light + 0.05) / (dark + 0.05)


# How catalogues are made, as the manual says it.


def commands(heading: str) -> str:
    """The console block under this heading of the manual."""
    section = MANUAL.read_text().partition(f"\n## {heading}\n")[2]
    found = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def run(script: str, folder: Path) -> None:
    """Run it in a shell, with this environment's programs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, check=True, env={**os.environ, "PATH": path})


def test_a_language_is_added_as_the_manual_says(tmp_path: Path) -> None:
    making, _, compiling = commands("Words of your own").partition("# ")
    assert compiling
    run(making, tmp_path)
    source = tmp_path / "locale" / "sv" / "LC_MESSAGES" / "resetkit.po"
    text = source.read_text()
    asked = 'msgid "Your password was changed"\nmsgstr ""'
    assert asked in text
    text = text.replace(asked, asked[:-1] + 'Ditt lösenord har ändrats"')
    source.write_text(text.replace('msgid "en"\nmsgstr ""', 'msgid "en"\nmsgstr "sv"'))
    run(f"# {compiling}", tmp_path)
    message = default_message(notice_mail("sv-SE"), localedir=tmp_path / "locale")
    assert (message["Subject"], lang_of(message)) == ("Ditt lösenord har ändrats", "sv")


def test_the_catalogues_are_up_to_date_as_the_manual_says(tmp_path: Path) -> None:
    """What its commands make of a copy is what is shipped: template, sources and what is compiled from them."""
    copy = tmp_path / "src" / "resetkit"
    shutil.copytree(Path(resetkit.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    run(commands("For who changes resetkit's own texts"), tmp_path)
    for path in sorted(SHIPPED.rglob("resetkit.*")):
        made = copy / path.relative_to(Path(resetkit.__file__).parent)
        if path.suffix == ".mo":
            with path.open("rb") as shipped, made.open("rb") as fresh:
                assert texts_of(GNUTranslations(shipped)) == texts_of(GNUTranslations(fresh))
        else:
            assert without_dates(path) == without_dates(made), path


def without_dates(path: Path) -> list[str]:
    """The lines that another day or another version of Babel does not change."""
    own = ('"POT-Creation-Date', '"PO-Revision-Date', '"Generated-By', "# Copyright", "# FIRST AUTHOR")
    return [line for line in path.read_text().splitlines() if not line.startswith(own)]
