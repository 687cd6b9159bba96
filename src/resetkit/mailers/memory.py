"""Mails in a list, for tests."""

from resetkit.mails import Mail


class MemoryMailer:
    """Keeps each mail in `outbox`, in the order of sending."""

    def __init__(self) -> None:
        self.outbox: list[Mail] = []

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self.outbox.append(mail)


class AsyncMemoryMailer:
    """`MemoryMailer`, async."""

    def __init__(self) -> None:
        self.outbox: list[Mail] = []

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self.outbox.append(mail)
