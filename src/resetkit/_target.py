"""What ``module:name`` on the command line leads to, in the folder where the command is run."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb

from resetkit._manager import told
from resetkit.errors import ConfigurationError


def load_target(target: str) -> object:
    """The object that `target` names; after the colon, dots lead on to attributes. Raises ConfigurationError."""
    module, _, path = target.partition(":")
    if not module or not path:
        raise ConfigurationError("give module:name, such as my_package.my_module:name")
    sys.path.insert(0, str(Path.cwd()))
    with explained(f"{target} cannot be imported"):
        found = import_module(module)
    try:
        return attrgetter(path)(found)
    except (Exception, SystemExit) as error:
        # What the application's own code raised, in a property say, may quote anything.
        is_missing = isinstance(error, AttributeError) and len(list(walk_tb(error.__traceback__))) == 1
        why = str(error) if is_missing else failure(error)
        raise ConfigurationError(f"{target} cannot be imported: {why}") from error


@contextmanager
def explained(what: str) -> Generator[None, None, None]:
    """Make a ConfigurationError of whatever the application's own code raises within."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{what}: {failure(error)}") from error


def failure(error: BaseException) -> str:
    """What may be told of an application's error: type and place, since its text may quote a secret."""
    if isinstance(error, ImportError | SyntaxError):
        return str(error)  # names and places alone
    name, place = told(error)
    return f"{name} at {place}"
