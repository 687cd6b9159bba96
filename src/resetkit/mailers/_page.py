"""How a mail looks as HTML: one column that fits any width, in light and in dark, with nothing from elsewhere.

Many mail programs drop the sheet, or the outermost elements. So the light colours stand at each element, and the page's
language and direction at its first one too.
"""

from html import escape
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="{lang}" dir="{direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<meta name="format-detection" content="telephone=no,date=no,address=no,email=no,url=no">
<title>{title}</title>
<style>{sheet}</style>
</head>
<body class="page" style="margin:0;padding:0;background:#f2f4f7">
<div class="page" lang="{lang}" dir="{direction}" style="padding:32px 12px;background:#f2f4f7;color:#1b2430;{font}">
<div class="card" style="max-width:34em;margin:0 auto;padding:28px;border-radius:12px;background:#ffffff;{wrap}">
<h1 style="margin:0 0 20px;font-size:22px;line-height:1.3">{title}</h1>
{body}
</div>
</div>
</body>
</html>
"""
_SHEET: Final = """
:root { color-scheme: light dark; supported-color-schemes: light dark; }
@media (max-width: 480px) {
  .page { padding: 0 !important; }
  .card { border-radius: 0 !important; padding: 24px 20px !important; }
}
@media (prefers-color-scheme: dark) {
  .page { background: #14171c !important; color: #e4e8ee !important; }
  .card { background: #1e232b !important; }
  .button { background: #8ab4f8 !important; color: #10233f !important; }
  .address { color: #8ab4f8 !important; }
  .code { background: #2b323d !important; }
}
"""
_FONT: Final = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;font-size:16px;line-height:1.55"
_BUTTON: Final = (
    "display:inline-block;padding:12px 22px;border-radius:8px;background:#1a56b0;color:#ffffff;font-weight:600;"
    "text-decoration:none"
)
_WRAP: Final = "overflow-wrap:anywhere"  # a long address or name
_ADDRESS: Final = "color:#1a56b0;font-size:14px;word-break:break-all"
_CODE: Final = (  # letters that no one takes for another
    "display:inline-block;padding:10px 16px;border-radius:8px;background:#eef1f5;font-size:24px;letter-spacing:2px;"
    "font-family:ui-monospace,'SF Mono',SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:nowrap"
)


def page(title: str, body: list[str], *, lang: str, direction: str) -> str:
    """The page around these pieces. `title` and `lang` are text, the pieces HTML."""
    return _PAGE.format(
        title=escape(title),
        body="\n".join(body),
        lang=escape(lang),
        direction=direction,
        sheet=_SHEET,
        font=_FONT,
        wrap=_WRAP,
    )


def paragraph(text: str, *, unbroken: str = "") -> str:
    """A paragraph of plain text; `unbroken` is a part of it that stays on one line."""
    shown, part = escape(text), escape(unbroken)
    if part:
        shown = shown.replace(part, f'<span style="white-space:nowrap">{part}</span>')
    return f'<p style="margin:0 0 16px">{shown}</p>'


def button(link: str, label: str) -> str:
    """The link to click."""
    return (
        f'<p style="margin:0 0 20px"><a class="button" href="{escape(link)}" style="{_BUTTON}">{escape(label)}</a></p>'
    )


def address(link: str) -> str:
    """The link to read and copy."""
    shown = escape(link)
    return f'<p style="margin:0 0 16px"><a class="address" dir="ltr" href="{shown}" style="{_ADDRESS}">{shown}</a></p>'


def code(text: str) -> str:
    """A code to type."""
    return f'<p style="margin:0 0 16px"><span class="code" dir="ltr" style="{_CODE}">{escape(text)}</span></p>'
