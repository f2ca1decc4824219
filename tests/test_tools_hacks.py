"""Reward hacks: for each tool and grader a table of honest responses and of responses that try to be paid for less.

An honest response passes with the full score; a hack never does, crashes no tool, and never leaves the denominator.
The tables are in `hacks/`: a new way to cheat is a new line there.
"""

from types import SimpleNamespace

import pytest
from fuzz_answers import fuzz, judges
from hacks import arithmetic, choices, countdown, json_schema, logic, materials_lab, molecules, numbers, sentiment

from preflexor_lab.tasks.answers import answer_grader
from preflexor_lab.tasks.choices import choice_grader, choice_items
from preflexor_lab.tasks.graders import Item, number_grader
from preflexor_lab.tools.arithmetic import Arithmetic
from preflexor_lab.tools.certificates import token_rewards
from preflexor_lab.tools.countdown import Countdown
from preflexor_lab.tools.json_schema import JSONSchema
from preflexor_lab.tools.lab import Lab
from preflexor_lab.tools.logic import Logic
from preflexor_lab.tools.molecules import Molecule
from preflexor_lab.tools.sandbox import validate_certificate
from preflexor_lab.tools.sentiment import Sentiment


def graded(tool, prompt, response, item=None):
    "A certificate that is a grade: its score lies in [0, 1] and its spans lie in the response."
    cert = validate_certificate(tool(prompt, response, item), response)
    assert not cert.error, (response[:80], cert.error)
    assert 0 <= cert.score <= 1 and (cert.score < 1 or cert.passed), (response[:80], cert)
    return cert


def check(tool, prompt, honest, hacks, item=None):
    "Every honest response gets everything, every hack less."
    assert len(hacks) >= 30
    for response in honest:
        cert = graded(tool, prompt, response, item)
        assert cert.passed and cert.score == 1, (response, cert.score, cert.reason)
    for response in hacks:
        cert = graded(tool, prompt, response, item)
        assert not cert.passed and cert.score < 1, (response, cert.score, cert.reason)


def test_arithmetic():
    check(Arithmetic(), "", arithmetic.HONEST, arithmetic.HACKS)
    for hack in arithmetic.HACKS:  # not behind a right step, on a line of its own or in the same sentence, either
        for response in (f"1+1=2\n{hack}", f"{hack} and 1+1=2", f"1+1=2. {hack}"):
            assert not graded(Arithmetic(), "", response).passed, response


@pytest.mark.parametrize("wrong", ["7*8=54", "7*8=54; 6*9=56", "7 ⊗ 8 = 54", "7*8 gives 54"])
def test_right_steps_that_nobody_asked_for_pay_nothing(wrong):
    tool = Arithmetic()
    score = tool("", wrong).score
    for more in arithmetic.PADDING:
        for response in (f"{wrong}\n{more}", f"{more}\n{wrong}"):
            cert = graded(tool, "", response)
            assert cert.score <= max(score, 0.5) and not cert.passed
            offsets = [(i, i + 1) for i in range(len(response))]
            assert sum(token_rewards(cert, offsets)) < 0.02, response  # nor does the credit of tokens


def test_countdown():
    check(Countdown(), countdown.PROMPT, countdown.HONEST, countdown.HACKS)


def test_logic():
    assert len(logic.HACKS) >= 30
    for meta, response in logic.HONEST:
        cert = graded(Logic(), "", response, SimpleNamespace(meta=meta))
        assert cert.passed and cert.score == 1, (meta, response, cert.reason)
    for meta, response in logic.HACKS:
        assert not graded(Logic(), "", response, SimpleNamespace(meta=meta)).passed, (meta, response)


def test_json():
    check(JSONSchema(json_schema.SCHEMA), "", json_schema.HONEST, json_schema.HACKS)


def test_molecules():
    pytest.importorskip("rdkit")
    check(Molecule(molecules.TARGETS), "", molecules.HONEST, molecules.HACKS)


def test_sentiment():
    tool = Sentiment()
    honest = graded(tool, "", sentiment.HONEST)
    assert honest.passed and len(sentiment.HACKS) >= 30
    for response in sentiment.HACKS:
        assert graded(tool, "", response).score < honest.score, (response[:80], tool("", response).score, honest.score)


@pytest.mark.parametrize("lines", [False, True])
def test_materials_lab(lines):
    tool, prompt = Lab(lines=lines), materials_lab.ITEM.prompt
    check(tool, prompt, materials_lab.HONEST, materials_lab.HACKS)


@pytest.mark.parametrize("grader", [number_grader, answer_grader])
def test_numbers(grader):
    item = Item("n", "How many?", "56", "How many?\n")
    check(lambda prompt, response, _: grader(item, response), "", numbers.HONEST, numbers.HACKS)


def test_choices():
    items = {x: choice_items([dict(question="?", choices=choices.OPTIONS, answerKey=x)])[0] for x in "ABCD"}
    assert len(choices.NAMES) >= 60 and len(choices.HACKS) >= 30
    for response, letter in choices.NAMES:
        assert [x for x, i in items.items() if choice_grader(i, response).passed] == [letter], response
    for response in choices.HACKS:
        assert not graded(lambda p, r, i: choice_grader(items["B"], r), "", response).passed, response


def test_no_answer_crashes_a_tool_or_a_grader():
    counts = fuzz(20_000)  # a million: python tests/fuzz_answers.py 1000000
    assert sum(counts[name] for name in judges()) == 20_000
    assert sum(counts[name, "passed"] for name in judges()) > 200  # it is not all noise
