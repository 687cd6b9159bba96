"""What no visitor sees of a reset: the mails and the events, in the order in which they came."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage

from resetkit.events import Event


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """One mail or event, its number from 1 on, and when it came, by the machine's own time."""

    number: int
    at: datetime
    what: EmailMessage | Event


class Backstage:
    """Takes mails and events from any thread, and lets others wait for the next."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._changed = threading.Condition()
        self._closed = False

    def take(self, what: EmailMessage | Event) -> None:
        """Keep one more."""
        with self._changed:
            self._entries.append(Entry(len(self._entries) + 1, datetime.now().astimezone(), what))
            self._changed.notify_all()

    def entries(self, after: int = 0) -> Sequence[Entry]:
        """Those with a higher number than `after`."""
        with self._changed:
            return self._entries[max(0, after) :]

    def wait(self, after: int, timeout: float) -> Sequence[Entry] | None:
        """As `entries`, as soon as there are some, or none after `timeout` seconds. None when all has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._entries) > after, timeout)
            return None if self._closed else self._entries[max(0, after) :]

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
