"""Does it help to be told which tokens were wrong? RLSF (2405.16661) on the materials lab with the same certificates in three views. Prints one JSON line.

    python benchmarks/experiments/rlsf_feedback.py [--seeds 0 1] [--batches 24] [--jobs 2] [--arms ...] [--out FILE]

The base is the packaged novice after it read 1,200 derivations of 4 and 5 hops in which every calculation is off by one with probability 0.55 (a minute, seeded): it calculates badly everywhere.
Every arm then sees the same questions, 32 a batch with one sample each. The tool is `tools.Lab(lines=True)`: its score is the share of steps that are right, so that the three views of a certificate
have the same total (token and scalar) or its verdict (boolean).

* token, scalar, boolean: PPO with four updates a batch. reinforce_*: REINFORCE on as many samples.

Each arm takes the best of four settings (learning rate; discount 1 or 0.5) by the area under its validation curve with seed 0; all seeds then use it. `--jobs` arms run side by side. Curves: strict accuracy of samples (4 each) on 60 validation questions.
Test (200 questions a seed, pooled): strict accuracy, greedy and of 4 samples, with 95 % intervals, and paired differences between neighbouring views.
"""

import multiprocessing
import random
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import torch
from shared import arguments, joined, midpoint, rounded, tell  # sets the environment, so before torch

from preflexor_lab.methods.rlsf import RLSFConfig, RLSFTrainer
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.tasks.evaluation import evaluate
from preflexor_lab.tasks.statistics import bootstrap_mean, curve_area, paired_bootstrap, samples_to
from preflexor_lab.tools.lab import Lab
from preflexor_lab.training.callbacks import fit, make_arguments
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

HOPS, BATCH, UPDATES, WRONG = (4, 5), 32, 4, 0.55
VIEWS = ("token", "scalar", "boolean")
ARMS = {v: dict(feedback=v) for v in VIEWS} | {f"reinforce_{v}": dict(feedback=v, algorithm="reinforce") for v in VIEWS}
GRID = {
    name: [dict(learning_rate=r, gamma=g) for r in rates for g in (1.0, 0.5)]
    for name, rates in (("ppo", (5e-5, 1e-4)), ("reinforce", (2e-4, 5e-4)))
}


