"A run that is killed with SIGKILL, three times, ends with the same ledger as a run that nobody disturbed."

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from preflexor_lab.runs.folder import RunError, RunFolder
from preflexor_lab.runs.ledger import CachedEngine, Ledger, LedgerError
from preflexor_lab.text.records import Completion

PROMPTS = [f"how hard is sample {i} ?" for i in range(40)]

WRITER = """
import sys, time
from preflexor_lab.runs.ledger import CachedEngine, Ledger, LedgerRow
from preflexor_lab.text.records import Completion

class Slow:
    "Takes its time; what it says depends on the batch it was asked in, as floating point does."
    engine_id, weights = "slow", "w0"
    def generate(self, prompts, n=1, seed=0, **options):
        time.sleep(0.03)
        return [[self.answer(p, i, seed, len(prompts)) for i in range(n)] for p in prompts]
    def answer(self, p, i, seed, size):
        if p.endswith("7 ?"):
            return Completion("", finish_reason="error", error="refused", engine_id="slow")
        ids, logps = (len(p), i, seed), (-0.1 * size,) * 3
        return Completion(f"{p} {i} of {size}", ids=ids, logps=logps, seed=seed + i, engine_id="slow")

ledger = Ledger(sys.argv[1])
engine = CachedEngine(Slow(), ledger, batch_size=6)
prompts = [f"how hard is sample {i} ?" for i in range(40)]
print("started", flush=True)
for seed in (0, 1):
    answers = engine.generate(prompts, n=2, temperature=1.0, seed=seed)
    with ledger.transaction():
        for prompt, key in zip(prompts, engine.keys(prompts, n=2, temperature=1.0, seed=seed)):
            ledger.add(LedgerRow("grade", "right", parents=key[0], score=1.0))
print("finished", flush=True)
"""


def writer(path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "started"
    return process


def test_three_kills_leave_the_same_ledger(tmp_path):
    process = writer(tmp_path / "whole.sqlite")
    assert process.stdout.readline().strip() == "finished" and process.wait() == 0
    whole = Ledger(tmp_path / "whole.sqlite").dump()
    assert len(whole) == 2 * (2 * 40 + 40)
    draw, killed, sizes = random.Random(0), 0, []
    while killed < 3:
        process = writer(tmp_path / "killed.sqlite")
        time.sleep(draw.uniform(0.02, 0.35))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        sizes.append(len(Ledger(tmp_path / "killed.sqlite")))
        if process.returncode == 0:
            pytest.fail("the writer finished before it was killed three times")
    assert sizes[0] < len(whole), sizes
    process = writer(tmp_path / "killed.sqlite")
    assert process.stdout.readline().strip() == "finished" and process.wait() == 0
    assert Ledger(tmp_path / "killed.sqlite").dump() == whole
    # batches are whole: 3 prompts of 2 samples each
    assert sizes == sorted(sizes)


HALF = """
import os, signal, sys
from preflexor_lab.runs.ledger import Ledger, LedgerRow
ledger = Ledger(sys.argv[1])
ledger.add(LedgerRow("answer", "whole", prompt="before"))
with ledger.transaction():
    for i in range(200): # more than SQLite keeps in memory
        ledger.add(LedgerRow("answer", "x" * 50_000, prompt=f"half {i}"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("readonly", [True, False])
def test_half_a_transaction_is_taken_back(tmp_path, readonly):
    "Also by somebody who only looks."
    path = tmp_path / "ledger.sqlite"
    assert subprocess.run([sys.executable, "-c", HALF, str(path)]).returncode == -signal.SIGKILL
    assert path.with_name("ledger.sqlite-journal").stat().st_size > 0 and path.stat().st_size > 10**6
    with Ledger(path, readonly=readonly) as ledger:
        assert [r["text"] for r in ledger.rows()] == ["whole"]


class Echo:
    engine_id = "echo"

    def generate(self, prompts, n=1, **options):
        return [[Completion(p * 300) for _ in range(n)] for p in prompts]


def test_two_processes_write_one_ledger(tmp_path):
    processes = [writer(tmp_path / "shared.sqlite") for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    assert len(Ledger(tmp_path / "shared.sqlite")) == 240


@pytest.fixture
def tiny_disk(tmp_path):
    "A file system of 300 kB; needs the right to mount one."
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk(tiny_disk):
    with RunFolder(tiny_disk / "run", dict(steps=1)) as run:
        engine = CachedEngine(Echo(), run.ledger, batch_size=2)
        with pytest.raises(LedgerError, match="full; rows committed before are intact") as error:
            engine.generate(PROMPTS)
        assert "\n" not in str(error.value)
        kept = len(run.ledger)
        assert 0 < kept < 40 and kept % 2 == 0
        (tiny_disk / "filler").write_bytes(b"")
        with pytest.raises(RunError, match="no room left on the disk") as error:
            while True:
                run.log(dict(text="x" * 10_000))
        assert "\n" not in str(error.value)
        with pytest.raises(RunError, match="no room left on the disk"):
            run.finish("stage")
        assert not run.done("stage")
    # with room again the same commands go on
    os.truncate(tiny_disk / "run" / "metrics.jsonl", 0)
    with RunFolder(tiny_disk / "run", dict(steps=1)) as run:
        assert len(run.ledger) == kept and run.metrics() == []
        run.finish("stage")
        assert json.loads((tiny_disk / "run" / "summary.json").read_text()) == []


HOLDER = """
import sys, time
from preflexor_lab.runs.folder import RunFolder
run = RunFolder(sys.argv[1], dict(steps=1))
print("locked", flush=True)
time.sleep(60)
"""


def test_one_process_a_folder(tmp_path):
    "A living owner is respected, a killed one is not waited for."
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "locked"
    with pytest.raises(RunError, match=f"in use by process {process.pid}") as error:
        RunFolder(tmp_path / "run", dict(steps=1))
    assert "\n" not in str(error.value)
    assert RunFolder(tmp_path / "run", lock=False).recipe == dict(steps=1)
    process.kill()
    process.wait()
    with RunFolder(tmp_path / "run", dict(steps=1)) as run:
        assert not run.done("anything")
