"The Python tool: reward hacks that must not pass, honest programs that must, and what is left behind: nothing."

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hacks.programs import HACKS, HONEST, TASKS

from preflexor_lab.tools import code, isolation, plain
from preflexor_lab.tools.code import PROGRAMS, PythonCode
from preflexor_lab.tools.sandbox import Limited, Limits, validate_certificate

TOOL = PythonCode(seconds=3, memory_mb=128)
SHORT = PythonCode(seconds=0.5, memory_mb=128)


def judge(tool, meta, response, prompt=""):
    return tool(prompt, response, SimpleNamespace(meta=meta))


@pytest.mark.parametrize("name", TASKS)
def test_the_honest_program_passes(name):
    meta, program = TASKS[name]
    cert = judge(TOOL, meta, program)
    assert cert.passed and cert.score == 1, cert


@pytest.mark.parametrize("name", HACKS)
def test_no_hack_scores_above_the_honest_program(name):
    task, program = HACKS[name]
    response = f"Here it is.\n```python\n{program}\n```\n"
    cert = judge(SHORT, TASKS[task][0], response)
    assert not cert.error, cert.error  # what a response causes is a score
    assert not cert.passed and cert.score == 0, cert
    assert validate_certificate(cert, response) == cert


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass(name):
    meta, response = HONEST[name]
    cert = judge(TOOL, meta, response, meta.get("prompt", ""))
    assert cert.passed and cert.score == 1, cert
    assert validate_certificate(cert, response) == cert


def alive(session):
    "Processes of a session that run."
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has just ended
        if int(its) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def settled(count, most):
    "A count once it has fallen to `most`, or after five seconds."
    until = time.monotonic() + 5
    while (n := count()) > most and time.monotonic() < until:
        time.sleep(0.05)
    return n


def some(program, tests=("assert f(2) == 4",), tool=TOOL):
    return judge(tool, dict(tests=list(tests)), program)


