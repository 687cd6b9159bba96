"""From asking to the mail: acts of visitors and of whoever runs jobs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from resetkit import events
from resetkit._tokens import parse_token
from resetkit.errors import ThrottledError
from resetkit.mails import Mail, PasswordChangedMail, ResetMail
from resetkit.testing._kit import BrokenPromiseError, expect, expect_that
from resetkit.testing._manager_assembly import LINK
from resetkit.testing._manager_judge import (
    CLIENTS,
    CONTEXT,
    Caller,
    Expected,
    Job,
    Judge,
    Shown,
    content_of,
    delay_of,
    lost,
)
from resetkit.testing._manager_model import counted_as
from resetkit.testing._transcript import shown
from resetkit.values import RECEIPT_MESSAGE, Account, ResetReceipt


class Mailing(Judge):
    """Requests, jobs and mails."""

    def ask(self, typed: str, *, client: str | None, code: bool) -> None:
        """A visitor asks for a mail. The answer is the same for everyone, and so is the work."""
        options = [f"client={client!r}"] * (client is not None) + ["code=True"] * code
        work = self._managers[""].request_reset(typed, client=client, code=code, context=CONTEXT)
        outcome = self._do(f"ask({', '.join([shown(typed), *options])})", work)
        self._untouched("accounts", "store", "mailer", "hasher", why="an answer waits for nothing of the account's")
        self._judge(outcome, self._asked(typed, client, code=code))

    def _asked(self, typed: str, client: str | None, *, code: bool) -> Expected:
        may_be_one = self.model.is_identifier(typed)
        callers: list[Caller] = [("client", CLIENTS[client], self._policy.client_limit)] if client else []
        if may_be_one and counted_as(typed):
            callers.append(("identifier", counted_as(typed), self._policy.identifier_limit))
        if stop := self._throttled("request", callers, CONTEXT):
            return stop
        call = self._one("dispatcher", "dispatch")
        content = content_of(call)
        selector = str(content["selector"])
        said = (content["identifier"], content["code"], selector in self._names)
        expect(said, (typed if may_be_one else "", code, False), "the job says what was typed, under a new selector")
        most = self._policy.head_start
        expect_that(most / 2 <= delay_of(call) <= most, "a job begins once the answer has had its head start")
        self._names[selector] = f"request {self._number('request')}"
        self._take_jobs()
        if isinstance(call.error, ThrottledError):
            wait = call.error.retry_after
            full = events.RequestThrottled(action="request", by="capacity", retry_after=wait, context=CONTEXT)
            return Expected(call.error, [full])
        if call.error is not None:
            return Expected(call.error, [lost(content)])
        if code:
            self.handles.append(Shown(f"the handle of {self._names[selector]}", selector))
        receipt = ResetReceipt(handle=selector if code else None, message=RECEIPT_MESSAGE)
        return Expected(None, [events.ResetRequested(selector=selector, code=code, context=CONTEXT)], receipt)

    def run(self, job: Job, *, worker: bool) -> None:
        """Run a job, as a dispatcher would in process or as a queue's `worker` does; it stays, to be run again."""
        if job in self.jobs:
            self.jobs.remove(job)
            self.done.append(job)
        work = self._managers[""].run_job(job.held.text) if worker else job.held.run(job.held.text)
        outcome = self._do(f"{'a worker runs' if worker else 'run'} {job.label}", work)
        self._untouched("throttle", why="a job is no visitor's call")
        ending = self._reset_job(job) if job.content["type"] == "reset" else self._notice_job(job)
        self._judge(outcome, self._tried(job, ending, worker=worker))
        for call in self._calls("mailer"):
            if call.performed:  # whatever its sender was told
                self._take_mail(call.args[0])

    def run_elsewhere(self, job: Job) -> None:
        """A worker of another realm gets the job."""
        outcome = self._do(
            f"a worker of another realm runs {job.label}", self._managers["other"].run_job(job.held.text)
        )
        self._untouched("accounts", "store", "mailer", "throttle", "dispatcher", "hasher", why="it is another realm's")
        self._judge(outcome, Expected(None, [events.RequestDropped(reason="realm")]))

    def drop(self, job: Job) -> None:
        """A job is lost."""
        self.jobs.remove(job)
        self._tell(f"{job.label} is lost")

    # What a job comes to. An error stands for the failure of a port.

    def _reset_job(self, job: Job) -> Expected:
        created_at = datetime.fromtimestamp(job.content["created_at"], UTC)
        if abs(self._clock.now - created_at) >= self._policy.link_lifetime:
            self._untouched("accounts", "store", "mailer", "hasher", why="the job is late")
            return Expected(None, [events.RequestDropped(reason="late", selector=job.selector)])
        account = self._found(job)
        failure = self._failure("accounts", "hasher", "store", "mailer")
        added = [failure is None or call.performed for call in self._calls("store", "add")]
        if failure is None:
            added = [True, True]  # whether it was done or not: the records will show
        reason, is_whose = self._kept(job, account, added)
        if failure is not None:
            return Expected(failure, [_failed(job, failure, is_whose)])
        if reason != "mailed":
            self._untouched("mailer", why=f"nobody is mailed: {reason}")
            why: Any = reason
            account_id = account.id if account else None
            return Expected(None, [events.RequestDropped(reason=why, selector=job.selector, account_id=account_id)])
        mail: Any = self._one("mailer", "send").args[0]
        expect_that(isinstance(mail, ResetMail), "a reset job sends a reset mail")
        expect(mail.account.id, is_whose, "the mail is for the account that was found")
        waited = self._waited(job.content["created_at"])
        sent = events.MailSent(mail="reset", account_id=mail.account.id, selector=job.selector, waited=waited)
        return Expected(None, [sent])

    def _kept(self, job: Job, account: Account | None, added: Sequence[bool]) -> tuple[str, str | None]:
        """What the model keeps of a job, by whether each `add` took place; and whose mail it was to be."""
        is_whose = account.id if account and account.can_reset else None
        reason = "cannot_reset" if account else "unknown" if job.content["identifier"] else "empty"
        if is_whose is not None:
            if not any(added[:1]):
                return "nothing", is_whose
            reason, added = self.model.mail(job.selector, is_whose, code=job.content["code"]), added[1:]
        needs_decoy = job.content["code"] and reason not in {"mailed", "repeated"}
        if needs_decoy and any(added[:1]) and not self.model.leave_decoy(job.selector):
            reason = "repeated"
        return reason, is_whose

    def _found(self, job: Job) -> Account | None:
        """The account that the directory named, which must be one that the model knows."""
        typed = str(job.content["identifier"])
        if not typed:
            self._untouched("accounts", why="nobody can be called so")
            return None
        call = self._one("accounts", "find")
        expect(call.args, (typed,), "the directory is asked for what was typed, as it was typed")
        if call.error is None and call.answer is None:
            known = [person.email for person in self.model.people.values() if person.can_reset]
            expect_that(typed not in known, "the directory finds nobody under an address that it keeps")
        return None if call.error is not None or call.answer is None else self._account(call.answer)

    def _notice_job(self, job: Job) -> Expected:
        account_id = job.content["account_id"]
        read = self._one("accounts", "get")
        expect(read.args, (account_id,), "the notice is about the account whose password was changed")
        failure = self._failure("accounts", "mailer")
        if failure is not None:
            return Expected(failure, [_failed(job, failure, account_id)])
        if read.answer is None:
            person = self.model.people.get(account_id)
            expect_that(person is None or not person.can_reset, "the directory does not know an account that it has")
            return Expected(None, [events.RequestDropped(reason="gone", account_id=account_id)])
        self._account(read.answer)
        mail: Any = self._one("mailer", "send").args[0]
        expect_that(isinstance(mail, PasswordChangedMail), "a notice job sends a notice")
        found = (str(mail.to), int(mail.changed_at.timestamp()))
        expect(found, (job.content["to"], job.content["changed_at"]), "a notice is of the moment of the reset")
        waited = self._waited(job.content["changed_at"])
        return Expected(None, [events.MailSent(mail="notice", account_id=account_id, waited=waited)])

    def _waited(self, since: int) -> int:
        return max(0, int(self._clock.now.timestamp()) - since)

    def _tried(self, job: Job, ending: Expected, *, worker: bool) -> Expected:
        """A job that failed is handed over again; where a worker ran it, its error comes out."""
        if ending.error is None or worker:
            self._untouched("dispatcher", why="there is nothing to hand over")
            return ending
        retry = job.attempt < self._policy.mail_attempts
        told = [replace(event, retry=retry) for event in ending.events if isinstance(event, events.MailFailed)]
        if not retry:
            self._untouched("dispatcher", why="the job was tried as often as the policy allows")
            return Expected(None, told)
        call = self._one("dispatcher", "dispatch")
        pause = self._policy.mail_retry_delay * 2 ** (job.attempt - 1)
        expected = ({**job.content, "attempt": job.attempt + 1}, pause)
        expect((content_of(call), delay_of(call)), expected, "the same job once more, after a pause twice as long")
        self._take_jobs(job.label)
        return Expected(None, [*told, lost(job.content)] if call.error is not None else told)

    # What was mailed.

    def _take_mail(self, sent: Any) -> None:
        mail: Mail = sent
        self._look_for_secrets(repr(mail), str(mail))
        if isinstance(mail, PasswordChangedMail):
            return
        token = parse_token(mail.token)
        record = self.model.store.get(token.selector) if token else None
        if token is None or record is None or token.part != "link":
            raise BrokenPromiseError("a mail carries a link's token for which there is no record")
        person = self.model.people[mail.account.id]
        expect(str(mail.to), person.email, "a mail goes to the stored address of this moment, and to no other")
        expect(str(mail.link), LINK.replace("{token}", mail.token), "the link is the template with the token")
        ends: tuple[datetime | timedelta | None, ...] = (mail.expires_at, mail.code_expires_at)
        expect(ends, (record.expires_at, record.code_expires_at), "the mail says until when it is good")
        expect(mail.code is None, record.code_hash is None, "a code comes to who asked for one")
        expect(mail.context, CONTEXT, "the mail is given what the visitor's request carried")
        number = self._number("mail")
        self._learn(token, mail.token, mail.code, f"link {number}", f"code {number}")


def _failed(job: Job, failure: BaseException, account_id: str | None) -> events.MailFailed:
    is_reset = job.content["type"] == "reset"
    return events.MailFailed(
        mail="reset" if is_reset else "notice",
        attempt=job.attempt,
        error=type(failure).__name__,
        at="",
        retry=False,
        account_id=account_id,
        selector=job.selector if is_reset else None,
    )
