"""What an adapter tells by the way: log lines, and errors with those behind them."""

import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager

from typing_extensions import override


@contextmanager
def listening(name: str | None = None, level: int = logging.INFO) -> Generator[list[str], None, None]:
    """The lines logged meanwhile, at this level and above, with their arguments; by default as an application logs."""
    logger, listener = logging.getLogger(name), _Listener(level)
    usual = logger.level
    logger.addHandler(listener)
    logger.setLevel(level)
    try:
        yield listener.lines
    finally:
        logger.setLevel(usual)
        logger.removeHandler(listener)


def told_by(error: BaseException | None) -> list[str]:
    """What a log shows of an error and of those that led to it, unless ``raise ... from None`` hides them."""
    if error is None:
        return []
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ["".join(traceback.format_exception_only(error)), repr(error), *told_by(behind)]


class _Listener(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, with what formatters would add."""
        self.lines.append(f"{self.format(record)} {record.args!r}")
