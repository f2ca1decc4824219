"""Certificates per second of the symbolic tools: in this process on one core, and in a pool of limited workers; prints
one JSON line.

Each tool judges its examples (right, wrong and broken responses in turn) in batches until the time is up; the best of
the rounds counts. A pool pays for messages and gains cores, so it wins where a certificate costs more than a message,
about 30 microseconds. There is no target: the figures say whether a tool keeps up with sampling. Another tool is one
more line in `tools()`.
"""

import argparse
import json
import os
import time
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")


def tools():
    "Name -> (tool, examples); an example is (prompt, response, item)."
    from preflexor_lab.tasks import materials_lab as world
    from preflexor_lab.tools.arithmetic import Arithmetic
    from preflexor_lab.tools.code import PythonCode
    from preflexor_lab.tools.countdown import Countdown, Game24, countdown_items
    from preflexor_lab.tools.json_schema import JSONSchema
    from preflexor_lab.tools.lab import Lab
    from preflexor_lab.tools.logic import Logic

    lab, games = world.items(20, seed=0), countdown_items(20, seed=0)
    rules = SimpleNamespace(meta=dict(premises=["A -> B", "~B | C", "A xor C", "D <-> (A & B)"]))
    follows = SimpleNamespace(meta=dict(premises=["A -> B", "B -> C", "A"], conclusion="C"))
    shape = SimpleNamespace(
        meta=dict(
            schema=dict(
                type="object",
                required=["name"],
                properties=dict(name=dict(type="string"), values=dict(type="array", items=dict(type="number"))),
            )
        )
    )
    tested = SimpleNamespace(
        meta=dict(tests=["assert area(2, 3) == 6", "assert area(0, 3) == 0", "assert area(1, 1) == 1"])
    )
    code = "Multiply:\n```python\ndef area(a, b):\n    return a*b\n```\n"
    solution = (
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May. Altogether she sold 48+24 = <<48+24=72>>72, or "
        "72/2 = 36 pairs, at $1.50 each: 36 * 1.5 = 54.\n#### 54"
    )
    return {
        "arithmetic": (Arithmetic(), [("", solution, None), ("", solution.replace("=72", "=71"), None)]),
        "lab": (Lab(), [(i.prompt, r, None) for i in lab for r in (i.completion, i.answer)]),
        "countdown": (Countdown(), [(i.prompt, r, i) for i in games for r in (i.answer, i.gold, i.answer + " + 1")]),
        "game24": (Game24(), [("4 7 8 8", r, None) for r in ("(7-8/8)*4", "(7-8/8)*5", "4*(7")]),
        "logic_values": (
            Logic(),
            [("", r, rules) for r in ("A=false, B=false, C=true, D=false", "A=true, B=false, C=true, D=true")],
        ),
        "logic_verdict": (Logic(), [("", r, follows) for r in ("yes", "no", "unknown")]),
        "python_compile": (PythonCode(), [("", code, None), ("", code.replace("a*b", "a*(b"), None)]),
        "python_tests": (PythonCode(seconds=1), [("", code, tested), ("", code.replace("a*b", "a+b"), tested)]),
        "json_schema": (
            JSONSchema(),
            [("", r, shape) for r in ('{"name": "bone", "values": [1, 2.5]}', '{"values": ["x"]}', "{")],
        ),
    }


def rate(judge, examples, seconds, rounds):
    "Certificates per second of the best round, after one warm-up; every certificate is checked on the way."
    rows = (examples * (1 + 64 // len(examples)))[:64]
    best = 0.0
    first = judge(*zip(*rows))
    assert not any(c.failed for c in first), next(c.error for c in first if c.failed)
    start = time.perf_counter()
    judge(*zip(*rows))
    batch = rows * max(1, int(seconds / max(1e-4, time.perf_counter() - start) / 4))  # about a quarter of a round
    for _ in range(rounds):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            judge(*zip(*batch))
            done += len(batch)
        best = max(best, done / (time.perf_counter() - start))
    return best


def main():
    "Measure the tools that were asked for, print one line."
    table = tools()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tools", nargs="+", choices=list(table), default=list(table), help="what to time (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="of a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="best of so many (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the pool (default %(default)s)")
    args = parser.parse_args()
    from preflexor_lab.tools.sandbox import Limited, Limits, certify

    found = {}
    for name in args.tools:
        tool, examples = table[name]
        with Limited(tool, Limits(seconds=10), workers=args.workers) as pool:
            found[name] = dict(
                one_core=round(rate(lambda *rows: certify(tool, *rows), examples, args.seconds, args.rounds)),
                pool=round(rate(pool.certify, examples, args.seconds, args.rounds)),
            )
    print(
        json.dumps(
            dict(
                benchmark="tools",
                unit="certificates per second",
                workers=args.workers,
                cores=os.cpu_count(),
                rates=found,
            )
        )
    )


if __name__ == "__main__":
    main()
