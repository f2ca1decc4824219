"""CPU seconds of one LaTRO update (2411.04282) against TRL's RLOO trainer and against the method written plainly.
Prints one JSON line.

    python benchmarks/latro.py [--prompts 4] [--samples 8] [--new 128] [--rounds 2] [--memory]

An update is: sample rationales of `--new` tokens for each prompt, ask the reference model (kl_coef 0.05), forward,
backward, AdamW. All sides start from the same Llama of 5.6M random parameters (vocabulary 4096), in one process on one
thread, take turns, and are timed in CPU time (`time.process_time`); of each turn's two updates the first is the
warm-up, and the best turn counts.

* ours: `LaTROTrainer`. One engine call samples all groups; rationale and answer (8 tokens) are scored in one forward
pass, the prompt of a group once.
* trl_rloo: `RLOOTrainer` on the same prompts, with beta 0.05 and a reward that costs nothing. It has no answer to
score, which makes
  its work smaller than ours (128 instead of 136 tokens behind each prompt), and no stop strings to look for; before the
  update it scores the samples once more, as the old policy, which LaTRO has no need of. It pads and reads whole rows,
  prompt included.
* plain: the steps of the published method one after another. `model.generate` with its cache on each prompt repeated
(all rows in
  one call unless `--rollout` says less), then whole rows, full logits and log_softmax: without gradient log π(z|x), log
  π₀(z|x) and log π(y|x⊕z), with gradient log π(z|x) and log π(y|x⊕z); the gradient is not clipped.

Every sample has `--new` tokens: the rows of the two special tokens in the (tied) embedding are built such that their
logits lie more than 20 nats below those of all words, so that the end of sequence is never drawn although every side
watches for it; the number of sampled tokens is checked. Rationales end at LaTRO's default stop string, which no word
contains.

`--memory`: peak memory of the loss part of one update (hidden states → log-probabilities of samples and answers,
forward and backward) at a 128k vocabulary, ours against full logits in one pass; each in its own process, with
`--memory-samples` samples. Linux only.

Exits 1 when a target (CPU seconds at most 0.8 of TRL's, at most 0.5 of the plain version) is missed.
"""

import argparse
import copy
import ctypes
import gc
import json
import re
import subprocess
import sys
import time

import common
import torch
from common import cpu, small_llama, word_tokenizer

TARGETS = {"ours/trl_rloo": 0.8, "ours/plain": 0.5}
ANSWER, KL = 8, 0.05


def ours(args, model, tok, data, folder):
    from preflexor_lab.methods.latro import LaTROConfig, LaTROTrainer

    parts = dict(sampling=0.0, reference=0.0)

    class Timed(LaTROTrainer):
        def sample(self, rows):
            groups, parts["sampling"] = cpu(lambda: super(Timed, self).sample(rows))
            assert all(len(r.ids) == args.new for g in groups for r in g)
            return groups

        def ask_reference(self, groups):
            found, parts["reference"] = cpu(lambda: super(Timed, self).ask_reference(groups))
            return found

    trainer = Timed(
        copy.deepcopy(model),
        LaTROConfig(**common.settings(args, folder), rloo_k=args.samples, response_length=args.new, kl_coef=KL),
        data,
        tok,
    )
    total = common.second_half(trainer)
    return dict(total=total, **parts, update=total - sum(parts.values()), shared=trainer.shared)


def trl_rloo(args, model, tok, data, folder):
    return common.trl_rloo(args, model, tok, [r["queries"] for r in data], folder, KL)


