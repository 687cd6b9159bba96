"""What a fork must not cut through: locks that another thread holds, threads that stay behind, open databases."""

import os
import weakref
from typing import Final, Protocol

# ruff: noqa: SLF001  # the methods are private to the package, not to their classes
# pyright: reportPrivateUsage=false


class Forkable(Protocol):
    """An object with state that a child must not share."""

    def _start_afresh(self) -> None: ...


class Holdable(Forkable, Protocol):
    """An object that must be at rest while a process forks."""

    def _hold(self) -> None: ...

    def _resume(self) -> None: ...


_living: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
_held: Final[weakref.WeakSet[Holdable]] = weakref.WeakSet()


def start_afresh_in_child(owner: Forkable) -> None:
    """Have `owner` start afresh in every child forked from now on, as long as it lives."""
    _living.add(owner)


def hold_for_forks(owner: Holdable) -> None:
    """Have `owner` at rest in every fork from now on, and start afresh in the child."""
    _held.add(owner)
    start_afresh_in_child(owner)


def _before() -> None:
    for owner in tuple(_held):
        owner._hold()


def _in_parent() -> None:
    for owner in tuple(_held):
        owner._resume()


def _in_child() -> None:
    for owner in tuple(_living):
        owner._start_afresh()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
