"""Build the documentation site: ``python docs/build.py``, with the extra `docs` installed, into `site/`.

Nothing is taken from the network, neither here nor when the site is read. A warning, such as a broken link, is an
error. The pages are written for the repository, so each file outside of `docs/` that one links to becomes a page too.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from diagrams import draw

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
# What a browser fetches by itself. A link that a reader may follow is none of it.
FETCHED = re.compile(r"(<(script|img|link|iframe|source)\b[^>]*(src|href)=|url\(|@import )[\"']?(https?:)?//[^\s>]+")


def build(site: Path) -> None:
    """Build the site into the folder `site`, which is replaced."""
    for source in sorted(DOCS.glob("*.mmd")):
        if source.with_suffix(".svg").read_text() != draw(source):
            sys.exit(f"{source.name} is not what {source.stem}.svg shows: run python docs/diagrams.py")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pages = work / "pages"
        shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.md", "*.mmd", "*.py", "*.toml", "__pycache__"))
        for page in [*sorted(DOCS.glob("*.md")), ROOT / "CHANGELOG.md"]:
            (pages / page.name.lower()).write_text(lead_on(page, pages))
        shutil.copy(DOCS / "zensical.toml", work)
        (work / "src").symlink_to(ROOT / "src")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, check=True)
        require_self_contained(work / "site")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(work / "site", site)


def lead_on(page: Path, pages: Path) -> str:
    """The text of `page`, with links that lead to the pages of the site."""

    def lead(found: re.Match[str]) -> str:
        path = (page.parent / found[1]).resolve()
        if not path.exists():  # no link, but code that looks like one
            return found[1]
        if path.parent == DOCS or path == ROOT / "CHANGELOG.md":
            return path.name.lower()
        return show(path, pages)

    return LINK.sub(lead, page.read_text())


def show(path: Path, pages: Path) -> str:
    """Make a page of a file or folder of the repository, and say its name."""
    name = path.relative_to(ROOT).as_posix()
    page = pages / f"source/{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        up = "../" * page.relative_to(pages).as_posix().count("/")
        files = [each for each in sorted(path.rglob("*")) if each.is_file() and "__pycache__" not in each.parts]
        body = "\n".join(f"- [{each.relative_to(path).as_posix()}]({up}{show(each, pages)})" for each in files)
    else:
        body = f"~~~~~~ {path.suffix.removeprefix('.')}\n{path.read_text(errors='replace')}\n~~~~~~"
    page.write_text(f"# {name}\n\n{body}\n")
    return page.relative_to(pages).as_posix()


def require_self_contained(site: Path) -> None:
    """Exit if a page would load anything from elsewhere."""
    for path in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]:
        if found := FETCHED.search(path.read_text()):
            sys.exit(f"{path.relative_to(site)} loads something from elsewhere: {found[0]}")


if __name__ == "__main__":
    build(ROOT / "site")
