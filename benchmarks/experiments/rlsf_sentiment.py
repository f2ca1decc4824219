"""A small model, trained from nothing on film reviews, is moved towards positive continuations by RLSF (2405.16661). Prints one JSON line.

    python benchmarks/experiments/rlsf_sentiment.py DATA [--seeds 0 1 2] [--batches 32] [--out FILE]

DATA: rated sentences (`sentiment.review_rows`): a TSV of sentences, or "imdb" from the hub. The language model (1.4M parameters) learns the training sentences for ten epochs; prompts are
the beginnings of training sentences, and every arm continues the same ones: 32 a batch, 24 tokens. The tool is `sentiment.Sentiment` (VADER, word by word).

* token, scalar, boolean: PPO, four updates a batch, the certificate at its tokens or collapsed. reinforce_token, reinforce_scalar: REINFORCE on as many samples.

Each arm takes the better of its settings (learning rate; discount) on validation prompts of seed 0; all seeds then use it. Curves: share of sampled validation continuations that are positive.
Test (300 held-out beginnings, two samples each, seeds pooled): mean score and share positive before and after, with 95 % bootstrap intervals over prompts, and beside them the
perplexity of the continuations under the frozen base and the share of distinct pairs of words in them, so that reward hacking is seen.
"""
import argparse, json, math, os, sys, tempfile, time, warnings

os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
warnings.filterwarnings("ignore")

import torch
from transformers.utils import logging as hf

from preflexor_lab.evaluate import bootstrap_mean, curve_area, paired_bootstrap, samples_to, score_texts
from preflexor_lab.fit import fit, make_arguments
from preflexor_lab.generate import LocalEngine
from preflexor_lab.models import small_model, train_tokenizer
from preflexor_lab.rlsf import RLSFConfig, RLSFTrainer
from preflexor_lab.sentiment import Sentiment, review_prompts, review_rows
from preflexor_lab.sft import SFTConfig, SFTTrainer
from preflexor_lab.stages import blocks_of

BATCH, LENGTH = 32, 24
ARMS = {"token": dict(feedback="token"), "scalar": dict(feedback="scalar"), "boolean": dict(feedback="boolean"),
        "reinforce_token": dict(feedback="token", algorithm="reinforce"), "reinforce_scalar": dict(feedback="scalar", algorithm="reinforce")}
GRID = [dict(learning_rate=lr, gamma=g) for lr in (1e-4, 3e-4) for g in (1.0, .8)]


def language_model(texts, seed=0, epochs=10):
    tokenizer = train_tokenizer(texts, 2048)
    model = small_model(tokenizer, 128, 4, 4, max_length=256, seed=seed)
    blocks = [dict(prompt="", completion=tokenizer.decode(b)) for b in blocks_of(tokenizer, texts, 64)]
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(SFTConfig, d, per_device_train_batch_size=16, num_train_epochs=epochs, learning_rate=2e-3, warmup_ratio=.05, max_length=80, seed=seed, lr_scheduler_type="cosine")
        return fit(SFTTrainer(model, args, processing_class=tokenizer, train_dataset=blocks)), tokenizer


