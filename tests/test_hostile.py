"Thousands of random, mutated and hostile responses for every tool: each gets a valid certificate, inside the limits."

import random
import time
from types import SimpleNamespace

import pytest

from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.tools.arithmetic import Arithmetic
from preflexor_lab.tools.code import PythonCode
from preflexor_lab.tools.countdown import Countdown, Game24, countdown_items
from preflexor_lab.tools.json_schema import JSONSchema
from preflexor_lab.tools.lab import Lab
from preflexor_lab.tools.logic import Logic
from preflexor_lab.tools.sandbox import Limited, Limits, certify, validate_certificate

LAB = world.items(1, seed=1, hops=(3,))[0]
GAME = countdown_items(1, seed=1)[0]
RULES = SimpleNamespace(meta=dict(premises=["A -> B", "~B | C", "A xor C"]))
FOLLOWS = SimpleNamespace(meta=dict(premises=["A -> B", "A"], conclusion="B"))
STATES = SimpleNamespace(
    meta=dict(
        domains={n: ["red", "green", "blue"] for n in ("WA", "NT", "SA")},
        constraints=[["different", "WA", "NT"], ["different", "WA", "SA"], ["different", "NT", "SA"]],
    )
)
TESTED = SimpleNamespace(meta=dict(tests=["assert f(2) == 4", ("f(0)", 0)]))
SHAPE = SimpleNamespace(
    meta=dict(
        schema=dict(
            type="object",
            required=["a"],
            properties=dict(
                a=dict(type="array", items=dict(type="number", maximum=5)), b=dict(type="string", pattern="^x*$")
            ),
            additionalProperties=False,
        )
    )
)
# name: tool, prompt, item, right responses, random ones
TOOLS = {
    "arithmetic": (
        Arithmetic(),
        "",
        None,
        ["3 * 4 = 12, so <<12+1=13>>13 eggs at $1.50 each: 13 x 1.5 = $19.50.", "10/3=3.33"],
        3000,
    ),
    "lab": (Lab(), LAB.prompt, None, [LAB.completion], 3000),
    "countdown": (
        Countdown(),
        GAME.prompt,
        GAME,
        [
            GAME.answer,
            GAME.gold,
            f"<|thinking|>{GAME.gold}<|/thinking|> The answer is {GAME.answer} = {GAME.meta['target']}.",
        ],
        3000,
    ),
    "game of 24": (Game24(), "4 7 8 8", None, ["(7-8/8)*4", "8/8=1\n7-1=6\n6*4=24"], 3000),
    "logic, values": (Logic(), "", RULES, ["A = false, B = false, C = true"], 2000),
    "logic, verdict": (Logic(), "", FOLLOWS, ["yes", "<|thinking|>no<|/thinking|>Yes."], 2000),
    "logic, domains": (Logic(), "", STATES, ["WA = red, NT = green, SA = blue"], 2000),
    "python, compiled": (
        PythonCode(),
        "",
        None,
        ["Here:\n```python\ndef f(x):\n    return {'a': [x*2 for _ in range(3)]}\n```\nDone."],
        3000,
    ),
    "python, tested": (PythonCode(seconds=1), "", TESTED, ["```python\ndef f(x):\n    return 2*x\n```"], 60),
    "json": (JSONSchema(), "", SHAPE, ['{"a": [1, 2.5, -3e0], "b": "xx"}', '```json\n{"a": []}\n```'], 3000),
}
WILD = [
    "<|thinking|>",
    "<|/thinking|>",
    "<|reflect|>",
    "```",
    "```python\n",
    "<<",
    ">>",
    "=",
    "\n",
    "\r\n",
    "\0",
    "\ud800",
    "\u202e",
    "é",
    "😀",
    "日本",
    "²",
    "٣",
    "½",
    "−",
    "×",
    "{",
    "[",
    "(",
    ")",
    '"',
    "\\u12",
    "1e999",
    "-",
    "//",
    "%",
    "9**9",
    "NaN",
    "\x1b[2J",
    "\u2028",
    "\ufeff",
]


def fuzz(rng, right):
    "Random printable text, random unicode, or a right response that was cut, repeated, shuffled and spoiled."
    kind = rng.randrange(4)
    if kind == 0:
        return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(0, 120)))
    if kind == 1:
        return "".join(
            rng.choice(WILD)
            if rng.random() < 0.4
            else chr(rng.choice((rng.randint(0, 0x2FFF), rng.randint(0, 0x10FFFF))))
            for _ in range(rng.randint(0, 60))
        )
    text = rng.choice(right)
    for _ in range(rng.randint(1, 6)):
        a, b = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        how = rng.randrange(5)
        if how == 0:
            text = text[:a] + text[b:]
        elif how == 1:
            text = text[:b] + text[a:]
        elif how == 2:
            text = text[:a] + rng.choice(WILD) + text[a:]
        elif how == 3:
            text = text[:a] + chr(rng.randint(32, 126)) + text[a + 1 :]
        else:
            text = text[:a] + text[a:b][::-1] + text[b:]
    return text