FINE = "def f(x):\n    return 2 * x"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["endless", "a daemon", "fork bomb", "many threads", "a segmentation fault"])
def test_no_process_is_left_behind(name):
    some(FINE)
    before = len(alive(PROGRAMS.pid))
    task, program = HACKS[name]
    judge(SHORT, TASKS[task][0], program)
    assert settled(lambda: len(alive(PROGRAMS.pid)), before) <= before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_everything_ends_with_the_process_that_asked(tmp_path):
    program = (
        "import sys, os, threading, time\n"
        "from preflexor_lab.tools.code import PROGRAMS, PythonCode\n"
        "tool = PythonCode(['assert f() == 1'], seconds=60)\n"
        "tool('', 'def f(): return 1')\n"
        "threading.Thread(target=tool, args=('', 'def f():\\n    while True: pass'), daemon=True).start()\n"
        "time.sleep(0.5)\n"
        "print(PROGRAMS.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    session = int(child.stdout.readline())
    assert len(alive(session)) >= 3  # the server, the tests, the program
    child.kill()
    child.wait()
    child.stdout.close()
    assert settled(lambda: len(alive(session)), 0) == 0


def test_what_one_program_does_is_gone_for_the_next():
    spoil = "import builtins, math, sys\nbuiltins.len = math.sqrt = None\nsys.modules['json'] = None\n" + FINE
    assert not some(spoil).passed  # it needs `len` itself, to answer
    assert some("import json, math\ndef f(x):\n    return len([0] * x) * int(math.sqrt(4))").passed


def test_many_threads_share_one_server():
    programs = [f"def f(x):\n    return x + {k % 3}" for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(some, programs))
    assert [c.passed for c in found] == [k % 3 == 2 for k in range(40)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_of_this_process_gets_its_own_server():
    some(FINE)
    pid = PROGRAMS.pid
    if (child := os.fork()) == 0:
        os._exit(0 if some(FINE).passed and PROGRAMS.pid != pid else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert some(FINE).passed and PROGRAMS.pid == pid


def test_a_server_that_was_killed_is_started_again():
    some(FINE)
    os.killpg(PROGRAMS.pid, 9)
    time.sleep(0.2)
    assert some(FINE).passed


def test_it_works_in_a_limited_worker():
    with Limited(PythonCode(["assert f(2) == 4"], seconds=0.5), Limits(seconds=5), workers=2) as limited:
        found = limited.certify([""] * 60, [FINE, "def f(x):\n    return x"] * 30)
    assert [c.passed for c in found] == [True, False] * 30 and not any(c.error for c in found)


@pytest.fixture
def without_filter(monkeypatch):
    "A server on a system whose kernel has no filter."
    program = isolation._SERVER_PROGRAM.replace("job = ", "isolation._COLUMN.clear()\njob = ")
    monkeypatch.setattr(isolation, "_SERVER_PROGRAM", program)
    server = isolation.ForkServer(PROGRAMS.module, PROGRAMS.function)
    monkeypatch.setattr(code, "PROGRAMS", server)
    return server


def test_without_a_filter_the_certificate_says_so(without_filter):
    cert = some(FINE)
    assert cert.passed and "not isolated by the kernel" in cert.reason and "audit hook" in cert.reason
    assert "system-call filter" not in without_filter.held()
    assert not without_filter.close.alive  # a server for each job


@pytest.mark.parametrize("name", ["always equal", "frames", "own abs", "kill the parent", "fork", "a command", "files"])
def test_without_a_filter_hacks_do_not_pass_either(name, without_filter):
    task, program = HACKS[name]
    cert = judge(SHORT, TASKS[task][0], program)
    assert not cert.passed and cert.score == 0 and not cert.error, cert


@pytest.mark.parametrize("wrapper", ["bubblewrap", "unshare", ""])
def test_each_way_to_start_works(wrapper, monkeypatch):
    if isolation._wrapped(wrapper) is None:
        pytest.skip(f"{wrapper} is not installed")
    server = isolation.ForkServer(PROGRAMS.module, PROGRAMS.function)
    server._ways = [wrapper]
    monkeypatch.setattr(code, "PROGRAMS", server)
    cert = some(FINE)
    if cert.error and wrapper:
        pytest.skip(f"{wrapper} is not granted here")
    assert cert.passed and server.wrapper == wrapper and (not wrapper or wrapper in server.held())
    assert not some(HACKS["always equal"][1]).passed
    server.close()


@pytest.mark.parametrize(
    "meta, why",
    [
        (dict(tests=["assert f("]), "cannot be used"),
        (dict(tests=["import numpy as np\nassert np.allclose(f(2), 4)"]), "numpy"),
        (dict(tests=["assert abs(max(1, 2)) == 2"]), "entry_point"),
        (dict(test="def check(candidate):\n    assert candidate(2) == 4"), "entry_point"),
        (dict(tests=[("f(2)", object())]), "cannot be used"),
    ],
)
def test_tests_that_cannot_be_used_are_no_verdict(meta, why):
    cert = judge(TOOL, meta, FINE)
    assert cert.failed and why in cert.error


@pytest.mark.parametrize(
    "test, program, why",
    [
        ("assert eval(f('1+1')) == 2", "def f(s): return s", "evaluate text"),
        ("assert f(2) == 4", "class N:\n    pass\ndef f(x): return N()", "no plain value"),
        ("assert isinstance(f(2), N)", "class N:\n    pass\ndef f(x): return N()", "can be faked"),
        ("assert P(2) == P(2)", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int", "can be faked"),
        ("assert f(2) in {4}", "class N:\n    __hash__ = lambda s: hash(4)\ndef f(x): return N()", "can be faked"),
    ],
)
def test_a_test_that_could_be_fooled_scores_zero_and_says_so(test, program, why):
    cert = some(program, [test])
    assert cert.score == 0 and not cert.error and why in cert.reason, cert


def test_reasons_name_the_line_at_fault():
    response = "```python\ndef f(x):\n    y = x - 2\n    return 1 / y\n```"
    cert = some(response, ["assert f(3) == 1", "assert f(2) == 4", "assert f(4) == 0.25"])
    assert [response[s.start : s.end] for s in cert.spans] == ["def f(x):", "return 1 / y", "def f(x):"]
    assert [s.value for s in cert.spans] == [1, -1, -1] and cert.score == pytest.approx(1 / 3)
    assert cert.spans[1].reason == "f(2): ZeroDivisionError: division by zero"
    assert cert.spans[2].reason == "f(4): gives 0.5, not 0.25"


def test_a_program_sees_its_arguments_and_nothing_else():
    program = (
        "import sys\nseen = []\ndef f(x):\n    g = sys._getframe()\n    while g:\n"
        "        seen.append(repr(g.f_locals))\n        g = g.f_back\n    return 2 * x\n"
        "def told():\n    return any(str(90210 + 7) in s for s in seen)"
    )
    tests = ["assert f(2) != 90217 and f(3) == 6", ("f(4)", 8), "assert told() is False", "assert f(90217) == 180434"]
    cert = some(program, [*tests, "assert told() is True"])
    assert cert.passed, cert.reason


def hostile(rng, depth=0):
    "Random JSON, most of it with known tags and contents that do not fit them."
    tags = [*plain._READERS, "mine", "x", ""]
    atoms = [None, True, -1, 2**70, 1.5, float("nan"), "", "0x1", "zz", "eval", "2020-01-02", {}, {"do": 1}, []]
    if depth > 4 or rng.random() < 0.3:
        return rng.choice(atoms)
    if rng.random() < 0.7:
        return [rng.choice(tags), hostile(rng, depth + 1)]
    return [hostile(rng, depth + 1) for _ in range(rng.randrange(4))]


def test_random_bytes_are_a_plain_value_or_refused():
    rng, read = random.Random(0), 0
    for _ in range(5_000):
        data = hostile(rng)
        try:
            value = plain.decode(data)
        except plain.NotPlain:
            continue
        read += 1
        if "iterator" not in repr(data) and "nan" not in repr(value).lower():
            assert plain.decode(plain.encode(value)) == value, data
    assert read > 100
