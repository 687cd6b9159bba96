"""What the demonstration's pages say: text in, HTML out, everything escaped."""

import base64
import hashlib
import inspect
import re
from collections.abc import Sequence
from email.message import EmailMessage
from html import escape
from typing import Final

from resetkit._web_demo.accounts import ADDRESSES, FIRST_PASSWORD, LEAST_LENGTH
from resetkit._web_demo.backstage import Entry
from resetkit.events import Event

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --text: #1c1e21; --faint: #5a616b; --line: #c9ced6;
  --link: #1f5fbf; --button: #1f5fbf; --good: #e3f3e6; --bad: #fbe7e5; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1e2126; --text: #e8eaed; --faint: #a4abb6;
  --line: #434953; --link: #8db8ff; --button: #2f6fd0; --good: #1d3a25; --bad: #47211f; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 27rem; margin: 0 auto; }
.wide { padding: .75rem 1rem; background: var(--card); }
.wide main { max-width: 48rem; padding: 0; border: 0; }
.wide h1 { margin: 0; }
.wide .hint { margin-bottom: .75rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; padding: .25rem 0 1rem; }
header b { flex: 1; font-size: 1.1rem; }
main { padding: 1.25rem 1.5rem 1.5rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
footer { padding: 1rem 0; color: var(--faint); font-size: .875rem; }
h1 { margin: 0 0 .75rem; font-size: 1.4rem; line-height: 1.25; }
h2 { margin: 1.5rem 0 .5rem; font-size: 1.1rem; }
p { margin: .75rem 0; }
a { color: var(--link); }
label, .label { display: block; margin-top: 1rem; font-weight: 600; }
.hint { margin: .25rem 0 0; color: var(--faint); font-size: .875rem; }
input:not([type=checkbox], [type=hidden]) { display: block; width: 100%; margin-top: .25rem; padding: .6rem .7rem;
  border: 1px solid var(--faint); border-radius: .4rem; background: var(--card); color: inherit; font: inherit; }
input.code { font-family: ui-monospace, monospace; letter-spacing: .15em; }
label.choice { display: flex; gap: .6rem; align-items: start; font-weight: 400; }
.choice input { margin-top: .35rem; }
button { margin-top: 1.25rem; padding: .65rem 1.2rem; border: 0; border-radius: .4rem; background: var(--button);
  color: #fff; font: inherit; font-weight: 600; cursor: pointer; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
[role=status]:not(.hint), [role=alert] { padding: .6rem .8rem; border-radius: .4rem; background: var(--good); }
[role=alert] { background: var(--bad); }
ol { margin: 0; padding: 0; list-style: none; }
li { padding: .5rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
ol:not(:empty) + .none { display: none; }
time, .why { color: var(--faint); font-size: .875rem; }
.why { display: block; }
summary { cursor: pointer; }
code, pre { font: .8125rem/1.5 ui-monospace, monospace; }
pre { margin: .5rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
iframe { display: block; width: 100%; height: 24rem; margin: .5rem 0; border: 1px solid var(--line);
  border-radius: .4rem; background: var(--card); }
.desk { display: flex; flex-direction: column; height: 100vh; height: 100dvh; padding: .5rem; }
.desk > * { width: 100%; max-width: none; padding: 0 .5rem .5rem; }
.desk h1 { flex: 1 0 auto; margin: 0; font-size: 1.1rem; }
.desk p { margin: 0; color: var(--faint); font-size: .875rem; }
.desk nav { display: flex; gap: 1.25rem; }
.desk main { display: grid; flex: 1; grid-template: 1fr / 1fr; gap: .5rem; min-height: 0; padding: 0; border: 0;
  background: none; }
.desk iframe { grid-area: 1 / 1; height: 100%; margin: 0; visibility: hidden; }
.desk iframe:target, .desk main:not(:has(:target)) #site { visibility: visible; }
@media (min-width: 50rem) {
  .desk nav { display: none; }
  .desk main { grid-template: "site mails" 3fr "site events" 2fr / 1fr 1.2fr; }
  .desk main iframe { visibility: visible; }
  .desk #site { grid-area: site; }
  .desk #mails { grid-area: mails; }
  .desk #events { grid-area: events; }
}
@media (min-width: 90rem) { .desk main { grid-template: "site mails events" 1fr / 1fr 1.1fr 1fr; } }
"""

# The part of the link behind "#" reaches no server: it is put into the form here, and out of the address.
_READ_LINK: Final = """
function read() {
  const token = document.getElementById("token");
  if (token && location.hash) {
    token.value = location.hash.slice(1);
    token.type = "hidden";
    document.getElementById("paste").hidden = true;
    history.replaceState(null, "", location.pathname);
  }
}
read();
addEventListener("hashchange", read);
"""

_FOLLOW: Final = """
const live = document.getElementById("live");
const list = document.querySelector("ol");
const changes = new EventSource(live.dataset.changes);
changes.onmessage = change => {
  for (const item of list.querySelectorAll("details[open]")) item.open = false;
  list.insertAdjacentHTML("afterbegin", change.data);
};
changes.onopen = () => live.textContent = "Shown as they come.";
changes.onerror = () => live.textContent = "The demonstration does not answer.";
"""

# Where one part is shown at a time, a mail's link would lead to one that is hidden.
_SHOW_SITE: Final = """
const site = document.getElementById("site");
site.onload = () => {
  if (location.hash && site.contentWindow.location.pathname === "/reset") location.replace("#site");
};
"""

_LINK: Final = re.compile(r"http://[0-9.:]+/reset#[0-9a-f]+")


def _hash(text: str) -> str:
    """How a Content-Security-Policy names a script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The desk frames the pages, so they say 'self'; a site of your own, which frames nothing, says frame-ancestors 'none'.
_POLICY: Final = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
PLAIN_POLICY: Final = _POLICY
RESET_POLICY: Final = f"{_POLICY}; script-src {_hash(_READ_LINK)}"
_FRAMES_POLICY: Final = f"{_POLICY}; frame-src 'self'"
DESK_POLICY: Final = f"{_FRAMES_POLICY}; script-src {_hash(_SHOW_SITE)}"
LIST_POLICY: Final = f"{_FRAMES_POLICY}; script-src {_hash(_FOLLOW)}; connect-src 'self'"


# A mail may bring styles in its tags, and nothing else; its links open beside it.
MAIL_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)


def desk() -> str:
    """Site, mails and events side by side, or one at a time where there is no room."""
    body = f"""<header><h1>resetkit</h1>
<p>A demonstration: accounts, mails and tokens are in memory, on this machine alone.</p></header>
<nav aria-label="Parts"><a href="#site">Site</a> <a href="#mails">Mails</a>
<a href="#events">Events</a></nav>
<main><iframe id="site" name="site" src="/log-in" title="The site"></iframe>
<iframe id="mails" src="/mails" title="Mails"></iframe>
<iframe id="events" src="/events" title="Events"></iframe></main>
<script>{_SHOW_SITE}</script>"""
    return _document("resetkit", body, kind="desk")


def log_in(csrf: str, identifier: str = "", problem: str = "") -> str:
    """The form to log in with."""
    form = f"""{_problem(problem)}<form method="post" action="/log-in">{_csrf(csrf)}
<label for="identifier">Mail address</label>
<input id="identifier" name="identifier" type="email" autocomplete="username" required value="{escape(identifier)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Log in</button></form>
<p><a href="/forgot">Forgot your password?</a></p>
<p class="hint">Accounts: {" and ".join(ADDRESSES)}, at first with the password <code>{FIRST_PASSWORD}</code>.</p>"""
    return _page("Log in", form)


def account(csrf: str, address: str) -> str:
    """The page of who is logged in."""
    return _page(
        "Your account",
        f"""<p role="status">You are logged in as {escape(address)}.</p>
<p>Now reset the password of this account, and come back: this log-in will have ended.</p>
<form method="post" action="/log-out">{_csrf(csrf)}<button>Log out</button></form>
<p><a href="/forgot">Reset the password</a></p>""",
    )


def ended() -> str:
    """The page of who was logged in."""
    return _page(
        "Your log-in has ended",
        '<p role="status">You have logged out, or the password was changed, which ends every log-in.</p>\n'
        '<p><a href="/log-in">Log in</a></p>',
    )


def forgot(csrf: str) -> str:
    """The form to ask for a mail with."""
    return _page(
        "Forgot your password?",
        f"""<form method="post" action="/forgot">{_csrf(csrf)}
<label for="identifier">Mail address</label>
<input id="identifier" name="identifier" type="email" autocomplete="username" required aria-describedby="try">
<p class="hint" id="try">Try one with an account, such as {ADDRESSES[0]}, and one without.</p>
<label class="choice"><input type="checkbox" name="code" value="yes"> <span>Send a code to type as well: for
another device, or a mail program that breaks links.</span></label>
<button>Send me a mail</button></form>
<p><a href="/log-in">Back</a></p>""",
    )


def sent(csrf: str, message: str, handle: str | None) -> str:
    """What everybody is answered; with a `handle`, the form for the code too."""
    told = f"""<p role="status">{escape(message)}</p>
<p>Here it comes to Mails in a second. Nothing there? The events tell why; or
<a href="/forgot">ask again</a>.</p>"""
    return _page("Check your mail", told + (_code_form(csrf, handle) if handle else ""))


def code(csrf: str, handle: str, problem: str) -> str:
    """The form for a code, once more."""
    return _page("Type your code", _problem(problem) + _code_form(csrf, handle))


def reset(csrf: str, token: str = "", problem: str = "") -> str:
    """The form for a new password. Without a `token`, it is taken from the address, or pasted where scripts are off."""
    if token:
        carried = f'<input type="hidden" name="token" value="{escape(token)}">'
    else:
        carried = """<div id="paste"><label for="token">The link from your mail</label>
<p class="hint" id="how">Paste the whole link here.</p></div>
<input id="token" name="token" required autocomplete="off" spellcheck="false" aria-describedby="how">"""
    form = f'<form method="post" action="/reset">{_csrf(csrf)}{carried}{_new_password(problem)}</form>'
    return _page("Choose a new password", _problem(problem) + form, script="" if token else _READ_LINK)


def refused(problem: str) -> str:
    """The end of a token that opens nothing."""
    return _page("This does not work", f'{_problem(problem)}<p><a href="/forgot">Ask for a new mail</a></p>')


def done() -> str:
    """The end of a reset."""
    return _page(
        "Your password was changed",
        '<p role="status">Every log-in of the account has ended, and a notice is on its way.</p>\n'
        '<p><a href="/log-in">Log in</a> with the new password.</p>',
    )


def problem(title: str, told: str) -> str:
    """What went wrong with a request."""
    return _page(title, f'<p role="alert">{escape(told)}</p>\n<p><a href="/log-in">Begin again</a></p>')


def mails(entries: Sequence[Entry]) -> str:
    """The inbox of all accounts, newest first."""
    return _list("mails", "Mails", "None yet. Ask for one on the site.", entries)


def events(entries: Sequence[Entry]) -> str:
    """What the application is told, newest first."""
    return _list("events", "What the application is told", "Nothing yet.", entries)


def _list(name: str, title: str, none: str, entries: Sequence[Entry]) -> str:
    own = [each for each in reversed(entries) if list_of(each) == name]
    items = "".join(item(each, is_open=each is own[0]) for each in own)
    last = entries[-1].number if entries else 0
    body = f"""<main><h1 id="title">{title}</h1>
<p class="hint" role="status" id="live" data-changes="/changes/{name}?after={last}"><a href="/{name}">Load again</a>
to see what has come since.</p>
<ol aria-labelledby="title" aria-live="polite">{items}</ol>
<p class="none">{none}</p></main>
<script>{_FOLLOW}</script>"""
    return _document(f"{title} - Demonstration", body, kind="wide")


def list_of(entry: Entry) -> str:
    """The list in which an entry belongs."""
    return "mails" if isinstance(entry.what, EmailMessage) else "events"


def item(entry: Entry, *, is_open: bool) -> str:
    """One mail or event in its list."""
    time = f'<time datetime="{entry.at.isoformat(timespec="seconds")}">{entry.at:%H:%M:%S}</time>'
    if isinstance(entry.what, EmailMessage):
        return _mail(entry.number, entry.what, time, is_open=is_open)
    return _event(entry.what, time)


def _mail(number: int, mail: EmailMessage, time: str, *, is_open: bool) -> str:
    subject, to = (escape(mail.get(name, "")) for name in ("Subject", "To"))
    text = _LINK.sub(r'<a href="\g<0>" target="site" rel="noreferrer">\g<0></a>', escape(_part(mail, "plain")))
    return f"""<li><details{" open" * is_open}><summary><b>{subject}</b> to {to} {time}</summary>
<iframe src="/mails/{number}" title="The mail: {subject}" loading="lazy"
 sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe>
<details><summary>Its text part</summary><pre>{text}</pre></details></details></li>"""


def mail_document(mail: EmailMessage) -> str:
    """The HTML part of a mail, whose links open in a new tab."""
    return _part(mail, "html").replace("<head>", '<head><base target="_blank">', 1)


def _part(mail: EmailMessage, subtype: str) -> str:
    part = mail.get_body((subtype,))
    return str(part.get_content()) if part else ""


def _event(event: Event, time: str) -> str:
    name, _, told = repr(event).partition("(")
    why = (inspect.getdoc(type(event)) or "").partition(".")[0]  # its first sentence, unless Python runs without them
    return (
        f"<li>{time} <b>{escape(name)}</b> <code>{escape(told.removesuffix(')'))}</code>"
        f'<span class="why">{escape(why)}.</span></li>'
    )


def _code_form(csrf: str, handle: str) -> str:
    return f"""<form method="post" action="/code">{_csrf(csrf)}
<input type="hidden" name="handle" value="{escape(handle)}">
<label for="code">The code from the mail</label>
<input id="code" name="code" class="code" autocomplete="one-time-code" autocapitalize="characters" spellcheck="false"
 required>{_new_password("")}</form>"""


def _new_password(problem: str) -> str:
    invalid = ' aria-invalid="true" autofocus' if problem else ""
    return f"""<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" required
 aria-describedby="rule"{invalid}>
<p class="hint" id="rule">At least {LEAST_LENGTH} characters; no common one. No real password of yours, please.</p>
<button>Save</button>"""


def _problem(told: str) -> str:
    return f'<p role="alert">{escape(told)}</p>\n' if told else ""


def _csrf(token: str) -> str:
    return f'<input type="hidden" name="csrf" value="{token}">'


def _page(title: str, content: str, *, script: str = "") -> str:
    body = f"""<header><b>Example</b> <a href="/log-in">Log in</a> <a href="/forgot">Forgot password</a></header>
<main><h1>{escape(title)}</h1>
{content}</main>
<footer>A demonstration: accounts, mails and tokens are in memory, on this machine alone.</footer>"""
    return _document(f"{title} - Example", body + f"<script>{script}</script>" * bool(script))


def _document(title: str, body: str, *, kind: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body class="{kind}">
{body}
</body>
</html>
"""
