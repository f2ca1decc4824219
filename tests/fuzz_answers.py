"""Generated answers through every tool and grader: none may crash, leave [0, 1], or be without a grade.

    python tests/fuzz_answers.py 1000000 [seed [judges]]

Each answer goes to one of them in turn, or to as many as `judges` says. An answer is a text of the tables in `hacks/`,
mutated, or a mixture of pieces of them. The same size and seed give the same answers.
"""

import random
import sys
from collections import Counter
from itertools import cycle, islice
from types import SimpleNamespace

from hacks import arithmetic, choices, countdown, json_schema, logic, materials_lab, molecules, numbers, sentiment

from preflexor_lab.tasks.answers import answer_extract, answer_grader, choice_extract
from preflexor_lab.tasks.choices import choice_grader, choice_items
from preflexor_lab.tasks.graders import Item, exact_grader, number_grader
from preflexor_lab.tools.arithmetic import Arithmetic
from preflexor_lab.tools.countdown import Countdown, Game24
from preflexor_lab.tools.json_schema import JSONSchema
from preflexor_lab.tools.lab import Lab
from preflexor_lab.tools.logic import Logic
from preflexor_lab.tools.molecules import Molecule
from preflexor_lab.tools.sandbox import validate_certificate
from preflexor_lab.tools.sentiment import Sentiment

TABLES = [arithmetic, countdown, json_schema, materials_lab, molecules, numbers]
TEXTS = [text for table in TABLES for text in (*table.HONEST, *table.HACKS)]
TEXTS += [text for _, text in (*logic.HONEST, *logic.HACKS)] + [text for text, _ in choices.NAMES] + choices.HACKS
TEXTS += ["(6 - 2) * 3 * 2", "3/4", "\\boxed{2\\sqrt{3}}", "Carbon steel."]
TEXTS = [text for text in [*TEXTS, sentiment.HONEST, *sentiment.HACKS] if 0 < len(text) < 300]
ODD = r"""
<|thinking|> <|/thinking|> <think> </think> <|reflect|> << >> = == ≈ → * ** / // + - − – — × ÷ · ^ % $ € ( ) [ ] { } < >
| & \ \frac{1}{2} \boxed{ \text{ \( \] \times \\ &times; &#55; <b> <sup> <td> ½ ² ₂ √ ∞ π 0 1 7 8 56 54 1,000 12,34,567
1e9 1e999 .5 0x1F 007 1/0 ７ ٣ Ｂ Ⓑ 八 Ⅷ x X A B (B) yes no true false not or and is equals plus times seven hundred
half of unknown impossible C c1ccccc1 [Na+] ) ]] }} "a": null NaN " ' ` ``` ```json ```smiles #### . , ; : ? ! … _
~ ~~ 😀 ❤️ é Ж 日本
""".split()
ODD += [" ", "\n", "\n\n", "\r\n", "\t", "\0", "\u200b", "\u2028", "\u202e", "\ufeff", "\ud800", "\udfff", "\x1b[2J"]
ODD += ["\u0338", "\u20e3"]


def answers(n: int, seed: int = 0):
    "So many generated answers."
    rng = random.Random(f"answers {seed}")
    for _ in range(n):
        kind = rng.random()
        if kind < 0.3:  # a mixture
            yield rng.choice(("", " ", " ")).join(rng.choice(ODD) for _ in range(rng.randint(0, 25)))
            continue
        text = rng.choice(TEXTS)
        if kind < 0.5:  # two texts
            text = rng.choice(("", " ", "\n", "; ", ". ", " or ")).join((text, rng.choice(TEXTS)))
        for _ in range(rng.randint(0, 4)):  # mutated
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice((rng.choice(ODD), "", "")) + text[at + rng.randint(0, 3) :]
        yield text


def grader(function, item):
    "A grader as a tool."
    return lambda response: function(item, response)


def tool(one, prompt="", item=None):
    "A tool with its prompt and item."
    return lambda response: one(prompt, response, item)


def judges() -> dict:  # name -> response -> certificate
    "Every tool and grader, with something to judge by."
    question = choice_items([dict(question="Which?", choices=choices.OPTIONS, answerKey="B")])[0]
    wanted = {"number": "56", "fraction": "3/4", "expression": "2\\sqrt{3}", "words": "carbon steel"}
    items = {name: Item(name, "What?", answer, "What?\n") for name, answer in wanted.items()}
    problems = dict(verdict=logic.FOLLOWS, values=logic.VALUES, domains=logic.COLOURS, none=logic.CONTRADICTION)
    return {
        "arithmetic": tool(Arithmetic()),
        "countdown": tool(Countdown(), countdown.PROMPT),
        "game24": tool(Game24(), "use 2 3 4 6"),
        "json": tool(JSONSchema(json_schema.SCHEMA)),
        "molecule": tool(Molecule(molecules.TARGETS)),
        "sentiment": tool(Sentiment()),
        "lab": tool(Lab(), materials_lab.ITEM.prompt),
        "lab, lines": tool(Lab(lines=True), materials_lab.ITEM.prompt),
        **{f"logic, {name}": tool(Logic(), "", SimpleNamespace(meta=meta)) for name, meta in problems.items()},
        "number": grader(number_grader, items["number"]),
        "exact": grader(exact_grader, items["words"]),
        "choice": grader(choice_grader, question),
        **{f"answer, {name}": grader(answer_grader, item) for name, item in items.items()},
    }


def fuzz(n: int, seed: int = 0, each: int = 1) -> Counter:  # judge -> answers; (judge, 'passed') -> passed
    "Judge generated answers, each `each` times; raises AssertionError with the first one that is not graded."
    counts, all_judges = Counter(), judges()
    turn = cycle(all_judges)
    for response in answers(n, seed):
        for name in islice(turn, each):
            try:
                cert = validate_certificate(all_judges[name](response), response)
            except Exception as e:
                raise AssertionError(f"{name} raised {type(e).__name__}: {e} on {response!r}") from e
            assert not cert.error and 0 <= cert.score <= 1, f"{name} gave {cert} for {response!r}"
            counts[name] += 1
            counts[name, "passed"] += cert.passed
        extract = answer_extract if len(response) % 2 else choice_extract
        assert isinstance(extract(response), str), response
    return counts


if __name__ == "__main__":
    found = fuzz(*map(int, sys.argv[1:] or ["20000"]))
    for name in judges():
        print(f"{name:20} {found[name]:9,} answers, {found[name, 'passed']:9,} passed")
