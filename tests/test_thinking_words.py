"Thinking is never graded as the answer: every grader and tool, every family of markers, opened by the prompt or not."

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import pytest

from preflexor_lab.data.tasks import load_task
from preflexor_lab.methods.latro import same_answer
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.tasks.answers import answer_grader
from preflexor_lab.tasks.choices import choice_grader, choice_items
from preflexor_lab.tasks.evaluation import answer_text, evaluate
from preflexor_lab.tasks.graders import Item, Task, exact_grader, number_grader, number_text
from preflexor_lab.tasks.latro_data import prepare_data
from preflexor_lab.text.markers import MARKERS, THINK_TAGS
from preflexor_lab.text.records import Completion
from preflexor_lab.tools.certificates import Exact
from preflexor_lab.tools.code import PythonCode
from preflexor_lab.tools.countdown import Countdown, Game24
from preflexor_lab.tools.json_schema import JSONSchema
from preflexor_lab.tools.lab import Lab
from preflexor_lab.tools.logic import Logic
from preflexor_lab.tools.molecules import Molecule
from preflexor_lab.tools.sandbox import validate_certificate
from preflexor_lab.tools.sentiment import Sentiment

OTHER = {"thinking": ("[THINK]", "[/THINK]"), "reflection": ("[CHECK]", "[/CHECK]")}
# name -> start, end, the argument markers=
FAMILIES = {
    "ours": ("<|thinking|>", "<|/thinking|>", None),
    "ours, given": ("<|thinking|>", "<|/thinking|>", MARKERS),
    "think": ("<think>", "</think>", None),
    "think, given": ("<think>", "</think>", THINK_TAGS),
    "other, given": ("[THINK]", "[/THINK]", OTHER),
    "reflection": ("<|reflect|>", "<|/reflect|>", None),
    "reflect": ("<reflect>", "</reflect>", None),
}
LAB = world.items(1, seed=3, hops=(2,), split="test")[0]
RUST = choice_items(
    [
        dict(
            question="Which metal rusts?",
            choices=dict(text=["gold", "iron", "tin"], label=["A", "B", "C"]),
            answerKey="B",
        )
    ]
)[0]
WORD = Item("w", "An ____ of copper and tin.", "alloy", "An ____ of copper and tin.\n")
SUM = Item("n", "How many?", "18", "How many?\n")


def grader(function, item):
    def judge(prompt, response, markers):
        return function(replace(item, prompt=item.prompt + prompt), response, markers=markers).passed

    return judge


def task(made):
    def judge(prompt, response, markers):
        reads = made if markers is None else made.reading(markers)
        return reads.grade(replace(made[0], prompt=made[0].prompt + prompt), response).passed

    return judge


def tool(cls, question, meta=None, answer="", **options):
    def judge(prompt, response, markers):
        cert = cls(markers=markers, **options)(
            question + prompt, response, SimpleNamespace(meta=meta or {}, answer=answer)
        )
        assert validate_certificate(cert, response) is cert
        assert not cert.error, cert.error
        return cert.passed

    return judge


def latro(prompt, response, markers):
    data = prepare_data([dict(question="Capital of France?", answer="Paris")])
    return data.grade(data[0] | {"queries": data[0]["queries"] + prompt}, response, markers).passed


def latro_default(prompt, response, markers):
    return same_answer({"queries": "Capital of France?\n" + prompt, "responses": " Paris"}, response, markers)


def exact_tool(prompt, response, markers):
    cert = Exact(markers=markers)("An ____." + prompt, response, SimpleNamespace(answer="alloy"))
    assert response[cert.spans[0].start : cert.spans[0].end] in ("alloy", "metal", "")
    return cert.passed


SCHEMA = dict(type="object", required=["name"])
# judge, right answer, wrong answer
JUDGES = {
    "number_grader": (grader(number_grader, SUM), "18", "17"),
    "exact_grader": (grader(exact_grader, WORD), "alloy", "metal"),
    "choice_grader": (grader(choice_grader, RUST), "B", "C"),
    "answer_grader": (grader(answer_grader, SUM), "18", "17"),
    "task": (task(Task("sums", [SUM], number_grader, number_text)), "It is 18.", "It is 17."),
    "LatroData.grade": (latro, "The answer is Paris", "The answer is London"),
    "same_answer": (latro_default, "Paris", "London"),
    "Exact": (exact_tool, "alloy", "metal"),
    "Countdown": (tool(Countdown, "use 3 5 7 to make 22"), "3*5+7", "3+5+7"),
    "Game24": (tool(Game24, "use 2 3 4 6"), "6*4*(3-2)", "2+3+4+6"),
    "Logic": (tool(Logic, "?", dict(premises=["a -> b", "a"], conclusion="b")), "yes", "no"),
    "JSONSchema": (tool(JSONSchema, "?", schema=SCHEMA), '{"name": 1}', '{"nam": 1}'),
    "PythonCode": (
        tool(PythonCode, "?", tests=["assert f(2) == 4"]),
        "```python\ndef f(x):\n    return 2 * x\n```",
        "```python\ndef f(x):\n    return 3 * x\n```",
    ),
    "Sentiment": (tool(Sentiment, "The film was"), "superb, a joy", "dull, a bore"),
    "Sentiment, prompt too": (tool(Sentiment, "The film was", with_prompt=True), "superb, a joy", "dull, a bore"),
}
if importlib.util.find_spec("rdkit"):
    JUDGES["Molecule"] = (tool(Molecule, "?", answer="CCO", match="canonical"), "SMILES: CCO", "SMILES: CC")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", JUDGES)
