"""A model that nobody on this project made: generation, preference steps, a policy update and start-up against
transformers and TRL, on one thread. Prints one JSON object.

    PREFLEXOR_REAL_MODELS=FOLDER python benchmarks/real_model.py [--only generate,orpo] [--state FILE] [--small]

The model is `qwen2.5-coder-0.5b-instruct` in that folder, or the one that --model names. Every measurement runs in a
process of its own, so that its highest resident memory is its own; both sides of a ratio do the same work from the
same weights. A measurement that is done is kept in the file of --state and not made again: a run that was ended goes
on. CPU seconds are those of all threads. Without a model there is nothing to measure, and the JSON says so.
"""

import argparse
import copy
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.update(
    {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
)
warnings.filterwarnings("ignore")

from common import QUIET, cpu

DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
FULL = {
    "new": 64,
    "short": 8,
    "pair": 350,
    "pairs": 4,
    "prompts": 8,
    "samples": 4,
    "sampled": 128,
    "micro": 8,
    "rounds": 2,
}
SMALL = {
    "new": 4,
    "short": 2,
    "pair": 24,
    "pairs": 2,
    "prompts": 2,
    "samples": 2,
    "sampled": 6,
    "micro": 4,
    "rounds": 1,
}
WORDS = "the bone is tough because collagen and mineral share load in a hierarchy of fibrils that slide".split()

# name -> (sides that are measured apart, ratio of what, bar, whether the ratio shall be at least the bar)
CELLS = {
    "generate_1": (("both",), "tokens per CPU second, LocalEngine / transformers.generate", 1.0, True),
    "generate_8": (("both",), "tokens per CPU second, LocalEngine / transformers.generate", 1.1, True),
    "generate_64": (("both",), "tokens per CPU second, LocalEngine / transformers.generate", 1.2, True),
    "frozen": (("both",), "CPU seconds of generation, frozen / trainable weights", 1.1, False),
    "adapter": (("both",), "CPU seconds of generation, LoRA with marker rows / merged", 1.15, False),
    "orpo": (("ours", "trl"), "CPU seconds of one ORPO LoRA step, ours / TRL", 0.5, False),
    "exo": (("ours", "trl"), "CPU seconds of one EXO LoRA step with its reference, ours / TRL", 0.45, False),
    "rloo": (("ours", "trl"), "CPU seconds per sampled token of one RLOO LoRA update, ours / TRL", 0.8, False),
    "ask": (
        ("ours", "plain"),
        "CPU seconds of `preflexor ask` for one token / the same by transformers alone",
        None,
        False,
    ),
}


def opened(path):
    "Model, with trainable weights in the precision that `preflexor` chooses, and tokenizer."
    from preflexor_lab.recipes.engines import open_model

    return open_model(str(path))


def texts(tok, count, length, seed=0):
    "As many texts of about `length` tokens, the same in every run."
    draw, out = random.Random(seed), []
    for _ in range(count):
        words = []
        while len(tok(" ".join(words), add_special_tokens=False)["input_ids"]) < length:
            words.append(draw.choice(WORDS))
        out.append(" ".join(words))
    return out


def questions(count):
    "Questions whose answers are short and long in turn."
    asked = "What is {} plus {}? Say the number alone.", "Explain in full sentences how a child adds {} and {} by hand."
    return [asked[i % 2].format(i, 7 * i) for i in range(count)]


def in_turns(sides, rounds):
    "The least CPU seconds of each side; one after another, `rounds` times."
    best = {}
    for _ in range(rounds):
        for name, side in sides.items():
            _, seconds = cpu(side)
            best[name] = min(seconds, best.get(name, seconds))
    return best


def chats(tok, count):
    "Questions as ids, in the model's chat template where it has one."
    from preflexor_lab.text.chat import encode_prompt

    asked = [[{"role": "user", "content": q}] if tok.chat_template else q for q in questions(count)]
    return asked, [encode_prompt(tok, a) for a in asked]


def generate(batch, path, size):
    "Tokens per CPU second of a batch of greedy answers that end where the model ends them, ours and transformers'."
    import torch

    from preflexor_lab.models.local import LocalEngine

    model, tok = opened(path)
    model.requires_grad_(True)
    asked, ids = chats(tok, batch + 1)
    asked, ids = asked[1:], ids[1:]  # a long answer first, which is the one of batch 1
    width, pad = max(map(len, ids)), tok.pad_token_id or 0
    inputs = torch.tensor([[pad] * (width - len(p)) + p for p in ids])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in ids])
    engine = LocalEngine(model, tok, batch_size=batch, weights="same")
    options = {"do_sample": False, "pad_token_id": pad, "eos_token_id": list(engine.eos), "repetition_penalty": 1.0}
    tokens = {}

    def ours(new=size["new"]):
        tokens["ours"] = sum(len(c[0].ids) for c in engine.generate(asked, max_new_tokens=new))

    def theirs(new=size["new"]):
        with torch.inference_mode():
            found = model.generate(inputs, attention_mask=mask, max_new_tokens=new, **options)
        ends = [[i in engine.eos for i in row] for row in found[:, width:].tolist()]
        tokens["transformers"] = sum(row.index(True) + 1 if any(row) else len(row) for row in ends)

    for side in (ours, theirs):
        side(2)
    seconds = in_turns({"ours": ours, "transformers": theirs}, size["rounds"] * (2 if batch == 1 else 1))
    rate = {name: tokens[name] / s for name, s in seconds.items()}
    return {"tokens_per_cpu_second": rate, "tokens": tokens, "ratio": rate["ours"] / rate["transformers"]}


