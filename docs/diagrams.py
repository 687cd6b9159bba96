"""Draw each ``*.mmd`` here as an ``*.svg`` beside it: ``python docs/diagrams.py``, with the extra `docs` installed.

The drawings are committed, so that pages show them anywhere without a script. Each names the digest of its source,
which a test compares; and the build draws them anew and fails if they differ.
"""

import hashlib
import re
from pathlib import Path

import mermaidx

DOCS = Path(__file__).resolve().parent
FONT = "Helvetica, Arial, sans-serif"  # what they were measured with, or the same widths
CONFIG = {
    "theme": "neutral",
    "fontFamily": FONT,
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False, "useMaxWidth": False, "nodeSpacing": 32, "rankSpacing": 56},
    "sequence": {
        "useMaxWidth": False,
        "mirrorActors": False,
        "actorMargin": 24,
        "width": 110,
        "height": 36,
        "messageMargin": 26,
    },
}
# Colours by what they are for, and once more for dark pages. They win over mermaid's own, in attributes and in style.
COLOURS = """
:root { --ink: #24292f; --line: #57606a; --box: #eef2f6; --edge: #8c959f; --paper: #ffffff; --note: #fff8dc }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --line: #9198a1; --box: #20262e; --edge: #656c76; --paper: #0d1117; --note: #33301c }
}
text, tspan { fill: var(--ink) !important; stroke: none !important }
.messageText { stroke: var(--paper) !important; stroke-width: 8px !important; paint-order: stroke }
.actor, .note, .actor-line, .node :is(rect, path, circle, polygon) { stroke: var(--edge) !important }
.actor, .node :is(rect, path, circle, polygon) { fill: var(--box) !important }
.note { fill: var(--note) !important }
.messageLine0, .messageLine1, .flowchart-link { stroke: var(--line) !important }
marker path, marker circle { fill: var(--line) !important; stroke: var(--line) !important }
.edgeLabel rect, .labelBkg { fill: var(--paper) !important; opacity: 1 !important }
"""


def draw(source: Path) -> str:
    """The drawing of `source`, as SVG."""
    text = source.read_text()
    svg = mermaidx.render(text, config=CONFIG).svg()
    svg = svg.replace("</style>", f"{COLOURS}</style>", 1).replace("background-color: transparent;", "")
    return re.sub(r"(<svg[^>]*>)", rf"\1<!-- {digest(text)} -->", svg, count=1) + "\n"


def digest(text: str) -> str:
    """What a drawing says of its source."""
    return "sha256 of the source: " + hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    for each in sorted(DOCS.glob("*.mmd")):
        each.with_suffix(".svg").write_text(draw(each))
