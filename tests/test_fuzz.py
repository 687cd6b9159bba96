"""The fuzz targets on the inputs that are kept, and with a planted fault each, which they must see."""

import json
import subprocess
import sys
from hmac import HMAC
from pathlib import Path
from typing import Any

import pytest

from fuzz import targets
from fuzz.targets import TARGETS
from resetkit import _jobs, _link, _manager, _tokens, hashing
from resetkit import policy as policies
from resetkit._manager import Engine
from test_engine_twins import mail_to_the_typed_address

CORPUS = Path(targets.__file__).parent / "corpus"


def replay(target: str, *names: str) -> None:
    """Run a target on the kept inputs, all or those named."""
    for path in sorted((CORPUS / target).iterdir()):
        if not names or path.name in names:
            try:
                TARGETS[target](path.read_bytes())
            except BaseException as error:
                error.add_note(f"the input is {path.relative_to(CORPUS.parent)}")
                raise


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_keeps_the_promise(target: str) -> None:
    replay(target)


def test_every_target_has_inputs_few_and_small() -> None:
    kept = {folder.name: list(folder.iterdir()) for folder in CORPUS.iterdir()}
    assert set(kept) == set(TARGETS)
    for inputs in kept.values():
        assert 10 <= len(inputs) <= 100
        assert all(each.stat().st_size <= 1024 for each in inputs)


def parse_stripped(text: str) -> Any:
    return _tokens.parse_token(text.strip())


def parse_encoded(text: str) -> Any:
    return _tokens.parse_token(text.encode().decode())


def join_as_typed(handle: str, typed: str) -> str:
    return f"{handle}-{typed.strip().upper()}"


def compare_four_letters(*args: Any, secret: str = "", **bound: Any) -> bytes:
    part, typed = args
    return _tokens.bind(part, targets.CODE if typed[:4] == targets.CODE[:4] else typed, **bound)


def decode_without_a_look(text: str) -> Any:
    return _jobs._build(json.loads(text))


def compare_what_is_there(rest: str, secret: bytes, key: HMAC) -> bool:
    salt, _, mac = rest.partition("$")
    try:
        return hashing._mac(key, bytes.fromhex(salt) + secret).hex().startswith(mac)
    except ValueError:
        return False


def take_all(*_: object) -> bool:
    return True


Patch = tuple[Any, str, Any]

FAULTS: dict[str, tuple[str, str, list[Patch]]] = {
    "a token is taken with white space around it": (
        "token",
        "line-break-behind",
        [(targets, "parse_token", parse_stripped)],
    ),
    "a token that cannot be encoded is an error": (
        "token",
        "lone-surrogate",
        [(_manager, "parse_token", parse_encoded)],
    ),
    "a code is read as it is typed": ("code", "look-alikes", [(targets, "code_token", join_as_typed)]),
    "half a code is enough": ("code", "half-right", [(_manager, "bind", compare_four_letters)]),
    "mail goes to the typed address": ("identifier", "bob", [(Engine, "_find", mail_to_the_typed_address)]),
    "line breaks come through": ("identifier", "header", [(Engine, "_is_identifier", take_all)]),
    "a job that is none is an error": ("job", "not-json", [(_manager, "decode_job", decode_without_a_look)]),
    "the host of a link is what urlsplit says": (
        "link",
        "host-behind-the-bracket",
        [(_link, "_is_plain", take_all)],
    ),
    "a code may be tried for ever": (
        "policy",
        "many-guesses",
        [(policies, "MAX_GUESSES_A_DAY", 10**9), (policies, "MAX_GUESS_CHANCE", 1)],
    ),
    "numbers have no bounds": ("policy", "huge-count", [(policies, "MAX_COUNT", 2**64)]),
    "a stored hash takes the memory that it asks for": (
        "stored_hash",
        "half-a-gibibyte",
        [(hashing, "MAX_MEMORY_KIB", 2**32)],
    ),
    "a stored hash takes the time that it asks for": (
        "stored_hash",
        "too-much-work",
        [(hashing, "MAX_WORK_KIB", 2**40)],
    ),
    "an empty MAC fits all": ("stored_hash", "no-mac", [(hashing, "_verify_mac", compare_what_is_there)]),
}


@pytest.mark.parametrize(("target", "name", "patches"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_seen(target: str, name: str, patches: list[Patch], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (CORPUS / target / name).is_file()
    replay(target, name)
    for owner, attribute, fault in patches:
        monkeypatch.setattr(owner, attribute, fault)
    with pytest.raises((AssertionError, ValueError)):  # the promise's, or one that nothing documents
        replay(target, name)


def test_each_target_has_a_planted_fault() -> None:
    assert {target for target, _, _ in FAULTS.values()} == set(TARGETS)


# What a process takes, in MiB, while it verifies the two dearest of the kept hashes without a watch.
PEAK = """
import re, sys
from fuzz.targets import HASHERS
from resetkit import hashing
{fault}
def peak():  # of this program alone: getrusage begins with what its parent had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 2**10
before = peak()
for path in sys.argv[1:]:
    assert not HASHERS[0].verify(open(path).read(), bytes(32))
print(peak() - before)
"""


def peak(fault: str = "") -> int:
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells")
    dearest = [str(CORPUS / "stored_hash" / name) for name in ("at-the-caps", "half-a-gibibyte")]
    command = [sys.executable, "-c", PEAK.format(fault=fault), *dearest]
    return int(subprocess.run(command, cwd=CORPUS.parent.parent, check=True, capture_output=True).stdout)


def test_no_stored_hash_takes_more_than_256_mib() -> None:
    assert 200 < peak() < 300


def test_without_the_cap_one_does() -> None:
    assert peak("hashing.MAX_MEMORY_KIB = 2**20") > 400