def frozen(path, size):
    "Seconds of 16 short answers with frozen and with trainable weights."
    from preflexor_lab.models.local import LocalEngine

    model, tok = opened(path)
    engine, asked = LocalEngine(model, tok, weights="same"), chats(tok, 16)[0]

    def side(trainable):
        model.requires_grad_(trainable)
        engine.generate(asked, max_new_tokens=size["short"])

    side(True)
    seconds = in_turns({"frozen": lambda: side(False), "trainable": lambda: side(True)}, size["rounds"])
    return {"cpu_seconds": seconds, "ratio": seconds["frozen"] / seconds["trainable"]}


def adapter(path, size):
    "Seconds of 16 answers under an adapter with trained marker rows, and with the adapter merged."
    import torch

    from preflexor_lab.models.adapters import add_lora, merge_lora
    from preflexor_lab.models.local import LocalEngine
    from preflexor_lab.text.markers import register_markers

    model, tok = opened(path)
    register_markers(tok, model)
    adapted = add_lora(model, tok)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.01)
    sides, asked = {"adapter": adapted, "merged": merge_lora(copy.deepcopy(adapted))}, chats(tok, 16)[0]
    engines = {name: LocalEngine(m, tok, weights=name) for name, m in sides.items()}

    def side(name, new=size["new"]):
        return lambda: engines[name].generate(asked, max_new_tokens=new)

    for name in sides:
        side(name, 2)()
    seconds = in_turns({name: side(name) for name in sides}, size["rounds"])
    return {"cpu_seconds": seconds, "ratio": seconds["adapter"] / seconds["merged"]}


def settings(folder, **more):
    "What trainers of both sides are told alike."
    return dict(output_dir=folder, max_steps=1, learning_rate=1e-5, **QUIET, **more)


def preference(method, side, path, size):
    "CPU seconds of one step with its reference; those of setting up, which many steps share, are told apart."
    model, tok = opened(path)
    third = size["pair"] // 3
    parts = texts(tok, 3 * size["pairs"], third)
    parts = [parts[i::3] for i in range(3)]
    pairs = [dict(prompt=p, chosen=f" {c} {p}", rejected=f" {r} {p}") for p, c, r in zip(*parts)]
    given = {"per_device_train_batch_size": size["pairs"], "max_length": 1024}
    if method == "exo":
        given |= {"loss_type": "exo_pair", "label_smoothing": 5e-3}
    with tempfile.TemporaryDirectory() as folder:
        run = {"ours": our_pairs, "trl": trl_pairs}[side]
        trainer, setup = cpu(lambda: run(method, model, tok, pairs, settings(folder, beta=0.1, **given)))
        _, seconds = cpu(trainer.train)
    reference = getattr(trainer, "reference_seconds", 0.0)
    return {
        "cpu_seconds": seconds + reference,
        "setup_seconds": setup - reference,
        "tokens": 2 * size["pairs"] * size["pair"],
        "step": trainer.state.global_step,
    }


