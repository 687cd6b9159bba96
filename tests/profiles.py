"""What Hypothesis explores, changed for a while."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from hypothesis import Phase, settings


@contextmanager
def profile(**changes: Any) -> Generator[None, None, None]:
    """The suite's own profile but for the changes; afterwards again the one that this run was given."""
    given = settings()
    _load("for a while", settings(settings.get_profile("resetkit"), **changes))
    try:
        yield
    finally:
        _load("as given", given)


def _load(name: str, wanted: settings) -> None:
    settings.register_profile(name, wanted)
    settings.load_profile(name)


def unshrunk(**changes: Any) -> AbstractContextManager[None]:
    """That a failure is found is enough: what shows it best is of no interest, and takes long."""
    return profile(phases=[Phase.generate], **changes)
