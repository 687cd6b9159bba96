"""Mails in a list, for tests."""

from typing import ClassVar

from resetkit.mails import Mail, PasswordChangedMail, ResetMail


class _Outbox:
    """The mails, and what a test wants to read of them."""

    sends_nothing: ClassVar[bool] = True
    """So that an `InlineDispatcher` goes with it: see there."""

    def __init__(self) -> None:
        self.outbox: list[Mail] = []

    def last_reset(self, to: str | None = None) -> ResetMail:
        """The newest reset mail, to the address `to` if one is given. Raises LookupError if there is none."""
        for mail in reversed(self.outbox):
            if isinstance(mail, ResetMail) and to in {None, mail.to}:
                return mail
        raise LookupError(_missing("reset mail", to))

    def last_notice(self, to: str | None = None) -> PasswordChangedMail:
        """The newest notice of a changed password, as `last_reset` finds it. Raises LookupError if there is none."""
        for mail in reversed(self.outbox):
            if isinstance(mail, PasswordChangedMail) and to in {None, mail.to}:
                return mail
        raise LookupError(_missing("notice", to))

    def last_link(self, to: str | None = None) -> str:
        """The link in the newest reset mail. Raises LookupError if there is no such mail."""
        return self.last_reset(to).link

    def last_code(self, to: str | None = None) -> str:
        """The code in the newest reset mail. Raises LookupError if there is no such mail, or it has no code."""
        code = self.last_reset(to).code
        if code is None:
            raise LookupError("the newest reset mail has no code: ask with request_reset(..., code=True)")
        return code


def _missing(what: str, to: str | None) -> str:
    where = "" if to is None else " to this address"
    return f"no {what} was sent{where}: has its job run? An InlineDispatcher runs it at once"


class MemoryMailer(_Outbox):
    """Keeps each mail in `outbox`, in the order of sending."""

    def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self.outbox.append(mail)


class AsyncMemoryMailer(_Outbox):
    """`MemoryMailer`, async."""

    async def send(self, mail: Mail, /) -> None:
        """See `Mailer.send`."""
        self.outbox.append(mail)
