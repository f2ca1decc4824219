"""Preference steps against TRL's trainers: EXO over three epochs of one dataset, and ORPO. Prints one JSON object.

    python benchmarks/preference_step.py [--pairs 16] [--batch 4] [--repeats 2] [--epochs 3] [--extra]

Both trainers run in this process on one thread, in turn, from the same weights and on the same pairs, gradient
checkpointing off. CPU seconds of `train()` are compared; to ours are added the pass that fills the reference cache and
the one that chooses the layout of a batch. The rest of construction (tokenising) is reported apart.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import warnings

os.environ.update(
    {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
)
warnings.filterwarnings("ignore")

import datasets
import torch
from common import QUIET, cpu
from transformers import PrinterCallback

from preflexor_lab.models.loading import small_model, train_tokenizer
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer


def make_pairs(n, seed=0):
    "Texts of Zipf-distributed words with log-normal lengths, in words: prompts near 60, completions near 120."
    draw = torch.Generator().manual_seed(seed)
    words = [
        "".join("bcdfghklmnprst"[(w >> (4 * k)) % 14] + "aeiou"[(w >> (3 * k)) % 5] for k in range(2)) + str(w % 7)
        for w in range(3000)
    ]
    zipf = 1 / torch.arange(1, 3001).float()

    def text(median):
        length = int(torch.exp(torch.randn((), generator=draw) * 0.5) * median)
        return " ".join(
            words[i]
            for i in torch.multinomial(zipf, max(8, min(length, 3 * median)), replacement=True, generator=draw).tolist()
        )

    return [dict(prompt=text(60) + " ?", chosen=" " + text(120), rejected=" " + text(120)) for _ in range(n)]


def settings(args, folder, **kw):
    return dict(
        output_dir=folder,
        **QUIET,
        per_device_train_batch_size=args.batch,
        num_train_epochs=args.epochs,
        learning_rate=1e-4,
        logging_steps=10,
        max_length=1024,
        **kw,
    )


def timed(cls):
    "One of our trainers, with the CPU seconds of what it computes before the first step."

    class Timed(cls):
        reference_seconds = layout_seconds = 0.0

        def ask_reference(self, data):
            _, seconds = cpu(lambda: cls.ask_reference(self, data))
            self.reference_seconds += seconds

        def choose_layout(self, *args, **kw):
            found, self.layout_seconds = cpu(lambda: cls.choose_layout(self, *args, **kw))
            return found

    return Timed


def measure(make):
    trainer, construction = cpu(make)
    trainer.remove_callback(PrinterCallback)
    _, training = cpu(trainer.train)
    return dict(
        construction=construction,
        training=training,
        reference=getattr(trainer, "reference_seconds", 0.0),
        layout=getattr(trainer, "layout_seconds", 0.0),
        steps=trainer.state.global_step,
        shared=getattr(trainer, "shared", None),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in dict(pairs=16, batch=4, repeats=2, epochs=3).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--extra", action="store_true", help="also the plain layout and length grouping")
    args = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    import trl
    from trl.experimental.orpo import ORPOConfig as TRLORPOConfig
    from trl.experimental.orpo import ORPOTrainer as TRLORPOTrainer

    pairs = make_pairs(args.pairs)
    tok = train_tokenizer([p["chosen"] for p in make_pairs(400, seed=1)], vocab_size=4096)
    model = small_model(tok, hidden=256, layers=6, heads=8)
    table, fresh, folder = datasets.Dataset.from_list(pairs), lambda: copy.deepcopy(model), tempfile.mkdtemp()
    exo = dict(loss_type="exo_pair", label_smoothing=5e-3, beta=0.1)
    runs = {
        "exo_ours": lambda: timed(DPOTrainer)(
            fresh(), DPOConfig(**settings(args, folder, **exo)), pairs, processing_class=tok
        ),
        "exo_trl": lambda: trl.DPOTrainer(
            fresh(), fresh(), trl.DPOConfig(**settings(args, folder, **exo)), train_dataset=table, processing_class=tok
        ),
        "exo_ours_plain_layout": lambda: timed(DPOTrainer)(
            fresh(), DPOConfig(**settings(args, folder, **exo), share_prompts=False), pairs, processing_class=tok
        ),
        "exo_ours_grouped": lambda: timed(DPOTrainer)(
            fresh(), DPOConfig(**settings(args, folder, **exo), group_by_length=True), pairs, processing_class=tok
        ),
        "orpo_ours": lambda: timed(ORPOTrainer)(
            fresh(), ORPOConfig(**settings(args, folder)), pairs, processing_class=tok
        ),
        "orpo_trl": lambda: TRLORPOTrainer(
            fresh(), TRLORPOConfig(**settings(args, folder)), train_dataset=table, processing_class=tok
        ),
        "orpo_ours_plain_layout": lambda: timed(ORPOTrainer)(
            fresh(), ORPOConfig(**settings(args, folder), share_prompts=False), pairs, processing_class=tok
        ),
    }
    if not args.extra:
        runs = {name: make for name, make in runs.items() if name.endswith(("_ours", "_trl"))}
    found = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, make in runs.items():
            found[name].append(measure(make))
            print(
                name,
                {k: v if k in ("steps", "shared") else round(v, 2) for k, v in found[name][-1].items()},
                file=sys.stderr,
                flush=True,
            )
    total = lambda r: r["training"] + r["reference"] + r["layout"]
    seconds = {n: statistics.median(map(total, rs)) for n, rs in found.items()}
    ratio = lambda a, b: statistics.median(total(x) / total(y) for x, y in zip(found[a], found[b]))
    lengths = [[len(tok(p[k])["input_ids"]) for p in pairs] for k in ("prompt", "chosen", "rejected")]
    ratios, targets = (
        {name: ratio(name, f"{name.split('_')[0]}_trl") for name in runs if not name.endswith("_trl")},
        dict(exo_ours=0.85, orpo_ours=1.0),
    )
    print(
        json.dumps(
            dict(
                benchmark="preference_step",
                parameters=sum(p.numel() for p in model.parameters()),
                pairs=args.pairs,
                batch=args.batch,
                epochs=args.epochs,
                repeats=args.repeats,
                mean_tokens=dict(
                    zip(("prompt", "chosen", "rejected"), (round(statistics.mean(x), 1) for x in lengths))
                ),
                steps=found["exo_ours"][0]["steps"],
                prompts_shared=found["exo_ours"][0]["shared"],
                cpu_seconds={n: round(s, 2) for n, s in seconds.items()},
                layout_seconds=round(statistics.median(r["layout"] for r in found["exo_ours"]), 2),
                reference_seconds=round(statistics.median(r["reference"] for r in found["exo_ours"]), 2),
                construction_seconds={
                    n: round(statistics.median(r["construction"] for r in rs), 2) for n, rs in found.items()
                },
                **{f"{name}_ratio": round(r, 3) for name, r in ratios.items()},
                target={f"{name}_ratio": t for name, t in targets.items()},
            )
        )
    )
    raise SystemExit(any(ratios[name] > t for name, t in targets.items() if name in ratios))


if __name__ == "__main__":
    main()
