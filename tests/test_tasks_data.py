"""Tasks, pairs and graders on real data: GSM8K, a chemistry textbook, scored answers of real models.

Skipped where the data is absent.
"""

import os
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from preflexor_lab.corpus.index import build_index
from preflexor_lab.data.drafts import excerpts_from
from preflexor_lab.data.pairs import build_pairs
from preflexor_lab.data.tasks import load_task
from preflexor_lab.data.teachers import ClozeTeacher
from preflexor_lab.tasks.cloze import cloze_items, section_split
from preflexor_lab.tasks.graders import SPLITS, exact_grader, extract_number
from preflexor_lab.tasks.scored_answers import (
    length_balanced,
    length_matched,
    preference_accuracy,
    preference_pairs,
    scored_rows,
)
from preflexor_lab.text.markers import MARKERS, split_sections

DATA = Path(__file__).parent.parent / os.environ.get("PREFLEXOR_SHARED_DATA", "../shared/data")


def need(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data is absent: {path}")
    return path


@pytest.fixture(scope="module")
def gsm():
    return load_task("gsm8k", need("gsm8k"))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return build_index(need("chemistry"), tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def cloze(index):
    return cloze_items(index.nodes, context=1, n=1500)


@pytest.fixture(scope="module")
def pairs():
    return preference_pairs(need("materials_answers"), margin=1.0)[0]


def test_gsm8k_loads_whole(gsm):
    assert len(gsm) == 7473
    by = {s: {i.question for i in gsm.split(s)} for s in SPLITS}
    assert not by["train"] & by["test"] and not by["train"] & by["valid"] and not by["valid"] & by["test"]
    assert abs(len(by["test"]) / 7473 - 0.15) < 0.02 and abs(len(by["valid"]) / 7473 - 0.05) < 0.01
    assert all(i.gold and "<<" not in i.gold and "####" not in i.gold for i in gsm)


def test_gsm8k_every_reference_grades_itself(gsm):
    for i in gsm:
        assert gsm.grade(i, i.answer).passed, i.id
        assert extract_number(i.answer) == Decimal(i.answer.split("####")[1].strip().replace(",", "")), i.id


def test_gsm8k_no_wrong_answer_passes(gsm):
    "The reference's own words with another number at the end, and another question's reference."
    numbers = [extract_number(i.answer) for i in gsm]
    for k, (i, n) in enumerate(zip(gsm, numbers)):
        words = i.answer.rsplit("####", 1)[0]
        assert not any(
            gsm.grade(i, words + f"#### {wrong:,}").passed for wrong in {n + 1, n - 1, n * 1000, -n} - {n}
        ), i.id
        other = (k + 1) % len(numbers)
        assert gsm.grade(i, gsm[other].answer).passed == (numbers[other] == n), i.id


@pytest.mark.parametrize(
    "form",
    [
        "The answer is ${:,}.",
        "<|thinking|>9 or 10<|/thinking|>She has {:,} left.",
        r"So it is \boxed{{{}}}",
        "**Answer:** {:.2f} dollars",
        "#### {:,}",
        "2 + 2 = 4, so {}",
    ],
)
def test_gsm8k_ways_to_say_it(gsm, form):
    for i in gsm.take(400, seed=1):
        n = extract_number(i.answer)
        said = form.format(int(n) if n == int(n) and ".2f" not in form else n)
        assert gsm.grade(i, said).passed, said
        if "{:,}" in form:
            assert gsm.grade(i, form.replace("{:,}", f"{n:,}".replace(",", " "))).passed, (
                "groups of three digits with spaces"
            )
        assert not gsm.grade(i, form.format(n + 1 if ".2f" in form else int(n) + 1)).passed


def test_cloze_splits_are_disjoint_and_open_book_is_fair(cloze):
    items = cloze
    assert len(items) == 1500 and len({i.id for i in items}) == 1500
    sent = {s: {i.meta["sentence"] for i in items if i.split == s} for s in SPLITS}
    where = {s: {i.meta["section"] for i in items if i.split == s} for s in SPLITS}
    for a, b in (("train", "test"), ("train", "valid"), ("valid", "test")):
        assert not sent[a] & sent[b] and not where[a] & where[b]
    held = sent["test"] | sent["valid"]
    assert not {c for i in items for c in i.meta["context"]} & held, "context comes from training sections"
    assert not {i.gold for i in items} & held, "evidence comes from training sections"
    assert all(i.meta["sentence"] not in i.prompt for i in items)
    assert all(i.split == section_split(i.meta["section"]) for i in items)


def test_cloze_questions_are_gradable_and_not_trivial(cloze):
    assert all(exact_grader(i, i.answer).passed for i in cloze)
    assert sum(bool(i.gold) for i in cloze) > 0.97 * len(cloze)
    train, test = (Counter(i.answer for i in cloze if i.split == s) for s in ("train", "test"))
    guess = train.most_common(1)[0][0]
    assert test[guess] / sum(test.values()) < 0.05, "always saying the most frequent answer must not pay"
    assert not any(m in i.prompt + i.gold for i in cloze for m in MARKERS.all())
    junk = [i.question for i in cloze if any(c in i.question for c in "<>{}|\\")]
    assert not junk, junk[:3]


def test_cloze_is_deterministic(index):
    a, b = (load_task("cloze", index, split="test", n=50, seed=3) for _ in range(2))
    assert [i.prompt for i in a] == [i.prompt for i in b]


def test_cloze_teacher_makes_pairs_of_the_textbook(index):
    teacher = ClozeTeacher(index, wrong=True)
    made, report = build_pairs(index, teacher, rejected_from="teacher", n=60, k=2, split="train", seed=0)
    assert report["questions"] == report["pairs"] + sum(report["dropped"].values()) == 60
    assert report["pairs"] > 45
    for p in made:
        assert split_sections(p.chosen).complete and split_sections(p.chosen).answer == p.meta["answer"]
    ids = {n.id: n for n in index.nodes}
    assert all(
        section_split(str(ids[i].source)) == "train"
        for e in excerpts_from(index, ["acids and bases", "electron"], k=2, split="train")
        for i in e.ids
    )


def test_scored_answers_make_the_known_pairs(pairs):
    rows = scored_rows(need("materials_answers"))
    assert len(rows) == 400 and len(pairs) == 450
    longer = sum(len(p.chosen) > len(p.rejected) for p in pairs) / len(pairs)
    assert 0.92 < longer < 0.95, "the longer answer wins 93 % of the pairs"
    assert all(p.meta["chosen_score"] - p.meta["rejected_score"] >= 1 for p in pairs)
    asked = {s: {p.prompt for p in pairs if p.meta["split"] == s} for s in SPLITS}
    assert not asked["train"] & asked["test"] and not asked["train"] & asked["valid"]


def test_scored_answers_keep_their_thinking(pairs):
    thinking = [p for p in pairs if p.meta["chosen_source"] == "graph_1_7b"]
    assert thinking and all(split_sections(p.chosen).thinking for p in thinking)
    assert all("<think>" not in p.chosen + p.rejected for p in pairs)
    assert any("<graph>" in split_sections(p.chosen).thinking for p in thinking)


def test_length_control_on_scored_answers(pairs):
    even = length_balanced(pairs)
    assert len(even) >= 50
    row = {
        r["metric"]: r
        for r in preference_accuracy(
            [0.0] * len(even),
            [0.0] * len(even),
            [p.prompt for p in even],
            [len(p.chosen) for p in even],
            [len(p.rejected) for p in even],
        )
    }
    assert row["longer_wins"]["value"] == 0.5 and row["longer_wins"]["low"] < 0.5 < row["longer_wins"]["high"]
    close = length_matched(pairs, 0.3)
    assert 20 < len(close) < len(pairs) and all(
        abs(len(p.chosen) - len(p.rejected)) <= 0.3 * max(len(p.chosen), len(p.rejected)) for p in close
    )


def test_number_extraction_survives_anything():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("0123456789,.-+$/eE# \\boxed{}=answer is\n−") for _ in range(rng.randint(0, 30)))
        x = extract_number(text)
        assert x is None or isinstance(x, Decimal)
