"""`kill -9` at every kind of event that changes a run's folder, and what two runs must share.

An event is a file opened for writing, renamed, removed or made a folder inside the run folder, or a commit of its
ledger. A child process counts them, and kills itself at the one that it was told; it is forked from this one, which has
loaded the libraries.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from safetensors.torch import load_file

from preflexor_lab.recipes.run import run_recipe
from preflexor_lab.recipes.schema import Recipe
from preflexor_lab.runs.ledger import Ledger

_WRITES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "shutil.copyfile")
SMALL = dict(model="novice", pages=40, eval=dict(items=2, max_new_tokens=4, direct=False), threads=1, batch_size=8)
SAMPLED = dict(samples=2, max_new_tokens=8, batch_size=2, learning_rate=1e-4)
SPECS = {
    "orpo, then exo in two rounds": [
        dict(kind="orpo", questions=8, batch_size=2, epochs=2, checkpoint_every=2, max_new_tokens=64),
        dict(kind="exo", questions=8, batch_size=2, rounds=2, checkpoint_every=1, max_new_tokens=64),
    ],
    "spin in two iterations": [
        dict(kind="spin", questions=8, rounds=2, batch_size=2, checkpoint_every=1, max_new_tokens=64),
    ],
    "latro, the best of its evaluations": [dict(kind="latro", questions=8, evaluations=2) | SAMPLED],
    "rlsf": [dict(kind="rlsf", questions=16, checkpoint_every=4, batch_size=2, max_new_tokens=8, learning_rate=1e-4)],
}


def recipe_of(name: str) -> Recipe:
    "A small recipe with checkpoints inside its stages."
    return Recipe(**SMALL, stages=SPECS[name])


def _watch(folder: Path, kill_at: int | None, seen: list[str]) -> None:
    "Count the events of this process, and kill it at one of them."

    def happened(what: str) -> None:
        seen.append(what)
        if len(seen) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple) -> None:
        written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if written or event in _WRITES:
            paths = [os.fspath(a) for a in args if isinstance(a, str | os.PathLike)]
            if any(p.startswith(str(folder)) for p in paths):
                happened(f"{event} {Path(paths[0]).name}")

    execute = Ledger._execute

    def committed(self, statement, *args):
        if statement == "COMMIT":
            happened("before a commit")
        found = execute(self, statement, *args)
        if statement == "COMMIT":
            happened("after a commit")
        return found

    sys.addaudithook(hook)
    Ledger._execute = committed


def run_in_child(name: str, folder: Path, kill_at: int | None = None) -> list[str] | None:
    "Run the recipe in a process of its own: its events, or None when it was killed; raises when it failed."
    said = folder.with_suffix(".events")
    child = os.fork()
    if child == 0:
        seen: list[str] = []
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            torch.set_num_threads(1)
            _watch(folder, kill_at, seen)
            run_recipe(recipe_of(name), folder, show=False)
            said.write_text(json.dumps(seen))
        except BaseException:
            said.write_text(json.dumps(traceback.format_exc()))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    found = json.loads(said.read_text())
    if isinstance(found, str):
        raise AssertionError(f"{name}, killed at {kill_at}: {found}")
    return found


def outcome(folder: Path) -> dict:
    "What two runs must share: ledger and summary without times, every logged line, the weights."
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        rows = ledger.dump()
    summary = json.loads((folder / "summary.json").read_text())
    weights = load_file(folder / "model" / "model.safetensors")
    return dict(
        rows=rows,
        summary=[r for r in summary if "seconds" not in r["metric"]],
        metrics=(folder / "metrics.jsonl").read_text().splitlines(),
        weights={k: v.float().double().sum().item() for k, v in weights.items()},
    )


def differences(found: dict, expected: dict) -> list[str]:
    "In words, what a resumed run has that an undisturbed one has not."
    return [f"{what} differ" for what in expected if found[what] != expected[what]]


def torture(name: str, folder: Path, points: int) -> list[str]:
    "Kill a run at `points` places spread over its events, resume each, and compare; a line for each that differs."
    whole = folder / "whole"
    events = run_in_child(name, whole)
    expected, bad = outcome(whole), []
    for k in range(points):
        at = 1 + (len(events) - 1) * (2 * k + 1) // (2 * points)
        run = folder / f"killed-{at}"
        assert run_in_child(name, run, kill_at=at) is None, f"{name}: event {at} of {len(events)} did not come"
        run_in_child(name, run)
        bad += [
            f"{name}, killed at event {at} of {len(events)} ({events[at - 1]}): {d}"
            for d in differences(outcome(run), expected)
        ]
    return bad


if __name__ == "__main__":
    import tempfile

    total = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    wrong = []
    for name in SPECS:
        with tempfile.TemporaryDirectory() as place:
            wrong += (found := torture(name, Path(place), total // len(SPECS)))
            print(f"{name}: {total // len(SPECS)} kill points, {len(found)} differ", flush=True)
    print("\n".join(wrong))
    sys.exit(bool(wrong))
