"""Stories of visitors, operators, time and failing ports, as Hypothesis makes them up."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from resetkit.events import Event
from resetkit.policy import ResetPolicy
from resetkit.protocols import AsyncTokenStore
from resetkit.testing import _manager_acts as acts
from resetkit.testing import failing
from resetkit.testing._explore import exploring
from resetkit.testing._kit import BrokenPromiseError, MisuseError
from resetkit.testing._manager_acts import CHANGES, DAY, ENDS, OWNERS, SECOND, TURNS, Fate, Spelling, Where
from resetkit.testing._manager_judge import CLIENTS
from resetkit.testing._manager_story import NAMES, Story
from resetkit.testing._records import NOW
from resetkit.testing.fakes import FakeClock
from resetkit.testing.managers import ManagerChecks
from resetkit.testing.strategies import identifiers, passwords, policies

Act = Callable[[Story], None]

MINUTE: Final = timedelta(minutes=1)

PICKS: Final = st.integers(0, 5)
WHO: Final = st.integers(0, len(NAMES) - 1)
OF_WHOM: Final = st.integers(0, len(NAMES))  # one more than there are
FLAGS: Final = st.booleans()
CALLERS: Final = st.none() | st.sampled_from(sorted(CLIENTS))

SPELLINGS: Final[st.SearchStrategy[Spelling]] = st.sampled_from((str, str.upper, str.title))
OWN_PASSWORD: Final = st.just("")  # the kit's, see `Redeeming.redeem`
PASSWORDS: Final = OWN_PASSWORD | passwords(max_size=40)  # with a number after it, within every policy's length
UNUSABLE: Final = st.sampled_from(("", "\0", "\ud800", "x" * 1025))
LIFETIMES: Final = st.sampled_from((DAY, SECOND, 7 * DAY))
RUNNING: Final = st.sampled_from(("here", "by a worker", "elsewhere", "never"))
RUNNING_AGAIN: Final = st.sampled_from(("here", "by a worker"))
NOT: Final = st.just(False)
YES: Final = st.just(True)
PRESENTING: Final = st.sampled_from(("redeems", "looks", "is refused"))
SPANS: Final = st.none() | st.sampled_from((SECOND, 30 * SECOND, 9 * MINUTE, 60 * MINUTE, DAY, 8 * DAY))
ASIDE: Final = st.sampled_from((timedelta(0), -SECOND, SECOND))

# Half of the stories have room in every limit but that of the outstanding links, for limits end a story early.
ROOM: Final[dict[str, Any]] = {
    "account_quotas": ((20, DAY),),
    "client_limit": (10_000, MINUTE),
    "identifier_limit": (10_000, MINUTE),
}
POLICIES: Final = policies() | policies().map(lambda policy: replace(policy, **ROOM))

# What may fail: anywhere, and where a failure finds its moment at once.
LATE_IN_A_RESET: Final[list[Where]] = [
    *(("accounts", "set_password"), ("accounts", "end_sessions"), ("dispatcher", "dispatch")),
]
EVERYWHERE: Final[list[Where]] = [
    *(("store", method) for method in get_args(failing.StoreMethod)),
    *(("accounts", method) for method in get_args(failing.AccountMethod)),
    *(("hasher", method) for method in get_args(failing.HasherMethod)),
    *(("mailer", "send"), ("throttle", "hit"), ("dispatcher", "dispatch")),
]
IN_A_JOB: Final[list[Where]] = [
    *(("mailer", "send"), ("store", "add"), ("accounts", "find"), ("hasher", "hash"), ("dispatcher", "dispatch")),
]
IN_A_RESET: Final[list[Where]] = [
    *(("store", "claim"), ("store", "release"), ("store", "get"), ("store", "attempt"), ("hasher", "verify")),
    *(("accounts", "get"), *LATE_IN_A_RESET),
]


def _of(places: Sequence[Where]) -> st.SearchStrategy[Where]:
    return st.sampled_from(places)


def _act(act: Callable[..., None], **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.builds(partial, st.just(act), **drawn)


def _some(fates: Sequence[Fate]) -> st.SearchStrategy[list[Fate]]:
    return st.lists(st.sampled_from(fates), min_size=1, max_size=3)


def _alone(fate: Fate) -> list[Fate]:
    return [fate]


def _guessed_first(fates: list[Fate]) -> list[Fate]:
    return [acts.is_guessed_at, *fates]


# Which act, with what: the simplest first. Each is as likely as another, so what matters most stands here twice.
ACTS: Final[st.SearchStrategy[Act]] = st.one_of(
    _act(acts.pause),
    _act(acts.mail, who=WHO, spelt=SPELLINGS, code=FLAGS, worker=FLAGS),
    _act(acts.mail_while_failing, where=_of(IN_A_JOB), after=FLAGS, who=WHO, code=FLAGS, worker=FLAGS),
    _act(acts.ask, who=OF_WHOM, spelt=SPELLINGS, client=CALLERS, code=FLAGS),
    _act(acts.ask_for_anything, typed=identifiers("eve@example.org"), client=CALLERS, code=FLAGS),
    _act(acts.run_job, pick=PICKS, again=NOT, how=RUNNING),
    _act(acts.run_job, pick=PICKS, again=YES, how=RUNNING_AGAIN),
    _act(acts.redeem, pick=PICKS, client=CALLERS, rejected=NOT, password=PASSWORDS),
    _act(acts.redeem, pick=PICKS, client=CALLERS, rejected=FLAGS, password=OWN_PASSWORD),
    _act(acts.redeem_while_failing, where=_of(IN_A_RESET), after=FLAGS, pick=PICKS, rejected=FLAGS),
    _act(acts.redeem_while_failing, where=_of(LATE_IN_A_RESET), after=FLAGS, pick=PICKS, rejected=NOT),
    _act(acts.present_later, pick=PICKS, fates=_some(OWNERS), how=PRESENTING),
    _act(acts.present_later, pick=PICKS, fates=st.sampled_from(OWNERS).map(_alone), how=PRESENTING),
    _act(acts.present_later, pick=PICKS, fates=_some(ENDS), how=PRESENTING),
    _act(acts.present_later, pick=PICKS, fates=_some(TURNS), how=PRESENTING),
    _act(acts.present_later, pick=PICKS, fates=_some(TURNS).map(_guessed_first), how=PRESENTING),
    _act(acts.present, pick=PICKS, other=PICKS, how=st.integers(0, 6), client=CALLERS, redeems=FLAGS),
    _act(acts.present, pick=PICKS, other=PICKS, how=st.just(0), client=CALLERS, redeems=FLAGS),
    _act(acts.guess, pick=PICKS, client=CALLERS, redeems=FLAGS, times=st.integers(1, 5)),
    _act(acts.redeem_nonsense, text=identifiers()),
    _act(acts.redeem_with_nothing, pick=PICKS, password=UNUSABLE),
    _act(acts.change_account, who=WHO, what=st.sampled_from(CHANGES)),
    _act(acts.wait, span=SPANS, pick=PICKS, aside=ASIDE),
    _act(acts.issue, who=OF_WHOM, lifetime=LIFETIMES),
    _act(acts.revoke, who=OF_WHOM),
    _act(acts.purge, late=FLAGS),
    _act(acts.fail, where=_of(EVERYWHERE), after=FLAGS, full=FLAGS),
)


@dataclass(slots=True)
class Run:
    """What the stories of one run know of each other."""

    kit: ManagerChecks
    selectors: list[str] = field(default_factory=list[str])
    """Of the last story's records."""
    went_wrong: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    """What was done in each story that did."""

    def begin(self, store: AsyncTokenStore) -> None:
        """Raise MisuseError if the last story's records are still there."""
        for selector in self.selectors:
            if self.kit.run(store.get(selector)) is not None:
                name = f"{type(self.kit).__name__}.open_ports"
                raise MisuseError(f"{name} must yield a new or emptied store: it has another story's records")


