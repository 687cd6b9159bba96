"""What must start afresh in a forked child: locks that another thread held, threads that are gone, open files."""

import os
import weakref
from typing import Final, Protocol


class Forkable(Protocol):
    """An object with state that a child must not share."""

    def _start_afresh(self) -> None: ...


_living: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def start_afresh_in_child(owner: Forkable) -> None:
    """Have `owner` start afresh in every child forked from now on, as long as it lives."""
    _living.add(owner)


def _in_child() -> None:
    for owner in tuple(_living):
        owner._start_afresh()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # private to the package


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
