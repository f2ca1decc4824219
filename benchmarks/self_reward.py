"""Candidates for self-rewarding against the package self-rewarding-lm-pytorch, in tokens per CPU second; prints one JSON line.

A Llama of 5M random parameters, 8 prompts of 64 random tokens, 4 candidates each of 128 new tokens, temperature 0.7, top_p 0.9,
no end of sequence. Ours is the loop of LocalEngine: all 32 rows in one batch, each prompt read once and its cache shared by its
candidates. The baseline is the package's `sampling_utils.sample`, called as its `DPODatasetGenerator.forward` calls it: prompt by
prompt, the prompt repeated 4 times, up to prompt + new tokens. It has no key-value cache: every step runs the model over the
whole sequence again, logits of every position included; most of the ratio comes from that. Its `net` must return logits, which a
module around the same model does with `use_cache=False`. The package is used as published (0.2.12), faults included. They change
what is sampled, not how much work it is: a token is drawn from the logits of its own, still empty place (read as token 0), not
of the place before; the mask meant to cut off the prompt keeps it and drops every token 0, so new tokens are counted from steps.

Also measured, without a target: 3 votes of 64 new tokens on each candidate (prompt and candidate, 192 tokens), in one call of
LocalEngine as `ModelJudge` asks against one call a candidate as the package does, both with our engine: only the batching
differs. `model_tokens` are the tokens that each side runs through the model, `prompt_tokens_read` those of ours that read prompts.

All run in one process on one thread, timed in CPU time (`time.process_time`) after a warm-up, in turns, the best of `--rounds`
counting for each. Exits 1 when the target is missed, 2 without the package (pip install 'preflexor_lab[bench]').
"""

import argparse
import json
import sys
import warnings

import torch
from generation import cpu_seconds, small_llama  # first: it sets the threads before torch is imported

from preflexor_lab.models.engine import GenerationParams
from preflexor_lab.models.local import LocalEngine, Row

TARGET = 40.0
SAMPLING = {"temperature": 0.7, "top_p": 0.9}


def load_baseline():
    "`sample` and `top_p` of the package; exits 2 with one line when it cannot be imported."
    try:
        warnings.simplefilter("ignore", FutureWarning)  # it uses names that torch has deprecated
        from self_rewarding_lm_pytorch.sampling_utils import sample, top_p
    except ImportError as e:
        print(
            f"self_reward.py compares with self-rewarding-lm-pytorch, which cannot be imported ({e}): pip install 'preflexor_lab[bench]'",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return sample, top_p


class Logits(torch.nn.Module):
    "A model as the package wants it: token ids in, logits out."

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits


class Work:
    "Counts what runs through a model: tokens, those in calls with more than one a row, and the rows of all calls."

    def __init__(self, model):
        model.register_forward_pre_hook(self.count, with_kwargs=True)

    def reset(self):
        self.tokens = self.reading = self.rows = 0

    def count(self, model, args, kw):
        rows, width = kw["input_ids"].shape
        self.tokens, self.reading, self.rows = (
            self.tokens + rows * width,
            self.reading + rows * width * (width > 1),
            self.rows + rows,
        )


def decode(engine, prompts, n, new, together=True):
    "Ours: `n` samples of each prompt, in one call of the engine or in one call a prompt; lists of token ids."
    rows = [Row(i, s, prompt, i * n + s, new) for i, prompt in enumerate(prompts) for s in range(n)]
    for part in [rows] if together else [rows[at : at + n] for at in range(0, len(rows), n)]:
        engine.decode(part, GenerationParams(max_new_tokens=new, **SAMPLING))
    return [row.ids for row in rows]


def main():
    "Run all sides in turns, print the best of each."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, what in [
        ("prompts", 8, "prompts"),
        ("candidates", 4, "candidates of each"),
        ("length", 64, "tokens of a prompt"),
        ("new", 128, "new tokens of a candidate"),
        ("votes", 3, "votes on each candidate"),
        ("vote-new", 64, "new tokens of a vote"),
        ("rounds", 2, "times to run each side"),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default %(default)s)")
    args = parser.parse_args()
    sample, top_p = load_baseline()
    torch.set_num_threads(1)
    model = small_llama()
    engine, net, work = LocalEngine(model, None, eos_token_id=(), weights="random"), Logits(model), Work(model)
    work.reset()
    prompts = torch.randint(1, 4096, (args.prompts, args.length), generator=torch.Generator().manual_seed(0)).tolist()

    def package(prompts, new):
        for prompt in prompts:
            sample(
                net,
                prompts=torch.tensor(prompt).repeat(args.candidates, 1),
                seq_len=len(prompt) + new,
                temperature=SAMPLING["temperature"],
                filter_fn=top_p,
                filter_kwargs=dict(thres=SAMPLING["top_p"]),
            )

    judged = [
        prompts[i // args.candidates] + ids for i, ids in enumerate(decode(engine, prompts, args.candidates, args.new))
    ]
    sides = {
        "ours": lambda prompts, judged, new, _: decode(engine, prompts, args.candidates, new),
        "package": lambda prompts, judged, new, _: package(prompts, new),
        "votes_one_call": lambda prompts, judged, _, new: decode(engine, judged, args.votes, new),
        "votes_call_each": lambda prompts, judged, _, new: decode(engine, judged, args.votes, new, together=False),
    }
    for side in sides.values():
        side(prompts[:2], judged[:2], 8, 8)
    best, outs, counted = {}, {}, {}
    for _ in range(args.rounds):
        for name, side in sides.items():
            work.reset()
            seconds, outs[name] = cpu_seconds(lambda: side(prompts, judged, args.new, args.vote_new))
            best[name], counted[name] = min(seconds, best.get(name, seconds)), dict(vars(work))
    tokens = {name: counted[name]["rows"] if name == "package" else sum(map(len, out)) for name, out in outs.items()}
    assert tokens["ours"] == tokens["package"] == args.prompts * args.candidates * args.new, (
        tokens
    )  # the same amount was sampled
    rate = {name: tokens[name] / seconds for name, seconds in best.items()}
    ratio = rate["ours"] / rate["package"]
    print(
        json.dumps(
            {
                "benchmark": "self_reward",
                "parameters": sum(p.numel() for p in model.parameters()),
                **vars(args),
                "threads": torch.get_num_threads(),
                "batch_size": engine.batch_size,
                "tokens_per_cpu_second": {name: round(r, 1) for name, r in rate.items()},
                "ratio": round(ratio, 2),
                "target": TARGET,
                "model_tokens": {name: c["tokens"] for name, c in counted.items()},
                "prompt_tokens_read": {"ours": counted["ours"]["reading"], "unshared": len(judged) * args.length},
                "votes_ratio": round(rate["votes_one_call"] / rate["votes_call_each"], 2),
                "same_votes": sum(a == b for a, b in zip(outs["votes_one_call"], outs["votes_call_each"]))
                / len(outs["votes_one_call"]),
            }
        )
    )
    raise SystemExit(0 if ratio >= TARGET else 1)


if __name__ == "__main__":
    main()