def train(base, tokenizer, prompts, valid, arm, setting, seed, batches):
    a, start = ARMS[arm], time.process_time()
    updates = 1 if a.get("algorithm") else 4
    model = small_model(tokenizer, 128, 4, 4, max_length=256)
    model.load_state_dict(base.state_dict())
    rows = [dict(prompt=p["prompt"]) for p in prompts][seed*BATCH*batches:(seed+1)*BATCH*batches]
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(RLSFConfig, d, per_device_train_batch_size=BATCH, response_length=LENGTH, kl_coef=.02, max_steps=batches*updates, num_train_epochs=10, eval_strategy="steps", eval_steps=max(1, batches//8)*updates, eval_k=2,
                              seed=seed, lr_scheduler_type="constant", group_by_length=False, logging_steps=updates, **a, **setting)
        trainer = RLSFTrainer(model, args, rows, tokenizer, Sentiment(), eval_dataset=[dict(prompt=p["prompt"]) for p in valid])
        curve = [(0, trainer.evaluate()["eval_mean@2"])]
        fit(trainer)
    curve += [(l["step"]//updates*BATCH, l["eval_mean@2"]) for l in trainer.state.log_history if "eval_mean@2" in l and l["step"]]
    return trainer.model.eval(), [(s, round(v, 4)) for s, v in dict(curve).items()], time.process_time()-start


def measure(model, base, tokenizer, prompts, seed):
    "Of each prompt's two continuations: mean score, share positive, log-perplexity under the base; and the share of distinct pairs of words."
    engine, tool = LocalEngine(model, tokenizer, batch_size=128), Sentiment()
    found = engine.generate([p["prompt"] for p in prompts], n=2, max_new_tokens=LENGTH, temperature=1.0, seed=1000+seed)
    certs = [[tool(p["prompt"], c.text) for c in row] for p, row in zip(prompts, found)]
    flat = [(p["prompt"], c.text) for p, row in zip(prompts, found) for c in row if c.text]
    scores = score_texts(base, tokenizer, [p for p, _ in flat], [t for _, t in flat], max_length=128, batch_size=64)
    pairs = [w for _, t in flat for w in zip(t.split(), t.split()[1:])]
    return dict(score=[sum(2*c.score-1 for c in row)/2 for row in certs], positive=[sum(c.passed for c in row)/2 for row in certs], nll=[s["mean"] for s in scores], distinct=len(set(pairs))/max(1, len(pairs)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("data")
    ap.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    ap.add_argument("--batches", type=int, default=32)
    ap.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    ap.add_argument("--out", help="write the JSON there as well")
    a = ap.parse_args()
    torch.set_num_threads(1)
    hf.disable_progress_bar(); hf.set_verbosity_error()
    rows = {split: review_rows(a.data, split=split, n=10_000) for split in ("train", "valid", "test")}
    start = time.process_time()
    base, tokenizer = language_model([r["text"] for r in rows["train"]])
    made = time.process_time()-start
    starts = {split: review_prompts(r, tokenizer, min_chars=40) for split, r in rows.items()}
    valid, test = starts["valid"][:150], starts["test"][:300]
    out = dict(experiment="rlsf_sentiment", seeds=a.seeds, batches=a.batches, samples_a_batch=BATCH, parameters=base.num_parameters(), base_cpu_s=round(made, 1), arms={})
    before = [measure(base, base, tokenizer, test, s) for s in a.seeds]
    join = lambda runs, name: [v for r in runs for v in r[name]]
    summary = lambda runs: {n: [round(x, 4) for x in bootstrap_mean(join(runs, n))] for n in ("score", "positive")} | dict(perplexity=round(math.exp(-sum(join(runs, "nll"))/len(join(runs, "nll"))), 2), distinct_pairs=round(sum(r["distinct"] for r in runs)/len(runs), 4))
    out["before"] = summary(before)
    for arm in a.arms:
        tried = []
        for setting in GRID:
            model, curve, s = train(base, tokenizer, starts["train"], valid, arm, setting, 0, a.batches)
            tried.append((curve_area(curve), setting, (model, curve, s)))
            print(arm, setting, curve[-1], round(curve_area(curve), 4), round(s), file=sys.stderr, flush=True)
        best = max(tried, key=lambda t: t[0])
        runs = [best[2] if s == 0 else train(base, tokenizer, starts["train"], valid, arm, best[1], s, a.batches) for s in a.seeds]
        after = [measure(m, base, tokenizer, test, s) for (m, *_), s in zip(runs, a.seeds)]
        out["arms"][arm] = dict(setting=best[1], curves=[c for _, c, _ in runs], area=[round(curve_area(c), 4) for _, c, _ in runs], cpu_s=[round(s, 1) for *_, s in runs], test=summary(after),
                                gain={n: [round(x, 4) for x in paired_bootstrap(join(after, n), join(before, n))] for n in ("score", "positive")})
    top = max(c[-1][1] for r in out["arms"].values() for c in r["curves"])
    low = sum(r["curves"][0][0][1] for r in out["arms"].values())/len(out["arms"])
    out["midpoint"] = round((low+top)/2, 4)
    for r in out["arms"].values(): r["samples_to_midpoint"] = [None if (n := samples_to(c, out["midpoint"])) is None else round(n) for c in r["curves"]]
    line = json.dumps(out)
    if a.out:
        with open(a.out, "w") as f: f.write(line+"\n")
    print(line)


if __name__ == "__main__":
    main()
