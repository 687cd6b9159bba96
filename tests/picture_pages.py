"""Pictures of the pages, for docs/ or for eyes: ``PYTHONPATH=examples python tests/picture_pages.py FOLDER``."""

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from browsers import open_browser
from persons import ANOTHER, CODE, NEW, SAVE
from test_web_browser import Surfer, surfer
from web_sites import open_site


def main() -> None:
    """Take them all."""
    folder = Path(sys.argv[1])
    with TemporaryDirectory() as place, open_browser() as browser, open_site("flask", Path(place), https=True) as site:
        for scheme, width in product(("light", "dark"), (320, 900)):
            person = surfer(site, browser, viewport={"width": width, "height": 560}, color_scheme=scheme)
            walk(person, folder, f"{scheme}-{width}.png")


def walk(person: Surfer, folder: Path, end: str) -> None:
    """Through all pages."""

    def keep(what: str) -> None:
        person.page.screenshot(path=folder / f"{what}-{end}")

    for path in ("/", "/login", "/forgot"):
        person.open(path)
        keep(path.strip("/") or "home")
    person.ask()
    keep("check-your-mail")
    person.fill(SAVE, {CODE: "BBBB-BBBB", NEW: ANOTHER})
    keep("wrong-code")
    link = person.link()
    person.open(link)
    keep("choose")
    person.fill(SAVE, {NEW: "short"})
    keep("refused")
    person.fill(SAVE, {NEW: ANOTHER})
    keep("done")
    person.open(link)
    keep("dead")


if __name__ == "__main__":
    main()
