"""How mails leave: over SMTP, to the console while developing, to a list in tests; and what they say."""

from resetkit.mailers.console import AsyncConsoleMailer, ConsoleMailer
from resetkit.mailers.memory import AsyncMemoryMailer, MemoryMailer
from resetkit.mailers.message import Compose, default_message
from resetkit.mailers.smtp import AsyncSMTPMailer, SMTPMailer

__all__ = [
    "AsyncConsoleMailer",
    "AsyncMemoryMailer",
    "AsyncSMTPMailer",
    "Compose",
    "ConsoleMailer",
    "MemoryMailer",
    "SMTPMailer",
    "default_message",
]
