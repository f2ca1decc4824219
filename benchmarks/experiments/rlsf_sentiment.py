"""A small model, trained from nothing on film reviews, is moved towards positive continuations by RLSF (2405.16661). Prints one JSON line.

    python benchmarks/experiments/rlsf_sentiment.py DATA [--seeds 0 1 2] [--batches 32] [--out FILE]

DATA: rated sentences (`sentiment.review_rows`): a TSV of sentences, or "imdb" from the hub. The language model (1.4M parameters) learns the training sentences for ten epochs; prompts are
the beginnings of training sentences, and every arm continues the same ones: 32 a batch, 24 tokens. The tool is `sentiment.Sentiment` (VADER, word by word).

* token, scalar, boolean: PPO, four updates a batch, the certificate at its tokens or collapsed. reinforce_token, reinforce_scalar: REINFORCE on as many samples.

Each arm takes the better of its settings (learning rate; discount) on validation prompts of seed 0; all seeds then use it. Curves: share of sampled validation continuations that are positive.
Test (300 held-out beginnings, two samples each, seeds pooled): mean score and share positive before and after, with 95 % bootstrap intervals over prompts, and beside them the
perplexity of the continuations under the frozen base and the share of distinct pairs of words in them, so that reward hacking is seen.
"""

import math
import sys
import tempfile
import time

from shared import arguments, joined, midpoint, rounded, tell  # sets the environment, so before torch

from preflexor_lab.methods.rlsf import RLSFConfig, RLSFTrainer
from preflexor_lab.models.loading import small_model, train_tokenizer
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.models.scoring import score_texts
from preflexor_lab.recipes.stages import blocks_of
from preflexor_lab.tasks.statistics import bootstrap_mean, curve_area, paired_bootstrap, samples_to
from preflexor_lab.tools.sentiment import Sentiment, review_prompts, review_rows
from preflexor_lab.training.callbacks import fit, make_arguments
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

BATCH, LENGTH = 32, 24
ARMS = {
    "token": dict(feedback="token"),
    "scalar": dict(feedback="scalar"),
    "boolean": dict(feedback="boolean"),
    "reinforce_token": dict(feedback="token", algorithm="reinforce"),
    "reinforce_scalar": dict(feedback="scalar", algorithm="reinforce"),
}
GRID = [dict(learning_rate=lr, gamma=g) for lr in (1e-4, 3e-4) for g in (1.0, 0.8)]


def language_model(texts, seed=0, epochs=10):
    tokenizer = train_tokenizer(texts, 2048)
    model = small_model(tokenizer, 128, 4, 4, max_length=256, seed=seed)
    blocks = [dict(prompt="", completion=tokenizer.decode(b)) for b in blocks_of(tokenizer, texts, 64)]
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(
            SFTConfig,
            d,
            per_device_train_batch_size=16,
            num_train_epochs=epochs,
            learning_rate=2e-3,
            warmup_ratio=0.05,
            max_length=80,
            seed=seed,
            lr_scheduler_type="cosine",
        )
        return fit(SFTTrainer(model, args, processing_class=tokenizer, train_dataset=blocks)), tokenizer


