"""A record as a row of a table: its fields by name, times in whole seconds."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from resetkit.values import TokenRecord

COLUMNS: Final = tuple(each.name for each in fields(TokenRecord))

_TIMES: Final = frozenset({"created_at", "expires_at", "code_expires_at", "keep_until"})


def seconds(instant: datetime) -> int:
    """Seconds since 1970."""
    return int(instant.timestamp())


def values_of(record: TokenRecord, names: Sequence[str] = COLUMNS) -> dict[str, str | int | None]:
    """The fields of `record` with these names, as columns hold them."""
    return {name: seconds(value) if isinstance(value := getattr(record, name), datetime) else value for name in names}


def record_of(row: Iterable[Any]) -> TokenRecord:
    """The record that stands in a row of all columns."""
    values = dict(zip(COLUMNS, row, strict=True))
    for name in _TIMES:
        if values[name] is not None:
            values[name] = datetime.fromtimestamp(values[name], UTC)
    return TokenRecord(**values)
