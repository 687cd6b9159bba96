"""Which catalogue holds the texts for whom: from a language tag to what gettext finds under it."""

import re
from gettext import NullTranslations, translation
from os import PathLike
from pathlib import Path
from typing import Final

from resetkit.errors import ConfigurationError

_DOMAIN: Final = "resetkit"
_SHIPPED: Final = Path(__file__).with_name("locale")

# A language, a script and a region: as BCP 47 and POSIX begin. What follows (a variant, an encoding) names no catalogue.
# Nothing else of a tag becomes part of a path.
_TAG: Final = re.compile(
    r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|[0-9]{3}))?(?![a-z0-9])", re.ASCII | re.IGNORECASE
)
_TRADITIONAL_CHINESE: Final = frozenset({"HK", "MO", "TW"})  # CLDR, likely subtags


def texts_for(tag: str | None, localedir: str | PathLike[str] | None) -> NullTranslations:
    """The texts in the language that `tag` names: those under `localedir` first, then resetkit's, then English."""
    names = _names(tag or "")
    shipped = translation(_DOMAIN, _SHIPPED, names, fallback=True)
    if localedir is None:
        return shipped
    if not any(Path(localedir).glob(f"*/LC_MESSAGES/{_DOMAIN}.mo")):
        raise ConfigurationError(
            f"localedir holds no <language>/LC_MESSAGES/{_DOMAIN}.mo: compile your catalogues, and give the folder's "
            "full path"
        )
    texts = translation(_DOMAIN, localedir, names, fallback=True)
    texts.add_fallback(shipped)
    return texts


def _names(tag: str) -> list[str]:
    """What gettext calls the tag's language, best first. It tries each name without what follows the language, too."""
    found = _TAG.match(tag)
    if found is None:
        return []
    language, script, region = found[1].lower(), (found[2] or "").title(), (found[3] or "").upper()
    if language == "zh" and not script:
        script = "Hant" if region in _TRADITIONAL_CHINESE else "Hans"
    return [f"{language}_{each}" for each in (script, region) if each] or [language]
