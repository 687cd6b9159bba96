"""Every page of the built documentation in a real browser: ``python docs/build.py && python tests/browse_site.py``.

On a phone and on a wide screen, in light and dark: it fits, loads nothing from elsewhere, gives the browser nothing to
complain of; and the search finds what is there. All of it from files.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, expect

from browsers import Window, open_browser

SITE = Path(__file__).parent.parent / "site"


def main() -> None:
    pages = sorted(set(SITE.glob("*.html")) - {SITE / "404.html"})  # which a server sends, with the server's addresses
    with open_browser() as browser:
        looks = product((320, 1280), ("light", "dark"))
        faults = [fault for width, scheme in looks for fault in faults_of(browser, pages, width, scheme)]
        search(browser)
    if faults or not pages:
        raise SystemExit("\n".join(faults) or "the site is not built: python docs/build.py")


def faults_of(browser: Browser, pages: list[Path], width: int, scheme: str) -> Iterator[str]:
    window = Window(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    for page in pages:
        window.page.goto(page.as_uri())
        window.page.wait_for_load_state()
        where = f"{page.name}, {width} px, {scheme}"
        if not window.fits():
            yield f"{where}: it does not fit"
        yield from (f"{where}: {complaint}" for complaint in window.complaints)
        yield from (f"{where}: loads {url}" for url in window.loaded if not url.startswith(("file:", "data:", "blob:")))
        window.complaints.clear()
        window.loaded.clear()
    window.close()


def search(browser: Browser) -> None:
    """As a reader does, who knows a word and not the page."""
    window = Window(browser)
    window.page.goto((SITE / "index.html").as_uri())
    window.page.get_by_role("button", name="Search").click()
    window.page.keyboard.type("purge_tokens")
    expect(window.page.get_by_role("option", name="purge_tokens").first).to_be_visible()
    window.close()


if __name__ == "__main__":
    main()
