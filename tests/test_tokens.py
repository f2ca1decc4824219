"The section parser on real answers of five models: 158 of 400 think, and a few of them lose count of their markers."

import json

import pytest

from preflexor_lab.text.markers import MARKERS, THINK_TAGS, map_markers, neutralise, restore, split_sections

PARTS = ("brainstorm", "graph", "graph_json", "patterns", "synthesis")


@pytest.fixture(scope="module")
def answers(shared_data):
    folder = shared_data / "materials_answers"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    return {
        f.stem: [json.loads(line)["raw_output"] for line in f.open(encoding="utf-8")]
        for f in sorted(folder.glob("*.jsonl"))
    }


def test_every_answer_is_read(answers):
    for texts in answers.values():
        for text in texts:
            s = split_sections(text, THINK_TAGS)
            assert s.answer and not any(m in s.answer for m in THINK_TAGS.all())
            assert bool(s.thinking) == ("<think>" in text)
            paired = all(text.count(a) == text.count(b) for a, b in THINK_TAGS.pairs.values())
            assert s.complete == (paired and "<think>" in text)
            assert s.complete or s.notes


def test_sections_hold_the_text_between_their_markers(answers):
    for text in answers["graph_1_7b"]:  # all 80 are well formed
        s = split_sections(text, THINK_TAGS)
        assert s.complete and not s.notes and set(s.extra) == set(PARTS)
        for name in PARTS:
            assert s.extra[name] == text.split(f"<{name}>")[1].split(f"</{name}>")[0].strip()
        assert s.thinking == text.split("<think>")[1].split("</think>")[0].strip()
        assert s.answer == text.split("</think>")[1].strip()


def test_stray_markers_cost_no_answer(answers):
    twice_ended = [t for t in answers["graph_3b"] if t.count("</synthesis>") == 2 and t.count("</think>") == 1]
    strays = [t for t in twice_ended if t.rstrip().endswith("</synthesis>")]
    assert len(strays) == 11
    for text in strays:
        s = split_sections(text, THINK_TAGS)
        assert not s.complete and "synthesis: end without start" in s.notes
        assert s.answer == text.split("</think>")[1].rsplit("</synthesis>")[0].strip()
    twice = [t for t in answers["graph_3b"] if t.count("</think>") == 2]
    assert twice and all(
        split_sections(t, THINK_TAGS).answer == t.rsplit("</think>", 1)[1].strip()
        for t in twice
        if "</synthesis>" not in t.rsplit("</think>", 1)[1]
    )


def test_truncation_anywhere_is_noticed(answers):
    text = answers["graph_1_7b"][0]
    for cut in range(10, len(text), 97):
        s = split_sections(text[:cut], THINK_TAGS)
        done = "</think>" in text[:cut]
        assert s.complete == done
        assert s.answer == (text[:cut].split("</think>")[-1].strip() if done else "")


def test_real_text_survives_mapping_and_neutralising(answers):
    for text in answers["graph_1_7b"] + answers["graph_3b"]:
        ours = split_sections(map_markers(text, THINK_TAGS))
        theirs = split_sections(text, {"thinking": ("<think>", "</think>")})
        assert (ours.thinking, ours.answer, ours.complete) == (theirs.thinking, theirs.answer, theirs.complete)
        safe = neutralise(text, THINK_TAGS)
        assert restore(safe, THINK_TAGS) == text and not any(m in safe for m in THINK_TAGS.all())
        assert MARKERS.start("thinking") not in text
