"""Read what `mutmut run` found: fails below 95 %, and for a survivor that tests/mutants.toml gives no reason for."""

import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

LEAST = 0.95
KILLED = {"killed", "timeout"}
REASONS = Path(__file__).with_name("mutants.toml")


def mutmut(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def place(name: str) -> str:
    """``_manager.Engine._drop`` for what mutmut calls ``resetkit._manager.xǁEngineǁ_drop__mutmut_3``."""
    module, _, function = name.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module.partition('.')[2]}.{function[2:].replace('ǁ', '.')}"


def instead(name: str) -> str:
    """What stands in this mutant instead of the code: a number would not outlive the next change of the function."""
    return " ".join(line[1:].strip() for line in mutmut("show", name) if line[:1] == "+" and line[:3] != "+++")


def main() -> None:
    statuses = dict(line.strip().rsplit(": ", 1) for line in mutmut("results", "--all", "true"))
    if "not checked" in statuses.values():
        sys.exit("mutmut has not checked every mutant: run `mutmut run` to its end")
    reasons = {mutant: reason for reason, mutants in tomllib.loads(REASONS.read_text()).items() for mutant in mutants}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    unexplained: list[str] = []
    for name, status in statuses.items():
        kind = status
        if status not in KILLED:
            mutant = f"{place(name)}: {instead(name)}"
            kind = "explained" if reasons.pop(mutant, None) else "unexplained"
            if kind == "unexplained":
                unexplained.append(f"{status} {mutant}  ({name})")
        counts[name.partition(".x")[0]][kind] += 1
    counts["all"] = sum(counts.values(), Counter())
    kinds = ("killed", "timeout", "explained", "unexplained")
    print(f"{'module':32}{'mutants':>9}{''.join(f'{kind:>13}' for kind in kinds)}  score")
    for module, count in counts.items():
        score = sum(count[kind] for kind in KILLED) / count.total()
        print(f"{module:32}{count.total():9}{''.join(f'{count[kind]:13}' for kind in kinds)}  {score:.1%}")
        if score < LEAST and module == "all":
            unexplained.append(f"the score is below {LEAST:.0%}")
    unexplained += [f"explained, but killed or gone: {mutant}" for mutant in reasons]
    sys.exit("\n".join(unexplained) if unexplained else 0)


if __name__ == "__main__":
    main()