def our_pairs(method, model, tok, pairs, given):
    from preflexor_lab.models.adapters import add_lora
    from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
    from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer

    trainer, config = {"orpo": (ORPOTrainer, ORPOConfig), "exo": (DPOTrainer, DPOConfig)}[method]

    class Timed(trainer):
        reference_seconds = 0.0

        def ask_reference(self, data):
            _, seconds = cpu(lambda: trainer.ask_reference(self, data))
            self.reference_seconds += seconds

    return Timed(add_lora(model, r=16), config(**given), pairs, processing_class=tok)


def lora_of_trl():
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def trl_pairs(method, model, tok, pairs, given):
    import trl
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainer, config = {"orpo": (ORPOTrainer, ORPOConfig), "exo": (trl.DPOTrainer, trl.DPOConfig)}[method]
    table = Dataset.from_list(pairs)
    return trainer(model, args=config(**given), train_dataset=table, processing_class=tok, peft_config=lora_of_trl())


def rloo(side, path, size):
    "CPU seconds of one update, per sampled token: some samples may end early."
    model, tok = opened(path)
    rows = [{"prompt": chat} for chat in chats(tok, size["prompts"])[0]]
    count = size["prompts"] * size["samples"]
    micro = min(size["micro"], count)
    given = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": count // micro, "temperature": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        run = {"ours": our_rloo, "trl": trl_rloo}[side]
        tokens, seconds = run(model, tok, rows, settings(folder, **given), size)
    return {"cpu_seconds": seconds, "tokens": tokens, "per_token": seconds / tokens}


def our_rloo(model, tok, rows, given, size):
    from preflexor_lab.models.adapters import add_lora
    from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer

    config = PolicyConfig(**given, rloo_k=size["samples"], response_length=size["sampled"], kl_coef=0.05)
    trainer = PolicyTrainer(
        add_lora(model, r=16), config, rows, processing_class=tok, tool=lambda p, response, row: len(set(response)) / 99
    )
    _, seconds = cpu(trainer.train)
    return trainer.spent["sampled_tokens"], seconds


def trl_rloo(model, tok, rows, given, size):
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    tokens = []

    def distinct(completions, completion_ids, **_):
        tokens.extend(map(len, completion_ids))
        return [len(set(str(c))) / 99 for c in completions]

    config = RLOOConfig(**given, num_generations=size["samples"], max_completion_length=size["sampled"], beta=0.05)
    trainer = RLOOTrainer(
        model, distinct, config, train_dataset=Dataset.from_list(rows), processing_class=tok, peft_config=lora_of_trl()
    )
    _, seconds = cpu(trainer.train)
    return sum(tokens), seconds


