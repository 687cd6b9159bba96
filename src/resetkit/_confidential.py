"""How a secret stays out of reprs, logs, tracebacks and pickles while it is handled."""

import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn, Self, TypeVar, cast

from typing_extensions import override

T = TypeVar("T")

HIDDEN: Final = "<hidden>"


class Confidential:
    """What holds secrets: it refuses pickling, and its copies are itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @override
    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is secret and cannot be pickled; take str() of just what you need")

    def _hide(self, *names: str) -> None:
        """Make each named field of a frozen dataclass a `Secret`, or a tuple of them; leave None."""
        for name in names:
            value: str | tuple[str, ...] | None = getattr(self, name)
            if value is not None and type(value) is not Secret:
                secret = Secret(value) if isinstance(value, str) else tuple(map(Secret, value))
                object.__setattr__(self, name, secret)


class Secret(str, Confidential):
    """Text that is itself in every use, but shows ``<hidden>`` in ``repr``, so also in tracebacks with locals.

    It refuses a deep copy, because that is how ``dataclasses.asdict`` reads a field. ``str()`` gives plain text.
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return HIDDEN

    @override
    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret is not copied, nor read by asdict; take str() of just what you need")


class SecretBytes(bytes):
    """Bytes that are themselves in every use, but show ``<hidden>`` in ``repr``: keys, and what is hashed with them.

    They may be pickled, for a hasher may hand them to another process.
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return HIDDEN


def hidden(value: T) -> T:
    """`value`, as a `Secret` if it is text; what is none is for a check to refuse, once all secrets are hidden."""
    return cast("T", Secret(value)) if isinstance(value, str) else value


@contextmanager
def forget_locals() -> Generator[None, None, None]:
    """`clear_locals` for whatever is raised within."""
    outer = sys.exception()
    try:
        yield
    except BaseException as error:
        clear_locals(error, outer)
        raise


def clear_locals(error: BaseException, outer: BaseException | None) -> None:
    """Forget the variables of the calls that ended with `error`, and with those that led to it.

    A traceback keeps them, and a library that was handed a mail or a row has it there in clear. Lines stay. `outer` is
    what ``sys.exception()`` was before: the caller's own error, which it is handling, and which keeps its variables.
    """
    cleared = [outer]
    behind: BaseException | None = error
    while behind is not None and behind not in cleared:
        traceback.clear_frames(behind.__traceback__)
        cleared.append(behind)
        behind = behind.__cause__ or behind.__context__
