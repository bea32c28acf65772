"""`python -m tests.mutants`: apply each mutant to a copy of the tree; a test must fail. Prints the table."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "out", "build", "dist")


def main(names: list[str]) -> int:
    chosen = [one for one in MUTANTS if not names or any(word in one.name for word in names)]
    survivors = 0
    print("| Mutant | Failing test | After (s) |\n|---|---|---|", flush=True)
    for mutant in chosen:
        began = time.monotonic()
        killed = is_killed(mutant)
        survivors += not killed
        verdict = " ".join(mutant.command[1:2] + mutant.command[-1:]) if killed else "NONE"
        print(f"| {mutant.name} | {verdict} | {time.monotonic() - began:.0f} |", flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived")
    return int(survivors > 0)


def is_killed(mutant: Mutant) -> bool:
    """Whether the tests fail with the mutant; that they pass without it is shown by `make test`."""
    with tempfile.TemporaryDirectory(prefix="bridge-mutant-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        apply(mutant, copy / mutant.file)
        done = subprocess.run([sys.executable, *mutant.command], cwd=copy, capture_output=True, text=True, check=False)
        broken_promise = " failed" in done.stdout or "to repeat it" in done.stdout
        assert broken_promise or done.returncode == 0, f"{mutant.name}: no test failed, but\n{done.stdout}{done.stderr}"
        return done.returncode == 1


def apply(mutant: Mutant, file: Path) -> None:
    text = file.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: the code has changed, and the mutant must change with it"
    file.write_text(text.replace(mutant.old, mutant.new))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
