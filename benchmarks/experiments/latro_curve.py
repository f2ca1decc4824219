"""Learning curves of LaTRO (2411.04282), two ablations and the exact reward on two mixes of the materials lab. Prints one JSON line.

    python benchmarks/experiments/latro_curve.py [--seeds 0 1] [--steps 32] [--out FILE]

Every arm starts from the packaged novice, draws the same training questions (8 a step, 8 samples each) and is measured greedily on 100 validation
items eight times during training; its last weights (no checkpoint is chosen, so that arms are compared at equal samples) answer 200 test items a seed,
greedily and with 8 samples. Pooled differences to LaTRO are paired over items, with 95 % bootstrap intervals.

* latro: sft_weight 1, KL 0.05.
* without_answer_term: sft_weight 0, the published code's default.
* off_by_one: the published code's slip. Reward and answer term also score the last token of the rationale.
* exact_reward: RLOO with the strict grade as the reward; it sees what LaTRO does not.

Mixes: chains of 4, 5 and 6 hops, and of 6 and 7. The novice saw at most six.
"""

import sys
import tempfile
import time

import torch
from shared import arguments, joined, rounded, tell  # sets the environment, so before torch

from preflexor_lab.methods.latro import LaTROConfig, LaTROTrainer
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.tasks.evaluation import evaluate
from preflexor_lab.tasks.statistics import paired_bootstrap, wilson
from preflexor_lab.training.callbacks import fit, make_arguments
from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer

MIXES = {"4-5-6": (4, 5, 6), "6-7": (6, 7)}
PROMPTS, K = 8, 8


class OffByOne(LaTROTrainer):
    "The answer begins one token early, at the token that ends the rationale."

    def answer_mask(self, batch):
        return super().answer_mask(batch) + batch["rationale"] * (
            1 - torch.nn.functional.pad(batch["rationale"], (0, 1))[:, 1:]
        )


def trainer_of(arm, folder, hops, seed, steps, lr):
    tokenizer, model = (
        load_tokenizer(str(nano_path("novice"))),
        load_model(str(nano_path("novice")), dtype=torch.float32),
    )
    data = {
        split: world.items(n, seed=start, hops=hops, split=split)
        for split, n, start in (("train", PROMPTS * steps, 100 + seed), ("valid", 100, 1))
    }
    rows = {
        split: [dict(prompt=i.prompt, queries=i.prompt, responses=" " + i.answer, item=i) for i in items]
        for split, items in data.items()
    }
    common = dict(
        per_device_train_batch_size=PROMPTS * K,
        rloo_k=K,
        response_length=128,
        kl_coef=0.05,
        learning_rate=lr,
        num_train_epochs=1,
        warmup_ratio=0.05,
        num_evaluations=8,
        save_strategy="no",
        seed=seed,
        data_seed=seed,
        group_by_length=False,
        logging_steps=1,
        report_to=[],
    )
    strict = lambda row, text: world.grade(row["item"], text).passed
    if arm == "exact_reward":
        return PolicyTrainer(
            model,
            make_arguments(PolicyConfig, folder, **common),
            rows["train"],
            tokenizer,
            lambda prompt, text, row: float(world.grade(row.item, text).passed),
            eval_dataset=rows["valid"],
        )
    cls = OffByOne if arm == "off_by_one" else LaTROTrainer
    return cls(
        model,
        make_arguments(LaTROConfig, folder, sft_weight=0.0 if arm == "without_answer_term" else 1.0, **common),
        rows["train"],
        tokenizer,
        eval_dataset=rows["valid"],
        grade=strict,
    )


def test_items(model, hops, seed):
    "Strict greedy and sampled results on test items: one value an item each."
    engine, items = (
        LocalEngine(model.eval(), load_tokenizer(str(nano_path("novice"))), batch_size=128),
        world.items(200, seed=seed, hops=hops, split="test"),
    )
    greedy = evaluate(engine, items, world.grade, max_new_tokens=160, seed=seed).per_item
    drawn = evaluate(engine, items, world.grade, k=8, max_new_tokens=160, seed=seed).per_item
    return dict(
        greedy=[float(p["passed"][0]) for p in greedy],
        sampled=[sum(p["passed"]) / 8 for p in drawn],
        pass_at_8=[float(any(p["passed"])) for p in drawn],
    )


def run(arm, mix, seed, steps, lr):
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(arm, folder, MIXES[mix], seed, steps, lr)
        curve = [(0, trainer.evaluate()["eval_accuracy"])]
        fit(trainer)
        curve += [
            (l["step"], l["eval_accuracy"]) for l in trainer.state.log_history if "eval_accuracy" in l and l["step"]
        ]
    seconds = time.process_time() - start
    return dict(
        curve=[(s, round(v, 3)) for s, v in dict(curve).items()],
        cpu_s=round(seconds, 1),
        test=test_items(trainer.model, MIXES[mix], seed),
    )


def pooled(values):
    "Mean and interval of ones and zeros."
    return [round(x, 4) for x in (sum(values) / len(values), *wilson(sum(values), len(values)))]


def main():
    a = arguments(__doc__, [0, 1], steps=32, learning_rate=2e-5)
    out = dict(
        benchmark="latro_curve",
        seeds=a.seeds,
        steps=a.steps,
        samples_a_step=PROMPTS * K,
        learning_rate=a.learning_rate,
        mixes={},
    )
    for mix, hops in MIXES.items():
        novice = load_model(str(nano_path("novice")), dtype=torch.float32)
        base = [test_items(novice, hops, s) for s in a.seeds]
        rows = {
            "base": dict(
                greedy=pooled(joined(base, "greedy")),
                pass_at_8=pooled(joined(base, "pass_at_8")),
                sampled=round(sum(joined(base, "sampled")) / len(joined(base, "sampled")), 4),
            )
        }
        found = {}
        for arm in ("latro", "without_answer_term", "off_by_one", "exact_reward"):
            found[arm] = [run(arm, mix, s, a.steps, a.learning_rate) for s in a.seeds]
            print(mix, arm, [r["curve"] for r in found[arm]], file=sys.stderr, flush=True)
            tests = [r["test"] for r in found[arm]]
            rows[arm] = dict(
                curves=[r["curve"] for r in found[arm]],
                cpu_s=[r["cpu_s"] for r in found[arm]],
                greedy=pooled(joined(tests, "greedy")),
                pass_at_8=pooled(joined(tests, "pass_at_8")),
                sampled=round(sum(joined(tests, "sampled")) / len(joined(tests, "sampled")), 4),
            )
        tests = {arm: [r["test"] for r in runs] for arm, runs in found.items()} | {"base": base}
        gains = {
            arm: {
                name: rounded(paired_bootstrap(joined(tests["latro"], name), joined(tests[arm], name)))
                for name in ("greedy", "sampled")
            }
            for arm in tests
            if arm != "latro"
        }
        out["mixes"][mix] = dict(rows=rows, latro_minus=gains)
    tell(out, a.out)


if __name__ == "__main__":
    main()
