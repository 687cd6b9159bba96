"""Build the documentation site: ``python docs/build.py``, with resetkit's extra `docs` installed, into `site/`.

Nothing is taken from the network, neither here nor when the site is read. A warning, such as a broken link, is an
error. The pages are written for the repository, so each file outside of `docs/` that one links to becomes a page too.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def build(site: Path) -> None:
    """Build the site into the folder `site`, which is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pages = work / "pages"
        shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.md", "*.mmd", "*.py", "*.toml", "__pycache__"))
        for page in [*DOCS.glob("*.md"), ROOT / "CHANGELOG.md"]:
            (pages / page.name.lower()).write_text(LINK.sub(lambda found, page=page: lead(page, found[1], pages), page.read_text()))
        shutil.copy(DOCS / "zensical.toml", work)
        (work / "src").symlink_to(ROOT / "src")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, check=True)
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(work / "site", site)


def lead(page: Path, target: str, pages: Path) -> str:
    """Where a link to `target` in `page` leads in the site."""
    path = (page.parent / target).resolve()
    if not path.exists():  # no link, but code that looks like one
        return target
    if path.parent == DOCS or path == ROOT / "CHANGELOG.md":
        return path.name.lower()
    return show(path, pages)


def show(path: Path, pages: Path) -> str:
    """Make a page of a file or folder of the repository, and say its name."""
    name = path.relative_to(ROOT).as_posix()
    page = pages / f"source/{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        files = [each for each in sorted(path.rglob("*")) if each.is_file() and "__pycache__" not in each.parts]
        up = "../" * name.count("/") + "../"
        body = "\n".join(f"- [{each.relative_to(path).as_posix()}]({up}{show(each, pages)})" for each in files)
    else:
        body = f"~~~~~~ {path.suffix.removeprefix('.')}\n{path.read_text()}\n~~~~~~"
    page.write_text(f"# {name}\n\n{body}\n")
    return f"source/{name}.md"


if __name__ == "__main__":
    build(ROOT / "site")
