"""The system's Chromium, driven by Playwright: for what plain HTTP cannot show."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from servers import package, program

if TYPE_CHECKING:  # it may be missing
    from playwright.sync_api import Browser, ConsoleMessage, Page

PATIENCE: Final = 30_000  # milliseconds

_OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def open_browser() -> Generator["Browser", None, None]:
    """Skips, or under CI fails, where Playwright or Chromium is missing."""
    package("playwright")
    chromium = program("chromium", "chromium-browser", of="chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # it may be missing

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_OPTIONS, timeout=PATIENCE)
        yield browser
        browser.close()


class Window:
    """A window with cookies of its own, which keeps what was loaded and what the browser complained of."""

    def __init__(self, browser: "Browser", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.loaded: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.loaded.append(request.url))
        self.context.on("console", self._hear)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page: Page = self.context.new_page()

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def close(self) -> None:
        self.context.close()

    def fits(self) -> bool:
        """Whether nothing has to be scrolled to from side to side."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