@pytest.mark.parametrize("name", TOOLS)
def test_every_certificate_is_valid(name):
    tool, prompt, item, right, n = TOOLS[name]
    assert all(c.passed and c.score == 1 for c in certify(tool, [prompt] * len(right), right, [item] * len(right)))
    rng = random.Random(name)
    responses = [fuzz(rng, right) for _ in range(n)]
    with Limited(tool, Limits(seconds=5)) as limited:
        found = limited.certify([prompt] * n, responses, [item] * n)
    for response, cert in zip(responses, found, strict=True):
        assert not cert.failed, (response, cert.error)  # wrong is a verdict; "the tool failed" is a defect
        assert validate_certificate(cert, response) == cert
        assert (cert.score == 1 or not cert.passed) and "\n" not in cert.reason, (response, cert)
    assert any(not c.passed for c in found)


BOMBS = {
    "long expression": "1+" * 9_999,
    "power": "9**9**9 = 1",
    "marked power": "<<9**9**9=1>>",
    "parentheses": "(" * 20_000,
    "brackets": "[" * 20_000,
    "braces": '{"a":' * 3_999,
    "closing": ")" * 20_000,
    "signs": "-" * 19_999 + "1",
    "tildes": "~" * 20_000,
    "digits": "9" * 20_000,
    "digits of a step": "<<" + "9" * 5_000 + "=1>>",
    "spaces": " " * 20_000,
    "words": "a" * 20_000,
    "fences": "```\n" * 4_999,
    "backticks": "`" * 20_000,
    "marks": "<<" * 10_000,
    "equals": "=" * 20_000,
    "steps": "1+1=3\n" * 3_333,
    "thoughts": "<|thinking|>" * 1_600,
    "ends": "<|/thinking|>" * 1_500,
    "values": "A=blue " * 2_850,
    "is": "A is " * 4_000,
    "pairs": "A" + " " * 19_998,
    "strings": '"' * 20_000,
    "escapes": '"' + "\\u00e9" * 3_000,
    "commas": "1," * 9_999,
    "regex bomb": '{"a": [], "b": "' + "x" * 15_000 + 'y"}',
    "program": "x = " + "(" * 90 + ")" * 90,
    "unary": "x = " + "-" * 15_000 + "1",
    "nested lists": "x = " + "[" * 190 + "]" * 190,
    "attributes": "x" + ".a" * 9_000,
    "memory": "x = [0]*10**12",
    "constants": "x = 'a'*10**9*10**9",
    "half a surrogate": "\ud800" * 5_000,
    "nothing": "",
}
TOO_LONG = {"1 MB expression": "1+" * 500_000, "100,000 parentheses": "(" * 100_000, "100,000 brackets": "[" * 100_000}


@pytest.mark.parametrize("name", TOOLS)
def test_hostile_input_is_refused_inside_the_limits(name):
    tool, prompt, item, right, _ = TOOLS[name]
    every = BOMBS | TOO_LONG
    with Limited(tool, Limits(seconds=3)) as limited:
        found = dict(zip(every, limited.certify([prompt] * len(every), list(every.values()), [item] * len(every))))
    for what, cert in found.items():
        assert not cert.passed or name == "python, compiled", (what, cert)  # most of them do compile, and nothing runs
        assert ("more than the limit of 20000" in cert.error) if what in TOO_LONG else not cert.error, (what, cert)
    for what, response in TOO_LONG.items():  # without a worker around it, the tool says so itself
        start = time.perf_counter()
        cert = tool(prompt, response, item)
        assert (
            not cert.passed
            and cert.spans[0].value == -1
            and "longer than the limit of 20000" in cert.reason
            and time.perf_counter() - start < 0.5
        ), (what, cert)


def test_workers_outlive_everything_together():
    "All hostile responses and right ones in between, over two workers: the right ones pass, in their places."
    tool, prompt, item, right, _ = TOOLS["countdown"]
    mixed = [r for bomb in (BOMBS | TOO_LONG).values() for r in (bomb, right[0])]
    with Limited(tool, workers=2) as limited:
        found = limited.certify([prompt] * len(mixed), mixed, [item] * len(mixed))
    assert [c.passed for c in found] == [False, True] * (len(mixed) // 2)
