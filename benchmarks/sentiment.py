"""Agreement of the sentiment environment's score with human ratings, and certificates per second. Prints one JSON line.

    python benchmarks/sentiment.py [PATH] [--write FILE]

PATH is a file or dataset that `sentiment.review_rows` reads, such as the film-review sentences of Hutto and Gilbert
(2014), each with the mean of 20 ratings. Splits are by hash of the text. VADER's compound is the baseline. Four ways to
add valences up and a lexicon learnt from the training rows (`learn_lexicon`, four strengths of its ridge) are compared
by Spearman's correlation on the validation rows alone; the best with VADER's own lexicon, and the best of all, are then
measured once on the test rows, beside the baseline on the same texts (paired bootstrap). Scores are those of
`SymbolicEnvironment.analyze_sentiment_batch`. `--write` keeps the rows as JSON.

Certificates per second: `Sentiment` on the sentences of PATH (without one, on five sentences of this file) and
`Molecule` with three targets on five SMILES, one of them broken; one thread, CPU time. Without PATH only these are
measured. Exits 1 when the best of all does not beat the baseline on the test rows by more than chance: the lower end of
the gain in Spearman's correlation must be above 0.
"""

import argparse
import json
import os
import sys
import time

os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})

from preflexor_lab.models.loading import load_tokenizer, nano_path
from preflexor_lab.tasks.statistics import spearman
from preflexor_lab.tools.molecules import Molecule
from preflexor_lab.tools.sentiment import (
    Sentiment,
    SymbolicEnvironment,
    agreement,
    learn_lexicon,
    review_rows,
)

TEXTS = [
    "A preposterous plot, and not funny.",
    "Superb acting, but the end is weak.",
    "The film was very good!",
    "I would not call it a bad film.",
    "It lasts two hours.",
]
SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "OC(=O)c1ccccc1O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CCc1cccc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O",
]


def per_second(tool, responses, seconds=2.0):
    "Certificates per CPU second."
    tool("", responses[0])
    start, n = time.process_time(), 0
    while time.process_time() - start < seconds:
        for r in responses:
            tool("", r)
        n += len(responses)
    return n / (time.process_time() - start)


def measure(path, ridges=(3.0, 10.0, 30.0, 100.0)):
    "Rows of the table: choose on validation, report on test."
    rows = {s: review_rows(path, s) for s in ("train", "valid", "test")}
    tokenizer = load_tokenizer(str(nano_path("novice")))

    def polarities(tool, part):
        return SymbolicEnvironment(tool, tokenizer).analyze_sentiment_batch([r["text"] for r in rows[part]])

    def ratings(part):
        return [r["rating"] for r in rows[part]]

    lexicons = {0.0: None, **{x: learn_lexicon(rows["train"], ridge=x) for x in ridges}}
    tools = {
        (norm, x): Sentiment(norm=norm, lexicon=lexicon)
        for norm in ("compound", "length")
        for x, lexicon in lexicons.items()
    }
    valid = {k: spearman(polarities(t, "valid"), ratings("valid")) for k, t in tools.items()}
    baseline, out = polarities(tools["compound", 0.0], "test"), []
    best_plain, best = max((k for k in valid if not k[1]), key=valid.get), max(valid, key=valid.get)
    for name, key in (
        ("VADER compound", ("compound", 0.0)),
        ("VADER's lexicon, best sum", best_plain),
        ("learnt lexicon, best of all", best),
    ):
        a = agreement(
            polarities(tools[key], "test"), ratings("test"), 0.0, None if key == ("compound", 0.0) else baseline
        )
        out.append(dict(method=name, norm=key[0], ridge=key[1], valid_spearman=valid[key], **a))
    return dict(source="", rows={s: len(r) for s, r in rows.items()}, methods=out)


def rounded(x):
    "Floats to 4 digits, at any depth."
    return (
        round(x, 4)
        if isinstance(x, float)
        else {k: rounded(v) for k, v in x.items()}
        if isinstance(x, dict)
        else [rounded(v) for v in x]
        if isinstance(x, (list, tuple))
        else x
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("path", nargs="?", help="rated sentences")
    p.add_argument("--write", help="file for the agreement as JSON")
    args = p.parse_args()
    texts = [r["text"] for r in review_rows(args.path, n=1000)] if args.path else TEXTS
    out = dict(
        certificates_per_second=dict(
            sentiment=per_second(Sentiment(), texts),
            molecule=per_second(Molecule({"weight": (180, 200), "logp": (None, 3), "formula": "C9H8O4"}), SMILES),
        )
    )
    ok = True
    if args.path:
        found = measure(args.path) | dict(source=os.path.basename(args.path))
        if args.write:
            with open(args.write, "w", encoding="utf-8") as f:
                f.write(json.dumps(rounded(found), indent=1) + "\n")
        out["agreement"], ok = found, found["methods"][-1].get("spearman_gain_interval", (0,))[0] > 0
    print(json.dumps(rounded(out)))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
