"""Password reset for any application: unguessable, hashed, short-lived, single-use, and silent about accounts."""

from resetkit._manager import AsyncResetManager
from resetkit._sync import ResetManager
from resetkit._tokens import code_token
from resetkit.errors import (
    ConfigurationError,
    DuplicateSelectorError,
    InvalidRequestError,
    InvalidTokenError,
    PasswordRejectedError,
    ResetError,
    ThrottledError,
)
from resetkit.hashing import Argon2TokenHasher, KeyedTokenHasher
from resetkit.mails import Mail, PasswordChangedMail, ResetMail
from resetkit.policy import ResetPolicy
from resetkit.protocols import (
    AccountDirectory,
    AsyncAccountDirectory,
    AsyncDispatcher,
    AsyncMailer,
    AsyncThrottle,
    AsyncTokenStore,
    Dispatcher,
    Mailer,
    Throttle,
    TokenHasher,
    TokenStore,
)
from resetkit.values import Account, IssuedToken, Quota, ResetReceipt, ResetTicket, TokenRecord

__all__ = [
    "Account",
    "AccountDirectory",
    "Argon2TokenHasher",
    "AsyncAccountDirectory",
    "AsyncDispatcher",
    "AsyncMailer",
    "AsyncResetManager",
    "AsyncThrottle",
    "AsyncTokenStore",
    "ConfigurationError",
    "Dispatcher",
    "DuplicateSelectorError",
    "InvalidRequestError",
    "InvalidTokenError",
    "IssuedToken",
    "KeyedTokenHasher",
    "Mail",
    "Mailer",
    "PasswordChangedMail",
    "PasswordRejectedError",
    "Quota",
    "ResetError",
    "ResetMail",
    "ResetManager",
    "ResetPolicy",
    "ResetReceipt",
    "ResetTicket",
    "Throttle",
    "ThrottledError",
    "TokenHasher",
    "TokenRecord",
    "TokenStore",
    "code_token",
]