def plain(args, model, tok, data, folder):
    model, ref = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7)
    k, width = args.samples, args.length

    def logps(model, ids, begin):
        "log-probability of ids[:, begin:], summed."
        logits = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, begin - 1 : -1]
        return logits.float().log_softmax(-1).gather(2, ids[:, begin:, None])[..., 0].sum(1)

    def update(rows):
        start = time.process_time()
        prompts = torch.tensor([tok(r["queries"])["input_ids"] for r in rows]).repeat_interleave(k, 0)
        answers = torch.tensor([tok(r["responses"])["input_ids"] + [tok.eos_token_id] for r in rows]).repeat_interleave(
            k, 0
        )
        model.eval()
        with torch.no_grad():
            sampled = torch.cat(
                [
                    model.generate(
                        part,
                        attention_mask=torch.ones_like(part),
                        max_new_tokens=args.new,
                        do_sample=True,
                        temperature=1.0,
                        top_k=0,
                        top_p=1.0,
                        use_cache=True,
                    )
                    for part in prompts.split(args.rollout)
                ]
            )
            assert sampled.shape[1] == width + args.new
            sampling = time.process_time() - start
            whole = torch.cat([sampled, answers], 1)
            rationale, reference, answer = (
                logps(model, sampled, width),
                logps(ref, sampled, width),
                logps(model, whole, width + args.new),
            )
        reward = (answer - KL * (rationale - reference)).view(-1, k)
        advantage = (reward - (reward.sum(1, keepdim=True) - reward) / (k - 1)).view(-1)
        model.train()
        loss = -(advantage * logps(model, sampled, width) + logps(model, whole, width + args.new)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start, sampling

    update(data[: args.prompts])
    gc.collect()
    total, sampling = update(data[args.prompts :])
    return dict(total=total, sampling=sampling, update=total - sampling)


SIDES = {f.__name__: f for f in (ours, trl_rloo, plain)}


def resident(field):
    "`VmRSS` or `VmHWM` (its peak) of this process, in bytes."
    with open("/proc/self/status") as f:
        return int(re.search(rf"{field}:\s+(\d+)", f.read())[1]) * 1024


def loss_memory(variant, args):
    "Peak of one variant above what was resident before, in this process."
    from preflexor_lab.models.scoring import chunked_logps

    def step(hidden, weight, targets):
        if variant == "full":
            return (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        return chunked_logps(hidden, weight, targets)

    def inputs(tokens, vocab):
        return (
            torch.randn(tokens, 256, requires_grad=True),
            (torch.randn(vocab, 256) * 0.02).requires_grad_(),
            torch.randint(vocab, (tokens,)),
        )

    torch.manual_seed(0)
    step(*inputs(64, 64)).sum().backward()
    hidden, weight, targets = inputs(args.memory_samples * (args.new + ANSWER), args.memory_vocab)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = resident("VmRSS")
    clock = time.process_time()
    logps = step(hidden, weight, targets)
    logps.sum().backward()
    print(
        json.dumps(
            dict(
                peak_mb=round((resident("VmHWM") - before) / 2**20, 1),
                cpu_seconds=round(time.process_time() - clock, 2),
                logps_sum=logps.sum().item(),
            )
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="prompts of an update (default %(default)s)")
    parser.add_argument("--samples", type=int, default=8, help="rationales of each (default %(default)s)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt (default %(default)s)")
    parser.add_argument("--new", type=int, default=128, help="tokens of a rationale (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of each side, the best counts (default %(default)s)"
    )
    parser.add_argument(
        "--rollout", type=int, default=10**6, help="rows that the plain version generates together (default: all)"
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to time (default: all)")
    parser.add_argument("--memory", action="store_true", help="also peak memory of the loss part at a large vocabulary")
    parser.add_argument("--memory-samples", type=int, default=8, help="samples in it (default %(default)s)")
    parser.add_argument("--memory-vocab", type=int, default=128_000, help="vocabulary there (default %(default)s)")
    parser.add_argument("--variant", choices=("ours", "full"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.variant:
        return loss_memory(args.variant, args)
    model, tok = small_llama(), word_tokenizer()
    data = [
        dict(queries=q, responses=r)
        for q, r in zip(
            common.texts(tok, 2 * args.prompts, args.length), common.texts(tok, 2 * args.prompts, ANSWER - 1)
        )
    ]
    best = common.take_turns({name: SIDES[name] for name in args.sides}, args.rounds, args, model, tok, data)
    ratios = {
        pair: round(best["ours"]["total"] / best[pair.split("/")[1]]["total"], 3)
        for pair in TARGETS
        if "ours" in best and pair.split("/")[1] in best
    }
    met = {pair: ratio <= TARGETS[pair] for pair, ratio in ratios.items()}
    line = dict(
        benchmark="latro",
        parameters=sum(p.numel() for p in model.parameters()),
        prompts=args.prompts,
        samples=args.samples,
        prompt_tokens=args.length,
        rationale_tokens=args.new,
        answer_tokens=ANSWER,
        threads=torch.get_num_threads(),
        rounds=args.rounds,
        **common.seconds(best),
        prompts_shared=best.get("ours", {}).get("shared"),
        ratios=ratios,
        targets=TARGETS,
        met=met,
    )
    if args.memory:
        rows = {}
        for variant in ("ours", "full"):
            run = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--variant",
                    variant,
                    "--memory-samples",
                    str(args.memory_samples),
                    "--memory-vocab",
                    str(args.memory_vocab),
                    "--new",
                    str(args.new),
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rows[variant] = json.loads(run.stdout.splitlines()[-1])
        assert abs(rows["ours"]["logps_sum"] - rows["full"]["logps_sum"]) <= 1e-4 * abs(rows["full"]["logps_sum"]), rows
        line["loss_memory"] = dict(
            vocab=args.memory_vocab,
            samples=args.memory_samples,
            **{n: {k: v for k, v in r.items() if k != "logps_sum"} for n, r in rows.items()},
            ratio=round(rows["ours"]["peak_mb"] / rows["full"]["peak_mb"], 3),
        )
    common.finish(line, met)


if __name__ == "__main__":
    main()