def ask(side, path, size):
    "CPU and wall seconds of a process that answers with one token."
    plain = (
        "import sys, torch; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T;"
        "tok = T.from_pretrained(sys.argv[1]); model = M.from_pretrained(sys.argv[1], dtype='auto');"
        "ids = tok('why ?', return_tensors='pt'); model.generate(**ids, max_new_tokens=1, do_sample=False)"
    )
    ours = "from preflexor_lab.recipes.cli import main; main()"
    command = [sys.executable, "-c", ours, "ask", "why ?", "-m", str(path), "--max-new-tokens", "1"]
    if side == "plain":
        command = [sys.executable, "-c", plain, str(path)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": seconds, "wall_seconds": time.monotonic() - start}


def measure(cell, side, path, size):
    "One measurement, in this process, with its highest resident memory in GB."
    import datasets
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if cell.startswith("generate_"):
        found = generate(int(cell.removeprefix("generate_")), path, size)
    elif cell in ("orpo", "exo"):
        found = preference(cell, side, path, size)
    else:
        sides = {"frozen": frozen, "adapter": adapter, "rloo": rloo, "ask": ask}
        found = sides[cell](*(() if side == "both" else (side,)), path, size)
    if cell != "ask":  # which only waits for another process
        unit = 1 if sys.platform == "darwin" else 1024
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return found


def child(cell, side, args):
    "A measurement in a process of its own."
    command = [sys.executable, __file__, "--model", str(args.model), "--measure", cell, side]
    command += ["--small"] * args.small + (["--pairs", str(args.pairs)] if args.pairs else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"failed": f"ended with {done.returncode}" + " (killed: not enough memory?)" * (done.returncode == -9)}
    return json.loads(done.stdout.splitlines()[-1])


def rounded(value):
    "Numbers of a result with three digits that count."
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def judged(cell, sides):
    "A cell's sides with their ratio and whether it meets the bar."
    _, what, bar, at_least = CELLS[cell]
    out = {"ratio_of": what, **sides}
    if any("failed" in s for s in sides.values()):
        return out | {"met": False}
    if "both" in sides:
        ratio = sides["both"]["ratio"]
    else:
        mine, other = sides.values()
        key = "per_token" if "per_token" in mine else "cpu_seconds"
        ratio = mine[key] / other[key]
        if "peak_gb" in mine:
            out["memory_ratio"] = mine["peak_gb"] / other["peak_gb"]
    met = None if bar is None else (ratio >= bar if at_least else ratio <= bar)
    return out | {"ratio": ratio, "bar": bar, "met": met}


def read(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def chosen(only):
    "Cells by name or by the beginning of it; raises SystemExit on a word that names none."
    words = only.split(",") if only else [""]
    for word in words:
        if not any(name.startswith(word) for name in CELLS):
            raise SystemExit(f"--only {word}: it is none of {', '.join(CELLS)}")
    return [name for name in CELLS if any(name.startswith(word) for word in words)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help=f"folder of a model (default {DEFAULT_MODEL} in PREFLEXOR_REAL_MODELS)")
    parser.add_argument("--only", help=f"measurements, or beginnings of their names: {', '.join(CELLS)}")
    parser.add_argument("--state", help="file of measurements that are done (default in the system's temporary folder)")
    parser.add_argument("--pairs", type=int, help=f"pairs of a step (default {FULL['pairs']}; TRL's takes 14 GB)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in that file")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script; no bar is judged")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model is None:
        args.model = Path(os.environ.get("PREFLEXOR_REAL_MODELS") or "no-such-folder") / DEFAULT_MODEL
    if not (Path(args.model) / "config.json").is_file():
        reason = f"no model in {args.model}: set PREFLEXOR_REAL_MODELS, or give --model"
        print(json.dumps({"benchmark": "real_model", "skipped": reason}))
        return
    size = dict(SMALL if args.small else FULL)
    size["pairs"] = args.pairs or size["pairs"]
    if args.measure:
        print(json.dumps(measure(*args.measure, args.model, size)))
        return
    name = f"preflexor-real-model-{Path(args.model).name}-{size['pairs']}{'-small' * args.small}.json"
    state = Path(args.state or Path(tempfile.gettempdir()) / name)
    done, cells = {} if args.fresh else read(state), {}
    for cell in chosen(args.only):
        for side in CELLS[cell][0]:
            key = f"{cell}/{side}"
            if key not in done or "failed" in done[key]:
                done[key] = child(cell, side, args)
                part = state.with_suffix(".part")
                part.write_text(json.dumps(done))
                part.replace(state)
                print(key, rounded(done[key]), file=sys.stderr, flush=True)
        cells[cell] = judged(cell, {side: done[f"{cell}/{side}"] for side in CELLS[cell][0]})
    result = {
        "benchmark": "real_model",
        "model": Path(args.model).name,
        "threads": 1,
        "small": args.small,
        "size": size,
    }
    print(json.dumps(result | {"cells": rounded(cells)}))
    failed = any("failed" in s for c in cells.values() for s in c.values() if isinstance(s, dict))
    raise SystemExit(failed or (not args.small and any(c["met"] is False for c in cells.values())))


if __name__ == "__main__":
    main()
