"""Whether an adapter is of its manager's colour: seen at construction, not at night."""

import inspect
import re
from collections.abc import Callable
from typing import Final, Literal

from resetkit.errors import ConfigurationError

Colour = Literal["sync", "async"]

_AWAITABLES: Final = re.compile(r"\b(Awaitable|Coroutine|Future|Task)\b")
_METHODS: Final = {
    "accounts": ("find", "get", "set_password", "end_sessions"),
    "store": ("add", "get", "attempt", "claim", "release", "revoke", "purge"),
    "mailer": ("send",),
    "throttle": ("hit",),
    "dispatcher": ("dispatch", "close"),
    "hasher": ("hash", "verify"),
}


def check_ports(
    colour: Colour,
    accounts: object,
    store: object,
    mailer: object,
    throttle: object,
    dispatcher: object,
    hasher: object,
) -> None:
    """Raise ConfigurationError for an adapter that lacks a method or is of the other colour."""
    for name, port in zip(_METHODS, (accounts, store, mailer, throttle, dispatcher), strict=False):
        check_port(name, port, colour)
    check_port("hasher", hasher, "sync")


def check_port(name: str, port: object, colour: Colour) -> None:
    """Raise ConfigurationError for one adapter, see `check_ports`."""
    if isinstance(port, type):
        raise ConfigurationError(f"{name} must be an object, not the class {port.__name__}: call it first")
    for method in _METHODS[name]:
        function = getattr(port, method, None)
        owner = type(port).__name__
        if not callable(function):
            raise ConfigurationError(f"{name} needs a method {method}(), which {owner} does not have")
        if _is_async(function) != (colour == "async"):
            other = "sync" if colour == "async" else "async"
            fitting = "ResetManager" if colour == "async" else "AsyncResetManager"
            message = f"{name} must be {colour}, but {owner}.{method} is {other}: it goes with {fitting}"
            raise ConfigurationError(message)


def _is_async(function: Callable[..., object]) -> bool:
    """Whether calling gives an awaitable: an ``async def``, or one that says so in its return annotation."""
    plain = inspect.unwrap(function)
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(
        inspect.getattr_static(plain, "__call__", None)
    ):
        return True
    returned = str(getattr(plain, "__annotations__", {}).get("return", ""))
    return _AWAITABLES.search(returned) is not None
