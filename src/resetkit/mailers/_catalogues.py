"""Which catalogue holds the texts for whom: from a language tag to what gettext finds under it."""

import re
from gettext import NullTranslations, translation
from os import PathLike
from pathlib import Path
from typing import Final

from resetkit.errors import ConfigurationError

_DOMAIN: Final = "resetkit"
_SHIPPED: Final = Path(__file__).with_name("locale")

# A language, a script and a region: so BCP 47's tags begin, and POSIX's. What follows (a variant, an encoding) names no
# catalogue, and nothing else of a tag becomes part of a path.
_TAG: Final = re.compile(
    r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|[0-9]{3}))?(?![a-z0-9])", re.ASCII | re.IGNORECASE
)
_TRADITIONAL_CHINESE: Final = frozenset({"HK", "MO", "TW"})  # CLDR, likely subtags


def texts_for(tag: str | None, localedir: str | PathLike[str] | None) -> NullTranslations:
    """The texts in the language that `tag` names: those under `localedir` first, then resetkit's; else English ones."""
    names = _names(tag or "")
    shipped = _texts_in(_SHIPPED, names)
    if localedir is None:
        return shipped
    folder = Path(localedir)
    if not any(folder.glob(f"*/LC_MESSAGES/{_DOMAIN}.mo")):
        raise ConfigurationError(
            f"localedir holds no <language>/LC_MESSAGES/{_DOMAIN}.mo: compile your catalogues, and give the folder's "
            "full path"
        )
    texts = _texts_in(folder, names)
    texts.add_fallback(shipped)
    texts.add_fallback(_texts_in(folder, ["en"]))
    return texts


def _names(tag: str) -> list[str]:
    """What gettext may call the tag's language, best first."""
    found = _TAG.match(tag)
    if found is None:
        return []
    language, script, region = found[1].lower(), (found[2] or "").title(), (found[3] or "").upper()
    if language == "zh" and not script:
        script = "Hant" if region in _TRADITIONAL_CHINESE else "Hans"
    parts = ((language, script, region), (language, script), (language, region), (language,))
    return ["_".join(filter(None, each)) for each in parts]


def _texts_in(folder: Path, names: list[str]) -> NullTranslations:
    # Gettext tries each name without what follows the language, too, before it comes to the next.
    names = sorted(names, key=lambda name: not (folder / name).is_dir())
    return translation(_DOMAIN, folder, names, fallback=True)
