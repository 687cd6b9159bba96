"""Fixtures that every file may use."""

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import resetkit
from harness import Colour, Harness, StoreKind
from resetkit.stores import MemoryTokenStore, SQLiteTokenStore
from servers import Servers

settings.register_profile(
    "resetkit", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
settings.register_profile("few", settings.get_profile("resetkit"), max_examples=20)
settings.register_profile("mutants", settings.get_profile("few"), derandomize=True)
settings.load_profile("resetkit")

# Counting lines makes a test two to three times slower. These run none that is not run, and counted, by others.
UNCOUNTED = {
    *("test_attacks_pages", "test_mails_browser", "test_web_browser", "test_web_demo_browser"),
    *("test_web_accounts", "test_web_django", "test_web_examples"),
    *("test_benchmarks", "test_faults", "test_interleavings", "test_outages", "test_plans", "test_sharding"),
}
# So do these checks of the kit, on every store but those whose tests are the kit's own.
COUNTED_ONCE = {
    "test_any_sequence_of_calls_is_answered_as_the_model_says",
    "test_a_call_whose_driver_fails_has_happened_or_has_not",
    "test_a_killed_process_leaves_each_operation_done_or_not",
    "test_a_cancelled_call_has_happened_or_has_not",
    "test_of_claims_from_several_processes_one_wins",
    "test_quotas_and_guesses_hold_across_processes",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave them out of what pytest-cov counts, and import now, and counted, what one of them may be first to need."""
    for found in walk_packages(resetkit.__path__, "resetkit."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    for item in items:
        module = item.path.stem
        if module in UNCOUNTED or (item.name in COUNTED_ONCE and module != "test_kit_stores"):
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, so that the collector, which many tests call, passes it by."""
    gc.collect()
    gc.freeze()


MakeHarness = Callable[..., Harness]


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Each test runs against both managers."""
    colour: Colour = request.param
    return colour


@pytest.fixture(params=["memory", "sqlite"])
def store_kind(request: pytest.FixtureRequest) -> StoreKind:
    """Each test runs against both stores."""
    kind: StoreKind = request.param
    return kind


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """A process that is started meanwhile ends by Ctrl-C, though a shell may have had this one ignore it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture
def make_harness(colour: Colour, store_kind: StoreKind, tmp_path: Path) -> Iterator[MakeHarness]:
    """Harnesses with options of the test's own."""
    made: list[Harness] = []

    def make(**options: Any) -> Harness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Harness(colour, store_kind, folder, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def kit(make_harness: MakeHarness) -> Harness:
    """A harness with room in the policy."""
    return make_harness()


@pytest.fixture
def store(store_kind: StoreKind, tmp_path: Path) -> Iterator[MemoryTokenStore | SQLiteTokenStore]:
    """A sync store of either kind, without a manager."""
    if store_kind == "memory":
        yield MemoryTokenStore()
    else:
        sqlite = SQLiteTokenStore(tmp_path / "tokens.sqlite3")
        yield sqlite
        sqlite.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers by name: ``servers["postgres"]`` starts one when it is first asked for."""
    with ExitStack() as stack:
        yield Servers(stack)
