"""What the runner needs of an integration: the flow as visitors, the mail server and the log-in page see it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

LINK: Final = "https://app.example/reset#{token}"
"""The template of the link with which a site is opened, but for the cases that are about links."""


@dataclass(frozen=True, slots=True)
class Mailed:
    """One mail that the site sent: the recipients of its envelope, and all its text, with any headers."""

    recipients: tuple[str, ...]
    text: str = field(repr=False)


class Site(Protocol):
    """One application with resetkit in it. No inheritance is needed: any object with these methods will do.

    A page that refuses its input shows it in its answer; an exception that escapes counts as a failure, as a 500 would.
    Calls may come from several threads at once.
    """

    def register(self, email: str, password: str, /) -> None:
        """Make an account that can log in. Raises ValueError if the application takes no such address."""
        ...

    def ask(self, identifier: object, headers: Mapping[str, str], /) -> object:
        """Send the form "forgot password" with these request headers beside the usual ones.

        What comes back is all that a visitor sees of the answer, to be compared by ``==``: take away what differs each
        time, such as a CSRF token. A site without headers may pass them as ``context``. What is no text is sent as
        JSON, or whatever else brings it to the library as it is.
        """
        ...

    def mails(self) -> Sequence[Mailed]:
        """Every mail so far, oldest first, resets and notices; waits for those that are on their way."""
        ...

    def look(self, token: object, /) -> None:
        """Open the page that the link leads to, as a mail scanner does, and send nothing."""
        ...

    def redeem(self, token: object, new_password: object, /) -> bool:
        """Send the form "choose a new password"; whether the answer says that the password was changed."""
        ...

    def logs_in(self, email: str, password: str, /) -> bool:
        """Whether this address and password log in."""
        ...


OpenSite = Callable[[str], AbstractContextManager[Site]]
"""Opens a site that is new or emptied, with this template for its link. Raises ValueError for a link it refuses."""
