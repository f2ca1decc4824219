"Sentiment on real film-review sentences with human ratings. Skipped where the data is absent."

import os
from collections import Counter
from pathlib import Path

import pytest

from preflexor_lab.tools.sentiment import Sentiment, agreement, learn_lexicon, review_rows

DATA = (
    Path(__file__).parent.parent
    / os.environ.get("PREFLEXOR_SHARED_DATA", "../shared/data")
    / "movie_reviews"
    / "snippets.tsv"
)


@pytest.fixture(scope="module")
def rows():
    if not DATA.exists():
        pytest.skip(f"real data is absent: {DATA}")
    return review_rows(DATA)


def test_reader_and_splits(rows):
    assert len(rows) == 8000 and all(-4 <= r["rating"] <= 4 for r in rows)
    by_text = {}
    for r in rows:
        by_text.setdefault(r["text"], set()).add(r["split"])
    assert all(len(s) == 1 for s in by_text.values()) and {s for v in by_text.values() for s in v} == {
        "train",
        "valid",
        "test",
    }


def test_certificates_are_vaders_and_lie_on_words(rows):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader, tool = SentimentIntensityAnalyzer(), Sentiment()
    for r in rows:
        c = tool("", r["text"])
        assert not c.failed and 0 <= c.score <= 1
        words = Counter(r["text"][s.start : s.end].lower() for s in c.spans)
        if "’" not in r["text"] and max(words.values(), default=0) <= 3:  # a word that is said more often counts once
            assert abs(c.score - (1 + vader.polarity_scores(r["text"])["compound"]) / 2) < 1e-9, r
        for s in c.spans:
            word = r["text"][s.start : s.end]
            assert -1 <= s.value <= 1 and not any(ch.isspace() for ch in word) and s.reason.startswith(repr(word)), (
                s,
                r,
            )
    assert len({s.value for r in rows[:100] for s in tool("", r["text"]).spans}) > 30  # words differ


def test_learnt_words_agree_better_with_people(rows):
    part = {s: [r for r in rows if r["split"] == s] for s in ("train", "test")}
    texts, ratings = [r["text"] for r in part["test"]], [r["rating"] for r in part["test"]]
    plain, ours = Sentiment(), Sentiment(lexicon=learn_lexicon(part["train"], ridge=30.0), norm="length")
    a = agreement(ours.polarities(texts), ratings, 0.0, plain.polarities(texts), n_boot=300)
    assert a["spearman"] > 0.6 and a["spearman_gain_interval"][0] > 0.1 and a["accuracy_gain_interval"][0] > 0.1
