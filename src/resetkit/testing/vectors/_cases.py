"""The cases: read from the JSON files, typed, in the files' order."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

from typing_extensions import override

Result = Literal["valid", "invalid", "acceptable"]
"""Whether an input must be taken, must be refused, or either: refused, or taken and without harm."""

Check = Literal["types", "typed", "stored", "headers", "links", "tokens", "passwords", "orders", "races"]
"""How the cases of a group are tried."""

_RESULTS: Final = get_args(Result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input, and what must become of it. ``str()`` is its id, which no other case has.

    What `input` holds depends on the group's `check`; "Vectors" in the guide for adapters says what.
    """

    id: str
    check: Check
    comment: str
    input: Any = field(repr=False, hash=False)
    result: Result

    @override
    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Cases of one kind. ``sources`` are the ids of the failures that they come from, such as CVE numbers."""

    name: str
    about: str
    sources: tuple[str, ...]
    cases: tuple[Case, ...]


@cache
def groups() -> tuple[Group, ...]:
    """All groups, in the order of their names."""
    found = (each for each in files("resetkit.testing.vectors").iterdir() if each.name.endswith(".json"))
    return tuple(_group(each.read_text("ascii")) for each in sorted(found, key=lambda file: file.name))


def cases(*names: str) -> tuple[Case, ...]:
    """The cases of the groups with these names, of all groups if none is named. Raises LookupError for another name."""
    known = {group.name: group for group in groups()}
    if unknown := set(names) - set(known):
        raise LookupError(f"there is no group {sorted(unknown)}: choose of {sorted(known)}")
    return tuple(case for name in names or known for case in known[name].cases)


def _group(text: str) -> Group:
    content: Any = json.loads(text)
    return Group(
        name=content["name"],
        about=content["about"],
        sources=tuple(content["sources"]),
        cases=tuple(_cases(content["name"], content["check"], content["cases"])),
    )


def _cases(name: str, check: Check, contents: Iterable[Any]) -> Iterable[Case]:
    for each in contents:
        if each["result"] not in _RESULTS:
            raise ValueError(f"{name}: the result of {each['id']} must be one of {_RESULTS}")
        yield Case(
            id=f"{name}:{each['id']}",
            check=check,
            comment=each["comment"],
            input=_whole(each["input"]),
            result=each["result"],
        )


def _whole(value: Any) -> Any:
    """The input, with each ``{"text": ..., "times": n}`` written out: nobody wants to read a megabyte."""
    match value:
        case {"text": str(text), "times": int(times), **rest} if not rest:
            return text * times
        case dict():
            return {name: _whole(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]  # JSON
        case list():
            return [_whole(each) for each in value]  # pyright: ignore[reportUnknownVariableType]  # JSON
        case _:
            return value
