"""``override``, which marks for type checkers what replaces a method of a base class."""

from typing import TYPE_CHECKING, TypeVar

__all__ = ["override"]

if TYPE_CHECKING:
    from typing_extensions import override
else:  # typing has it from Python 3.12 on only, and typing_extensions takes milliseconds to import
    T = TypeVar("T")

    def override(method: T) -> T:
        """`method`, as it is."""
        return method