def miscalculated(item, rng):
    "The derivation of an item in which every calculation is off by one with probability WRONG, and the next lines build on it."
    text, got, sheet = item.completion, world.parse_response(item.completion), dict(item.facts)
    known, lines = {}, []
    for line in got.lines:
        key, right = line.split("= ", 1)
        words = right.split()
        if len(words) == 4:
            before = known[sheet[key].split()[0]]
            known[key] = (world.apply_operation(before, words[1]) + (rng.random() < WRONG) * rng.choice((-1, 1))) % 10
            line = f"{key}= {before} {words[1]} = {known[key]}"
        elif len(words) == 1:
            known[key] = int(words[0])
        lines.append(line)
    for (start, end), new in sorted(zip((*got.spans, got.answer_span), (*lines, str(known[item.asked]))), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def bad_calculator(tokenizer):
    "The novice after a minute of miscalculated derivations."
    rng = random.Random(7)
    notes = [
        dict(prompt=i.prompt, completion=miscalculated(i, rng))
        for i in world.items(1200, seed=3, hops=HOPS, split="train")
    ]
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(
            SFTConfig,
            d,
            per_device_train_batch_size=16,
            num_train_epochs=1,
            learning_rate=3e-4,
            max_length=400,
            warmup_ratio=0.05,
            seed=0,
        )
        return fit(
            SFTTrainer(
                load_model(str(nano_path("novice")), dtype=torch.float32),
                args,
                processing_class=tokenizer,
                train_dataset=notes,
            )
        )


def rows_of(items):
    return [dict(prompt=i.prompt, item=i) for i in items]


def train(weights, tokenizer, arm, setting, seed, batches):
    start, a = time.process_time(), ARMS[arm]
    updates = 1 if a.get("algorithm") else UPDATES
    model = load_model(str(nano_path("novice")), dtype=torch.float32)
    model.load_state_dict(weights)
    with tempfile.TemporaryDirectory() as d:
        args = make_arguments(
            RLSFConfig,
            d,
            per_device_train_batch_size=BATCH,
            response_length=110,
            kl_coef=0.02,
            max_steps=batches * updates,
            num_train_epochs=10,
            seed=seed,
            data_seed=seed,
            lr_scheduler_type="constant",
            group_by_length=False,
            eval_strategy="steps",
            eval_steps=max(1, batches // 8) * updates,
            eval_k=4,
            logging_steps=updates,
            **a,
            **setting,
        )
        trainer = RLSFTrainer(
            model,
            args,
            rows_of(world.items(BATCH * batches, seed=100 + seed, hops=HOPS, split="train")),
            tokenizer,
            Lab(lines=True),
            eval_dataset=rows_of(world.items(60, seed=1, hops=HOPS, split="valid")),
        )
        curve = [(0, trainer.evaluate()["eval_mean@4"])]
        fit(trainer)
    curve += [
        (l["step"] // updates * BATCH, l["eval_mean@4"])
        for l in trainer.state.log_history
        if "eval_mean@4" in l and l["step"]
    ]
    return trainer.model.eval(), [(s, round(v, 4)) for s, v in sorted(dict(curve).items())], time.process_time() - start


def measure(model, tokenizer, seed):
    "Strict results on test questions: of the greedy answer, and the share of four samples."
    engine, items = LocalEngine(model, tokenizer, batch_size=128), world.items(200, seed=seed, hops=HOPS, split="test")
    tell = lambda **kw: [
        sum(p["passed"]) / len(p["passed"])
        for p in evaluate(engine, items, world.grade, max_new_tokens=110, seed=seed, **kw).per_item
    ]
    return dict(greedy=tell(), sampled=tell(k=4))


def best_of(arm, weights, seeds, batches):
    "The better setting on validation with seed 0, and its runs with every seed: what is told of them, and their test results."
    tokenizer, tried = load_tokenizer(str(nano_path("novice"))), []
    for setting in GRID[ARMS[arm].get("algorithm", "ppo")]:
        found = train(weights, tokenizer, arm, setting, 0, batches)
        tried.append((curve_area(found[1]), setting, found))
        print(arm, setting, found[1], round(found[2]), file=sys.stderr, flush=True)
    _, setting, first = max(tried, key=lambda t: t[0])
    runs = [first if s == 0 else train(weights, tokenizer, arm, setting, s, batches) for s in seeds]
    curves = [c for _, c, _ in runs]
    return dict(
        setting=setting,
        curves=curves,
        area=[round(curve_area(c), 4) for c in curves],
        cpu_s=[round(s) for *_, s in runs],
    ), [measure(model, tokenizer, s) for (model, *_), s in zip(runs, seeds)]


def main():
    a = arguments(__doc__, [0, 1], batches=24, jobs=1, arms=list(ARMS))
    tokenizer = load_tokenizer(str(nano_path("novice")))
    base = bad_calculator(tokenizer)
    weights = {k: v.clone() for k, v in base.state_dict().items()}
    before = [measure(base, tokenizer, s) for s in a.seeds]
    out = dict(
        experiment="rlsf_feedback",
        seeds=a.seeds,
        batches=a.batches,
        samples_a_batch=BATCH,
        before={n: rounded(bootstrap_mean(joined(before, n))) for n in ("greedy", "sampled")},
        arms={},
        differences={},
    )
    tests = {"before": before}
    with ProcessPoolExecutor(a.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for arm, (row, after) in zip(
            a.arms, pool.map(best_of, a.arms, *([x] * len(a.arms) for x in (weights, a.seeds, a.batches)))
        ):
            tests[arm] = after
            out["arms"][arm] = row | dict(
                test={n: rounded(bootstrap_mean(joined(after, n))) for n in ("greedy", "sampled")}
            )
    for one, other in (
        ("token", "scalar"),
        ("scalar", "boolean"),
        ("reinforce_token", "reinforce_scalar"),
        ("reinforce_scalar", "reinforce_boolean"),
        *((v, f"reinforce_{v}") for v in VIEWS),
        *((x, "before") for x in a.arms),
    ):
        if one in tests and other in tests:
            out["differences"][f"{one} - {other}"] = {
                n: rounded(paired_bootstrap(joined(tests[one], n), joined(tests[other], n)))
                for n in ("greedy", "sampled")
            }
    out["midpoint"] = midpoint(out["arms"], samples_to)
    tell(out, a.out)


if __name__ == "__main__":
    main()