def test_only_the_answer_counts(name, family):
    judge, right, wrong = JUDGES[name]
    start, end, markers = FAMILIES[family]
    assert judge("", right, markers) and not judge("", wrong, markers)
    assert judge("", f"{start}{wrong}{end} {right}", markers)
    assert not judge("", f"{start}{right}{end} {wrong}", markers)
    assert not judge("", f"{start}{right}{end}", markers)
    assert not judge("", f"{start}{right}", markers)
    assert judge("", f"{wrong}{end} {right}", markers)  # an end alone
    assert not judge("", f"{right}{end} {wrong}", markers)
    assert judge(start, f"{wrong}{end} {right}", markers)  # the prompt opens
    assert not judge(start, f"{right}{end} {wrong}", markers)
    assert not judge(start, right, markers)  # and the completion is cut off while thinking
    assert not judge(start, f"{start}{right}", markers)
    empty = "<think>\n\n</think>\n\n"  # of templates that close it at once
    assert judge("", f"{empty}{start}{wrong}{end}{right}", markers)
    assert not judge("", f"{empty}{start}{right}{end}{wrong}", markers)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("family", [f for f in FAMILIES if "reflect" not in f])
def test_materials_lab_reads_the_lines_too(family, lines):
    start, end, markers = FAMILIES[family]
    wrong = str((int(LAB.answer) + 1) % 10)
    whole = f"{start}{LAB.gold}{end} "
    for judge in (world.grade, lambda i, r, markers: Lab(lines=lines, markers=markers)(i.prompt, r)):
        assert judge(LAB, whole + LAB.answer, markers=markers).passed
        assert judge(LAB, "<think>\n\n</think>\n\n" + whole + LAB.answer, markers=markers).passed
        for response in (whole + wrong, f"{start}{LAB.gold}", f"{start}{LAB.answer}{end} {wrong}"):
            cert = judge(LAB, response, markers=markers)
            assert not cert.passed and not cert.error and validate_certificate(cert, response) is cert
        slip = whole.replace(LAB.gold.split(" ; ")[0].strip(), "bone= 3", 1) + LAB.answer
        marked = [slip[s.start : s.end] for s in judge(LAB, slip, markers=markers).spans if s.value < 0]
        assert "bone= 3" in marked


def test_without_the_argument_other_words_are_text():
    assert not exact_grader(WORD, "[THINK]metal[/THINK] alloy").passed
    assert exact_grader(WORD, "[THINK]metal[/THINK] alloy", markers=OTHER).passed


class Replies:
    "An engine that answers each prompt from a table."

    engine_id = "replies"

    def __init__(self, table):
        self.table = table

    def generate(self, prompts, n=1, **kw):
        return [[Completion(self.table[p])] * n for p in prompts]


@pytest.mark.parametrize("family", [f for f in FAMILIES if "reflect" not in f])
@pytest.mark.parametrize("opened", [False, True])
def test_evaluate(family, opened, tmp_path):
    start, end, markers = FAMILIES[family]
    head = "" if opened else start
    rows = [Item(f"n{i}", f"{i}?", str(i), f"{i}? {start if opened else ''}") for i in (1, 2, 3, 4)]
    texts = [f"{head}2, no{end} 1", f"{head}1{end} 2", f"{head}3{end} 1", f"{head}4"]
    made = Task("numbers", rows, number_grader, number_text)
    got = evaluate(Replies(dict(zip([r.prompt for r in rows], texts))), made, k=2, markers=markers, temperature=1.0)
    assert [p["score"][0] for p in got.per_item] == [1.0, 1.0, 0.0, 0.0]
    assert (got["accuracy"], got["maj@2"], got["format_rate"]) == (0.5, 0.5, 0.75)
    assert [p["responses"][0] for p in got.per_item] == texts
    bare = evaluate(Replies(dict(zip([r.prompt for r in rows], texts))), rows, number_grader, markers=markers)
    assert bare["accuracy"] == 0.5  # a grader without its task


def test_load_task_passes_markers_on(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "2+2?", "answer": "4"}\n')
    sums = load_task("jsonl", path, markers=OTHER)
    assert sums.grade(sums[0], "[THINK]5[/THINK]4").passed and sums.extract("[THINK]5[/THINK]4") == "4"
    assert not sums.grade(sums[0], "[THINK]4[/THINK]5").passed
    assert sums.take(1).as_tool()(sums[0].prompt, "[THINK]5[/THINK]4").passed
    assert answer_text("[THINK]5[/THINK] Four", OTHER) == "four"


def test_a_grader_of_ones_own_gets_the_whole_completion():
    seen = []

    def own(item, response):
        seen.append(response)
        return number_grader(item, response)

    asked = replace(SUM, prompt="How many? <think>")
    evaluate(Replies({asked.prompt: "17</think>18"}), [asked], own, markers=THINK_TAGS)
    assert seen == ["<think>17</think>18"]
