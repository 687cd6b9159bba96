"""Hand new inputs to the targets, beginning with the kept ones, and say what came of it.

``python tests/fuzz/run.py [--seconds N] [--keep] [TARGET ...]`` runs each target for N seconds, two at a time. With
``--keep`` the inputs that reach something new are added to `corpus`, cut down to the fewest that reach as much. An
input that breaks a promise is put into the folder of its target, where the suite finds it from then on. It needs
atheris: ``python -m pip install atheris``, which has wheels for Linux on x86-64 only, so no extra of ours asks for it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
AT_ONCE: Final = 2
INPUT_SECONDS: Final = 5  # the slowest takes milliseconds
MEMORY_MIB: Final = 512  # Python and the fuzzer take about 100
INPUT_BYTES: Final = 1024  # three times the longest identifier

# What a child process runs. The package is instrumented as it is imported, so nothing of it may be imported before. It
# is a file, because libFuzzer starts itself anew, by the name in argv[0], to merge.
_CHILD: Final = """#!{python}
import sys
import atheris
atheris.enabled_hooks.add("str")
with atheris.instrument_imports(include=["resetkit", "fuzz"]):
    from fuzz.targets import TARGETS
atheris.Setup(sys.argv, TARGETS[{target!r}])
atheris.Fuzz()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one target's run came to."""

    executions: int
    coverage: int
    new_inputs: int
    crashes: int
    ended_well: bool
    said: str


def fuzz(target: str, *, seconds: int, keep: bool) -> Outcome:
    """Run one target. What breaks it is copied into its corpus."""
    corpus = CORPUS / target
    with TemporaryDirectory() as folder:
        found, broken = Path(folder) / "found", Path(folder) / "broken"
        found.mkdir()
        broken.mkdir()
        child = Path(folder) / "child"
        child.write_text(_CHILD.format(python=sys.executable, target=target))
        child.chmod(0o700)
        code, said = _run(
            child,
            f"-max_total_time={seconds}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-max_len={INPUT_BYTES}",
            f"-artifact_prefix={broken}/",
            "-use_value_profile=1",
            "-print_final_stats=1",
            "-verbosity=1",
            str(found),
            str(corpus),
        )
        crashes = list(broken.iterdir())
        for each in crashes:
            shutil.copy(each, corpus)
        outcome = Outcome(
            executions=_number(r"number_of_executed_units:\s+(\d+)", said),
            coverage=_number(r"cov: (\d+)", said),
            new_inputs=len(list(found.iterdir())),
            crashes=len(crashes),
            ended_well=code == 0,
            said=said,
        )
        if keep and outcome.ended_well:
            # By lines reached, not by how often: the kept inputs stay few.
            code, said = _run(child, "-set_cover_merge=1", "-use_counters=0", str(corpus), str(found))
            outcome = replace(outcome, ended_well=code == 0, said=said)
        return outcome


def _run(child: Path, *flags: str) -> tuple[int, str]:
    """How the fuzzer's process ended, and what it said."""
    done = subprocess.run(
        [child, *flags],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def _number(pattern: str, said: str) -> int:
    """The last number that the fuzzer said so, 0 if it did not come that far."""
    found: list[str] = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def main() -> int:
    """Run the targets named on the command line, or all; 1 if a promise was broken."""
    targets = sorted(each.name for each in CORPUS.iterdir())
    parser = argparse.ArgumentParser(description="Fuzz resetkit with atheris.")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(targets)}; all, if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--keep", action="store_true", help="add what reaches something new to the corpus")
    options = parser.parse_args()
    chosen: list[str] = options.target or targets
    if strange := set(chosen) - set(targets):
        parser.error(f"there is no target {', '.join(sorted(strange))}: choose from {', '.join(targets)}")
    print(f"{'target':<12} {'executions':>11} {'coverage':>9} {'new inputs':>11} {'crashes':>8}")
    failed = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(fuzz, target, seconds=options.seconds, keep=options.keep) for target in chosen]
        for target, run in zip(chosen, runs, strict=True):
            done = run.result()
            print(
                f"{target:<12} {done.executions:>11,} {done.coverage:>9,} {done.new_inputs:>11,} {done.crashes:>8,}",
                flush=True,
            )
            if not done.ended_well:
                failed = True
                print(done.said[-4000:])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