def train(base, tokenizer, prompts, valid, arm, setting, seed, batches):
    a, start = ARMS[arm], time.process_time()
    updates = 1 if a.get("algorithm") else 4
    model = small_model(tokenizer, 128, 4, 4, max_length=256)
    model.load_state_dict(base.state_dict())
    rows = [dict(prompt=p["prompt"]) for p in prompts][seed * BATCH * batches : (seed + 1) * BATCH * batches]
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(
            RLSFConfig,
            d,
            per_device_train_batch_size=BATCH,
            response_length=LENGTH,
            kl_coef=0.02,
            max_steps=batches * updates,
            num_train_epochs=10,
            eval_strategy="steps",
            eval_steps=max(1, batches // 8) * updates,
            eval_k=2,
            seed=seed,
            lr_scheduler_type="constant",
            group_by_length=False,
            logging_steps=updates,
            **a,
            **setting,
        )
        trainer = RLSFTrainer(
            model, args, rows, tokenizer, Sentiment(), eval_dataset=[dict(prompt=p["prompt"]) for p in valid]
        )
        curve = [(0, trainer.evaluate()["eval_mean@2"])]
        fit(trainer)
    curve += [
        (l["step"] // updates * BATCH, l["eval_mean@2"])
        for l in trainer.state.log_history
        if "eval_mean@2" in l and l["step"]
    ]
    return trainer.model.eval(), [(s, round(v, 4)) for s, v in dict(curve).items()], time.process_time() - start


def measure(model, base, tokenizer, prompts, seed):
    "Of each prompt's two continuations: mean score, share positive, log-perplexity under the base; and the share of distinct pairs of words."
    engine, tool = LocalEngine(model, tokenizer, batch_size=128), Sentiment()
    found = engine.generate(
        [p["prompt"] for p in prompts], n=2, max_new_tokens=LENGTH, temperature=1.0, seed=1000 + seed
    )
    certs = [[tool(p["prompt"], c.text) for c in row] for p, row in zip(prompts, found)]
    flat = [(p["prompt"], c.text) for p, row in zip(prompts, found) for c in row if c.text]
    scores = score_texts(base, tokenizer, [p for p, _ in flat], [t for _, t in flat], max_length=128, batch_size=64)
    pairs = [w for _, t in flat for w in zip(t.split(), t.split()[1:])]
    return dict(
        score=[sum(2 * c.score - 1 for c in row) / 2 for row in certs],
        positive=[sum(c.passed for c in row) / 2 for row in certs],
        nll=[s["mean"] for s in scores],
        distinct=len(set(pairs)) / max(1, len(pairs)),
    )


def main():
    a = arguments(__doc__, [0, 1, 2], "data", batches=32, arms=list(ARMS))
    rows = {split: review_rows(a.data, split=split, n=10_000) for split in ("train", "valid", "test")}
    start = time.process_time()
    base, tokenizer = language_model([r["text"] for r in rows["train"]])
    made = time.process_time() - start
    starts = {split: review_prompts(r, tokenizer, min_chars=40) for split, r in rows.items()}
    valid, test = starts["valid"][:150], starts["test"][:300]
    out = dict(
        experiment="rlsf_sentiment",
        seeds=a.seeds,
        batches=a.batches,
        samples_a_batch=BATCH,
        parameters=base.num_parameters(),
        base_cpu_s=round(made, 1),
        arms={},
    )
    before = [measure(base, base, tokenizer, test, s) for s in a.seeds]
    summary = lambda runs: (
        {n: rounded(bootstrap_mean(joined(runs, n))) for n in ("score", "positive")}
        | dict(
            perplexity=round(math.exp(-sum(joined(runs, "nll")) / len(joined(runs, "nll"))), 2),
            distinct_pairs=round(sum(r["distinct"] for r in runs) / len(runs), 4),
        )
    )
    out["before"] = summary(before)
    for arm in a.arms:
        tried = []
        for setting in GRID:
            model, curve, s = train(base, tokenizer, starts["train"], valid, arm, setting, 0, a.batches)
            tried.append((curve_area(curve), setting, (model, curve, s)))
            print(arm, setting, curve[-1], round(curve_area(curve), 4), round(s), file=sys.stderr, flush=True)
        best = max(tried, key=lambda t: t[0])
        runs = [
            best[2] if s == 0 else train(base, tokenizer, starts["train"], valid, arm, best[1], s, a.batches)
            for s in a.seeds
        ]
        after = [measure(m, base, tokenizer, test, s) for (m, *_), s in zip(runs, a.seeds)]
        out["arms"][arm] = dict(
            setting=best[1],
            curves=[c for _, c, _ in runs],
            area=[round(curve_area(c), 4) for _, c, _ in runs],
            cpu_s=[round(s, 1) for *_, s in runs],
            test=summary(after),
            gain={n: rounded(paired_bootstrap(joined(after, n), joined(before, n))) for n in ("score", "positive")},
        )
    out["midpoint"] = midpoint(out["arms"], samples_to)
    tell(out, a.out)


if __name__ == "__main__":
    main()
