"kill -9 at random moments, then the same command: the run ends as an undisturbed one."
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from preflexor_lab.ledger import Ledger

KILLS = int(os.environ.get("PREFLEXOR_KILLS", "3"))


def command(root, folder):
    return [sys.executable, "-c", "from preflexor_lab.recipes import main; main()", "run", "tests/recipes/mini.yaml", "--run-dir", str(folder)]


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def outcome(folder):
    "What two runs must share: the ledger without times, and the summary without seconds."
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        rows = ledger.dump()
    summary = json.loads((folder / "summary.json").read_text())
    return rows, [r for r in summary if "seconds" not in r["metric"]]


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    start = time.monotonic()
    subprocess.run(command(root, folder), cwd=root, env=environment(), check=True, capture_output=True)
    return folder, time.monotonic() - start


def test_killed_run_ends_like_an_undisturbed_one(root, undisturbed, tmp_path):
    whole, seconds = undisturbed
    rng, folder, kills = random.Random(0), tmp_path / "run", 0
    for _ in range(KILLS):
        process = subprocess.Popen(command(root, folder), cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.35, 0.8) * seconds / max(1, KILLS / 3))
        except subprocess.TimeoutExpired:
            kills += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills > 0, "no kill met a running process"
    last = subprocess.run(command(root, folder), cwd=root, env=environment(), capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    rows, summary = outcome(folder)
    expected_rows, expected_summary = outcome(whole)
    assert summary == expected_summary
    assert rows == expected_rows
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (folder / "report.html").is_file()
