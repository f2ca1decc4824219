"`make bench` is one command that goes to the end, and says at the end what missed its target."

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    "codes, pip, listed",
    [
        ({"a": 0, "b": 1, "c": 0, "d": 2}, 0, ["benchmarks/b.py", "benchmarks/d.py"]),
        ({"a": 0, "b": 0}, 0, []),
        ({"a": 0, "b": 0}, 1, ["bench_requirements"]),
    ],
)
def test_bench_runs_all_and_lists_what_failed(tmp_path, codes, pip, listed):
    "Scripts with these exit codes, behind the real Makefile and an environment that is ready."
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.py", "settings.ini"):
        (tmp_path / name).write_text("")
    (tmp_path / "benchmarks").mkdir()
    for name, code in codes.items():
        (tmp_path / "benchmarks" / f"{name}.py").write_text(f"print('ran {name}')\nraise SystemExit({code})\n")
    tools = tmp_path / "env" / "bin"
    tools.mkdir(parents=True)
    for name, does in (("python", f'exec "{sys.executable}" "$@"'), ("pip", f"exit {pip}")):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "env" / ".ready").write_text("")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    done = subprocess.run(
        ["make", "bench", "VENV=env"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert [w for w in done.stdout.splitlines() if w.startswith("ran ")] == [f"ran {name}" for name in codes], (
        done.stderr
    )
    assert (done.returncode != 0) == bool(listed), done.stderr
    last = [line for line in done.stderr.splitlines() if "missed" in line]
    assert len(last) == bool(listed)
    for name in codes:
        assert any(f"benchmarks/{name}.py" in line for line in last) == (f"benchmarks/{name}.py" in listed)
    assert all(any(word in line for line in last) for word in listed)


def real_model(*options, **env):
    "The benchmark on real models, as a process."
    script = [sys.executable, str(ROOT / "benchmarks" / "real_model.py"), *map(str, options)]
    env = {k: v for k, v in os.environ.items() if k != "PREFLEXOR_REAL_MODELS"} | env
    return subprocess.run(script, env=env, capture_output=True, text=True, timeout=300)


def test_the_real_model_benchmark_goes_on_where_it_ended(tmp_path):
    "On the packaged model: figures of both sides; a second run measures nothing again."
    nano, state = ROOT / "preflexor_lab" / "assets" / "nano" / "reasoner", tmp_path / "state.json"
    given = ("--small", "--model", nano, "--state", state, "--only", "frozen,orpo")
    first = real_model(*given)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert set(found["cells"]) == {"frozen", "orpo"} and found["small"]
    orpo = found["cells"]["orpo"]
    assert orpo["ours"]["step"] == orpo["trl"]["step"] == 1
    assert orpo["ratio"] == pytest.approx(orpo["ours"]["cpu_seconds"] / orpo["trl"]["cpu_seconds"], rel=0.02)
    assert 0.05 < orpo["ours"]["peak_gb"] < 5 and found["cells"]["frozen"]["both"]["cpu_seconds"]["frozen"] > 0
    kept = json.loads(state.read_text())
    del kept["orpo/trl"]
    state.write_text(json.dumps(kept))
    second = real_model(*given)
    again = json.loads(second.stdout)["cells"]
    assert again["frozen"] == found["cells"]["frozen"] and again["orpo"]["ours"] == orpo["ours"]
    measured = [line.split()[0] for line in second.stderr.splitlines() if line.startswith(("frozen/", "orpo/"))]
    assert measured == ["orpo/trl"]


def test_the_real_model_benchmark_without_a_model(tmp_path):
    done = real_model("--state", tmp_path / "state.json")
    assert done.returncode == 0 and "set PREFLEXOR_REAL_MODELS" in json.loads(done.stdout)["skipped"]


def test_the_real_model_benchmark_knows_its_measurements(tmp_path):
    nano = ROOT / "preflexor_lab" / "assets" / "nano" / "reasoner"
    done = real_model("--model", nano, "--only", "speed")
    assert done.returncode != 0 and "generate_8" in done.stderr.splitlines()[-1]


def test_ratios_of_the_real_model_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as it is when the file is run
    spec = importlib.util.spec_from_file_location("real_model", ROOT / "benchmarks" / "real_model.py")
    bench = importlib.util.module_from_spec(spec)
    before = dict(os.environ)
    spec.loader.exec_module(bench)
    os.environ.clear()
    os.environ.update(before)
    sides = {"ours": {"cpu_seconds": 2.0, "peak_gb": 3.0}, "trl": {"cpu_seconds": 5.0, "peak_gb": 6.0}}
    found = bench.judged("orpo", sides)
    assert (found["ratio"], found["memory_ratio"], found["bar"], found["met"]) == (0.4, 0.5, 0.5, True)
    assert bench.judged("exo", {**sides, "ours": {"cpu_seconds": 2.5, "peak_gb": 3.0}})["met"] is False
    assert bench.judged("generate_8", {"both": {"ratio": 1.05}})["met"] is False  # more is better
    assert bench.judged("frozen", {"both": {"ratio": 1.05}})["met"] is True  # less is better
    assert bench.judged("orpo", {**sides, "trl": {"failed": "killed"}})["met"] is False
    assert bench.chosen("generate,ask") == ["generate_1", "generate_8", "generate_64", "ask"]
    assert bench.chosen(None) == list(bench.CELLS)
