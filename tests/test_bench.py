"`make bench` is one command that goes to the end, and says at the end what missed its target."

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
