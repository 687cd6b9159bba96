"""Pictures of the pages and mails, for docs/ or for eyes: ``PYTHONPATH=examples python tests/picture_pages.py FOLDER``.

As docs/ shows them: ``check-your-mail-light-320.png``, ``refused-dark-320.png`` and ``mail-light-320.png``.
"""

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
            person = surfer(site, browser, viewport={"width": width, "height": 600}, color_scheme=scheme)
            walk(person, folder, f"{scheme}-{width}.png")


def walk(person: Surfer, folder: Path, end: str) -> None:
    """Through all pages."""

    def keep(what: str) -> None:
        person.page.screenshot(path=folder / f"{what}-{end}")

    def keep_mail(what: str) -> None:
        part = person.site.post.last().get_body(("html",))
        assert part is not None
        page = person.page.context.new_page()  # the site's own page would refuse the mail's styles
        page.set_content(part.get_content())
        page.screenshot(path=folder / f"{what}-{end}", full_page=True)
        page.close()

    for path in ("/", "/login", "/forgot"):
        person.open(path)
        keep(path.strip("/") or "home")
    person.ask()
    keep("check-your-mail")
    person.fill(SAVE, {CODE: "BBBB-BBBB", NEW: ANOTHER})
    keep("wrong-code")
    link = person.link()
    keep_mail("mail")
    person.open(link)
    keep("choose")
    person.fill(SAVE, {NEW: "short"})
    keep("refused")
    person.fill(SAVE, {NEW: ANOTHER})
    keep("done")
    keep_mail("notice")
    person.open(link)
    keep("dead")


if __name__ == "__main__":
    main()
