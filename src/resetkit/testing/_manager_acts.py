"""What may happen in a story: each act takes a few small numbers, so that whoever draws them can draw fewer.

Acts that need something which is not there make it, or do nothing. A pick of 0 is the newest.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from resetkit.errors import ThrottledError
from resetkit.testing._manager_assembly import PortName
from resetkit.testing._manager_judge import Shown
from resetkit.testing._manager_story import NAMES, Story

T = TypeVar("T")
Spelling = Callable[[str], str]
Where = tuple[PortName, str]
Fate = Callable[[Story, Shown], None]

SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)


# Visitors and jobs.


def mail(story: Story, who: int, spelt: Spelling, code: bool, worker: bool) -> None:  # noqa: FBT001  # drawn
    """Somebody asks, and is mailed: so that stories have something to go on with."""
    before = len(story.jobs)
    story.ask(spelt(_email(story, who)), client=None, code=code)
    if len(story.jobs) > before:
        story.run(story.jobs[-1], worker=worker)


def mail_while_failing(story: Story, where: Where, after: bool, who: int, code: bool, worker: bool) -> None:  # noqa: FBT001  # drawn
    story.plan_failure(*where, None, after=after)
    mail(story, who, str, code, worker)


def ask(story: Story, who: int, spelt: Spelling, client: str | None, code: bool) -> None:  # noqa: FBT001  # drawn
    story.ask(spelt(_email(story, who)), client=client, code=code)


def ask_for_anything(story: Story, typed: str, client: str | None, code: bool) -> None:  # noqa: FBT001  # drawn
    story.ask(typed, client=client, code=code)


def run_job(story: Story, pick: int, again: bool, how: str) -> None:  # noqa: FBT001  # drawn
    jobs = story.done if again else story.jobs
    if not jobs:
        return
    job = _picked(jobs, pick)
    if how == "elsewhere":
        story.run_elsewhere(job)
    elif how == "never" and not again:
        story.drop(job)
    else:
        story.run(job, worker=how == "by a worker")


def redeem(story: Story, pick: int, client: str | None, rejected: bool, password: str) -> None:  # noqa: FBT001  # drawn
    if token := _good(story, pick):
        story.redeem(token, client=client, rejected=rejected, password=password)


def redeem_while_failing(story: Story, where: Where, after: bool, pick: int, rejected: bool) -> None:  # noqa: FBT001  # drawn
    if token := _good(story, pick):
        story.plan_failure(*where, None, after=after)
        story.redeem(token, client=None, rejected=rejected)


def present_later(story: Story, pick: int, fates: list[Fate], how: str) -> None:
    """Something befalls a good token, and then somebody comes with it."""
    if token := _good(story, pick):
        for fate in fates:
            fate(story, token)
        if how == "looks":
            story.look(token, client=None)
        else:
            story.redeem(token, client=None, rejected=how == "is refused")


def present(story: Story, pick: int, other: int, how: int, client: str | None, redeems: bool) -> None:  # noqa: FBT001  # drawn
    """Any token, good or not: as it is, in another realm, or mangled."""
    if not story.tokens:
        return
    token = _picked(story.tokens, pick)
    if how == 0:
        _present(story, token, client, redeems=redeems)
    elif how == 1:
        story.look(token, client=client, elsewhere=True)
    else:
        mangled = _mangled(token, _picked(story.tokens, other))
        _present(story, mangled[how % len(mangled)], client, redeems=redeems)


def guess(story: Story, pick: int, client: str | None, redeems: bool, times: int) -> None:  # noqa: FBT001  # drawn
    for _ in range(times if story.handles else 0):
        handle = _picked(story.handles, pick)
        wrong = Shown(f"a wrong code with {handle.label}", f"{handle.text}-BBBBBBBB")
        _present(story, wrong, client, redeems=redeems)


def redeem_nonsense(story: Story, text: str) -> None:
    story.redeem(Shown(repr(text[:40]), text), client=None)


def redeem_with_nothing(story: Story, pick: int, password: str) -> None:
    if story.tokens:
        story.redeem_with(_picked(story.tokens, pick), password)


# What happens besides.


def pause(_story: Story) -> None:
    """Nothing: what the acts that do not matter become in the shortest story."""


def change_account(story: Story, who: int, what: str) -> None:
    account_id = _id(story, who)
    if account_id in story.model.people:
        _change(story, account_id, what)
    else:
        story.join(account_id, NAMES[who])


def wait(story: Story, span: timedelta | None, pick: int, aside: timedelta) -> None:
    """For a while, or until something changes, or a second to either side."""
    if span is None and (ahead := story.model.ahead()):
        span = max(_picked(ahead[::-1], pick) + aside - story.model.clock.now, timedelta(0))
    story.wait(span or SECOND)


def issue(story: Story, who: int, lifetime: timedelta) -> None:
    story.issue(_id(story, who), lifetime)


def revoke(story: Story, who: int) -> None:
    story.revoke(_id(story, who))


def purge(story: Story, late: bool) -> None:  # noqa: FBT001  # drawn
    if late:
        now = story.model.clock.now
        story.wait(max((now, *(each.keep_until for each in story.model.store.records.values()))) - now + SECOND)
    story.purge()


def fail(story: Story, where: Where, after: bool, full: bool) -> None:  # noqa: FBT001  # drawn
    port, method = where
    story.plan_failure(port, method, ThrottledError(5) if full and port == "dispatcher" else None, after=after)


# How the choices are made.


def _id(story: Story, who: int) -> str:
    return (*story.ids, "9")[who]


def _email(story: Story, who: int) -> str:
    person = story.model.people.get(_id(story, who))
    return person.email if person else "nobody@example.org"


def _picked(things: Sequence[T], pick: int) -> T:
    return things[-1 - min(pick, len(things) - 1)]


def _good(story: Story, pick: int) -> Shown | None:
    """A good token; where there is none, somebody asks first."""
    if not story.good():
        mail(story, pick % len(NAMES), str, code=pick % 2 == 1, worker=False)
    good = story.good()
    return _picked(good, pick // 2) if good else None


def _present(story: Story, token: Shown, client: str | None, *, redeems: bool) -> None:
    if redeems:
        story.redeem(token, client=client)
    else:
        story.look(token, client=client)


# What befalls a good token before somebody comes with it.


def expires(story: Story, token: Shown) -> None:
    story.wait(story.left(token))


def has_a_second_left(story: Story, token: Shown) -> None:
    story.wait(max(story.left(token) - SECOND, timedelta(0)))


def is_revoked(story: Story, token: Shown) -> None:
    story.revoke(story.owner(token))


def is_newly_mailed(story: Story, token: Shown) -> None:
    mail(story, story.ids.index(story.owner(token)), str, code=False, worker=False)


def is_mailed_again(story: Story, token: Shown) -> None:
    for job in [job for job in story.done if job.content.get("selector") == token.text[:32]][:1]:
        story.run(job, worker=False)


def is_guessed_at(story: Story, token: Shown) -> None:
    story.look(_mangled(token, token)[-1], client=None)


def is_seen_elsewhere(story: Story, token: Shown) -> None:
    story.look(token, client=None, elsewhere=True)


def has_a_sibling(story: Story, token: Shown) -> None:
    story.issue(story.owner(token), DAY)


def _of_owner(what: str) -> Fate:
    def befall(story: Story, token: Shown) -> None:
        if story.owner(token) in story.model.people:
            _change(story, story.owner(token), what)

    return befall


CHANGES: Final = ("address", "password", "standing", "deleted", "recreated")
OWNERS: Final[tuple[Fate, ...]] = tuple(map(_of_owner, CHANGES))
ENDS: Final[tuple[Fate, ...]] = (expires, has_a_second_left, is_revoked, is_newly_mailed)
TURNS: Final[tuple[Fate, ...]] = (is_mailed_again, is_guessed_at, is_revoked, has_a_sibling, is_seen_elsewhere)


def _change(story: Story, account_id: str, what: str) -> None:
    name = NAMES[story.ids.index(account_id)]
    match what:
        case "address":
            story.change_address(account_id, name)
        case "password":
            story.change_password(account_id)
        case "standing":
            story.let_reset(account_id, can_reset=not story.model.people[account_id].can_reset)
        case "deleted":
            story.delete(account_id)
        case _:
            story.delete(account_id)
            story.join(account_id, name)


def _mangled(token: Shown, beside: Shown) -> list[Shown]:
    text, label = token.text, token.label
    other = {"0": "1", "B": "C"}.get(text[-1], "B" if "-" in text else "0")
    return [
        Shown(f"{label} with another end", text[:-1] + other),
        Shown(f"{label} in another case", text.swapcase()),
        Shown(f"{label} without its end", text[:-1]),
        Shown(f"the secret of {label} behind the selector of {beside.label}", beside.text[:32] + text[32:]),
        Shown(f"a code with the selector of {label}", f"{text[:32]}-BBBBBBBB"),
    ]