class ManagerMachine(RuleBasedStateMachine):
    """A story, act by act. One rule for all acts: were each its own, Hypothesis would leave half of them out."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._stack = ExitStack()
        run.kit.transcript.begin_anew()

    @initialize(policy=POLICIES)
    def open(self, policy: ResetPolicy) -> None:
        clock, told = FakeClock(NOW), list[Event]()
        assembly = self._stack.enter_context(self._run.kit.assembled(policy, clock, told.append))
        self._run.begin(assembly.store)
        self._story = Story(self._run.kit, assembly, policy, clock, told)

    @rule(act=ACTS)
    def go_on(self, act: Act) -> None:
        act(self._story)

    def teardown(self) -> None:
        with self._stack:
            if hasattr(self, "_story"):  # open_ports may have failed
                self._end(self._story)

    def _end(self, story: Story) -> None:
        try:
            if story.is_sound:
                story.end()
        finally:
            self._run.selectors = list(story.model.store.records) or self._run.selectors
            if not story.is_sound:
                self._run.went_wrong.append(self._run.kit.transcript.lines())
            story.close()


def explore(kit: ManagerChecks) -> None:
    """Tell as many stories as the kit's examples say. The shortest that goes wrong stands in the transcript."""
    chosen = settings(exploring(kit), report_multiple_bugs=False, print_blob=False)
    run = Run(kit)

    class OfKit(ManagerMachine):
        def __init__(self) -> None:
            super().__init__(run)

    try:
        run_state_machine_as_test(OfKit, settings=chosen)
    except BrokenPromiseError as broken:
        broken.__notes__ = []  # Hypothesis's own words for the steps; the transcript has plainer ones
        raise
    except FlakyFailure as flaky:
        raise _by_chance(flaky.exceptions[0], run.went_wrong) from flaky


def _by_chance(first: Exception, went_wrong: Sequence[Sequence[str]]) -> Exception:
    """What to tell of a failure that does not come again."""
    done = "\n".join(f"  {line}" for story in went_wrong[:1] for line in story)
    told = "this came once, and not again when the same was done once more. What was done when it came:"
    return BrokenPromiseError(f"{first}\n{told}\n{done}\nThe last that was done besides:")
