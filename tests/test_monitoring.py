"""The recipes of docs/monitoring.md, each in a process of its own and read as a monitoring system reads it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args
from urllib.request import urlopen

from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from resetkit.events import Event, RequestDropped, RequestThrottled, TokenRefused
from test_logging import LEVELS

PAGE: Final = Path(__file__).parent.parent / "docs" / "monitoring.md"
BLOCKS: Final = [str(each.parsed) for each in Document.parse(str(PAGE), PythonCodeBlockParser()).examples()]
JSON, PROMETHEUS, GUNICORN, _, OPENTELEMETRY = BLOCKS
SAMPLE: Final = re.compile(r"^(resetkit_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
TALE: Final = "from test_logging import LEVELS\nfor event in LEVELS:\n    {0}(event)\n"
SERVE: Final = """
from prometheus_client import start_http_server
server, thread = start_http_server(0, "127.0.0.1", registry=registry)
print(server.server_port, flush=True)
input()
"""


def started(*sources: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(sources)],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*sources: str, **environment: str) -> subprocess.CompletedProcess[str]:
    with started(*sources, **environment) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, 0, out, err)


def scraped(*sources: str, **environment: str) -> dict[tuple[str, str], float]:
    """What a server with these counters shows, by metric and labels."""
    with started("from prometheus_client import REGISTRY as registry", *sources, SERVE, **environment) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            text = page.read().decode()
        process.communicate("done\n")
    return {(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)}


def total(samples: dict[tuple[str, str], float], **labels: str) -> float:
    wanted = {f'{name}="{value}"' for name, value in labels.items()}
    counted = [(text.split(","), value) for (name, text), value in samples.items() if name == "resetkit_events_total"]
    found = [value for each, value in counted if wanted <= {*each}]
    assert found
    return sum(found)


def test_prometheus_scrapes_every_event_and_series_stay_few() -> None:
    samples = scraped(PROMETHEUS, TALE.format("count"))
    counters = {labels: value for (name, labels), value in samples.items() if name == "resetkit_events_total"}
    assert sum(counters.values()) == len(LEVELS)
    assert len(counters) < 40
    assert total(samples, event="MailFailed", mail="notice", retry="False") == 1
    assert total(samples, event="JobLost", mail="notice") == 0
    assert samples["resetkit_mail_wait_seconds_sum", 'mail="reset"'] == 1
    assert not any("alice" in labels or "5e1ec7" in labels for _, labels in samples)


def test_what_rings_at_one_begins_at_zero() -> None:
    """An increase shows only where there was a value before, so the first of its kind would be overlooked."""
    samples = scraped(PROMETHEUS)
    rules = PAGE.read_text().partition("```yaml")[2]
    ringing = re.findall(
        r"^ +(?:expr: )?sum\(increase\(resetkit_events_total\{(.*?)\}\[\w+\]\)\) > 0$", rules, re.MULTILINE
    )
    assert len(ringing) == 4
    for selector in ringing:
        assert total(samples, **dict(re.findall(r'(\w+)="(.*?)"', selector))) == 0


def test_several_processes_add_up(tmp_path: Path) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    gone = f"{GUNICORN}\nimport os, types\nchild_exit(None, types.SimpleNamespace(pid=os.getpid()))"
    for _ in range(2):
        run(PROMETHEUS, TALE.format("count"), gone, **folder)
    adding = "from prometheus_client import CollectorRegistry, multiprocess\nregistry = CollectorRegistry()"
    samples = scraped(adding, "multiprocess.MultiProcessCollector(registry)", **folder)
    assert total(samples, event="SessionsNotEnded") == 2
    assert total(samples, event="RequestDropped", reason="unknown") == 2


def test_opentelemetry_reads_every_event() -> None:
    reading = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
"""
    told = run(OPENTELEMETRY, reading, TALE.format("measure"), "print(reader.get_metrics_data().to_json())").stdout
    (scope,) = json.loads(told)["resource_metrics"][0]["scope_metrics"]
    found: dict[str, Any] = {each["name"]: each["data"]["data_points"] for each in scope["metrics"]}
    values = {json.dumps(each["attributes"], sort_keys=True): each["value"] for each in found["resetkit.events"]}
    assert sum(values.values()) == len(LEVELS)
    assert values['{"event": "RequestDropped", "reason": "unknown"}'] == 1
    assert values['{"event": "MailFailed", "mail": "notice", "retry": false}'] == 1
    waited = {each["attributes"]["mail"]: each["sum"] for each in found["resetkit.mail.wait"]}
    assert waited == {"reset": 1, "notice": 0}


def test_the_json_line_is_the_one_on_the_page() -> None:
    told = """
from resetkit.events import SessionsNotEnded, log_event
log_event(SessionsNotEnded(account_id="1", error="OSError"))
"""
    line = json.loads(run(JSON, told).stderr)
    shown = re.findall(r"```json\n(.*)\n```", PAGE.read_text())
    assert line.pop("message")
    assert line.pop("asctime")
    assert [line] == [json.loads(each) for each in shown]


def test_each_rule_selects_what_is_counted() -> None:
    text = PAGE.read_text()
    samples = scraped(PROMETHEUS, TALE.format("count"))
    selectors = re.findall(r"(resetkit_\w+?)(?:\{(.*?)\})?[\[)]", text.partition("```yaml")[2])
    assert len(selectors) > 15
    for name, selector in selectors:
        wanted = [(label, re.compile(value)) for label, value in re.findall(r'(\w+)=~?"(.*?)"', selector)]
        labels = [dict(re.findall(r'(\w+)="(.*?)"', found)) for (each, found) in samples if each == name]
        matching = [each for each in labels if all(value.fullmatch(each[label]) for label, value in wanted)]
        assert matching, f"{name}{{{selector}}} selects nothing"
    table, _, rules = text.partition("## Alerts")[2].partition("```yaml")
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == re.findall(r"- alert: (\w+)", rules)


def test_the_page_explains_every_event_and_every_reason() -> None:
    text = PAGE.read_text()
    names = {each.__name__ for each in get_args(Event)}
    reasons = {event.reason for event in LEVELS if isinstance(event, RequestDropped | TokenRefused)}
    ways = {event.by for event in LEVELS if isinstance(event, RequestThrottled)}
    assert {each for each in names | reasons | ways if f"`{each}`" not in text} == set()
