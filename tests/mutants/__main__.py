"""`python -m tests.mutants`: throws every switch in a copy of the tree and sees a test turn red; prints the table."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.switches import MUTANTS, Mutant

HOUSE = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "out", "build", "dist")


def main(wanted: list[str]) -> int:
    chosen = [one for one in MUTANTS if not wanted or any(word in one.name for word in wanted)]
    survivors = 0
    print("| Switch | Turns red | After (s) |\n|---|---|---|", flush=True)
    for mutant in chosen:
        began = time.monotonic()
        red = bites(mutant)
        survivors += not red
        verdict = " ".join(mutant.bites[1:2] + mutant.bites[-1:]) if red else "NOTHING"
        print(f"| {mutant.name} | {verdict} | {time.monotonic() - began:.0f} |", flush=True)
    print(f"{len(chosen)} switches, {survivors} turned nothing red")
    return int(survivors > 0)


def bites(mutant: Mutant) -> bool:
    """Whether the tests fail with the switch thrown; that they pass without it is what `make test` shows."""
    with tempfile.TemporaryDirectory(prefix="bridge-mutant-") as folder:
        house = Path(folder) / "house"
        shutil.copytree(HOUSE, house, ignore=LEFT_OUT)
        throw(mutant, house / mutant.file)
        done = subprocess.run([sys.executable, *mutant.bites], cwd=house, capture_output=True, text=True, check=False)
        broken_promise = " failed" in done.stdout or "to repeat it" in done.stdout
        assert broken_promise or done.returncode == 0, f"{mutant.name}: no test failed, but\n{done.stdout}{done.stderr}"
        return done.returncode == 1


def throw(mutant: Mutant, file: Path) -> None:
    text = file.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: the code has changed, and the switch must change with it"
    file.write_text(text.replace(mutant.old, mutant.new))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
