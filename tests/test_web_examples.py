"""The web examples as a person uses them, over real sockets, with a real mail server, in plain HTTP."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from persons import ANOTHER, CODE, MAIL, NEW, SAVE, SEND, PlainPerson, play_the_whole_story
from web_sites import ADDRESS, CERTIFICATES, BY_PATH, PASSWORD, Site, open_site


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
