"kill -9 at random moments and at chosen events, then the same command: the run ends as an undisturbed one."

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from kill_points import SPECS, torture

from preflexor_lab.runs.ledger import Ledger

KILLS = int(os.environ.get("PREFLEXOR_KILLS", "3"))


def command(root, folder):
    return [
        sys.executable,
        "-c",
        "from preflexor_lab.recipes.cli import main; main()",
        "run",
        "tests/recipes/mini.yaml",
        "--run-dir",
        str(folder),
    ]


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def outcome(folder):
    "What two runs must share: the ledger without times, and the summary without seconds."
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        rows = ledger.dump()
    summary = json.loads((folder / "summary.json").read_text())
    return rows, [r for r in summary if "seconds" not in r["metric"]]


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(root, folder), cwd=root, env=environment(), check=True, capture_output=True)
    return folder


def progress(folder):
    "How far a run is: rows in its ledger and lines in its metrics; 0 before there are any."
    if not (folder / "ledger.sqlite").exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True, timeout=5)) as db:
            rows = db.execute("SELECT count(*) FROM rows").fetchone()[0]
    except sqlite3.OperationalError:  # the file is there, its table not yet
        return 0
    metrics = folder / "metrics.jsonl"
    return rows + (metrics.read_bytes().count(b"\n") if metrics.exists() else 0)


def test_killed_run_ends_like_an_undisturbed_one(root, whole, tmp_path):
    rng, folder, end, kills = random.Random(0), tmp_path / "run", progress(whole), []
    for k in range(KILLS):
        target = end * (k + rng.random()) / KILLS
        process = subprocess.Popen(
            command(root, folder), cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while progress(folder) < target and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.2))
        if process.poll() is None:
            kills.append(round(progress(folder) / end, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    print("killed at these parts of the run:", kills)
    assert len(kills) >= KILLS - 1, (
        f"only {kills} of {KILLS} kills met a running process"
    )  # the last one may come too late
    last = subprocess.run(command(root, folder), cwd=root, env=environment(), capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    rows, summary = outcome(folder)
    expected_rows, expected_summary = outcome(whole)
    assert summary == expected_summary
    assert rows == expected_rows
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", SPECS)
def test_killed_inside_its_stages(name, tmp_path):
    "With checkpoints inside stages, evaluations and iterations: `make torture` tries more points."
    assert torture(name, tmp_path, int(os.environ.get("PREFLEXOR_KILL_POINTS", "2"))) == []
