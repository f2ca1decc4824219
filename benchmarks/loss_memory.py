"""Memory and CPU time of the preference loss alone at a large vocabulary: ours, TRL's ORPO path and TRL's fused DPO
head.

From hidden states and a trained head to log-probabilities of the labels, forward and backward. Every variant runs in
its own process, which reports how far its resident memory rose above what it held before (hidden states, head, inputs),
and its CPU seconds. Prints one JSON line; exits 1 when a target (memory at most 0.35 of TRL's ORPO path, at most 1.0 of
its fused head) is missed.
"""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import time

TARGETS = {"ours/trl_orpo": 0.35, "ours/trl_fused_dpo": 1.0}


def ours(hidden, weight, labels):
    from preflexor_lab.models.scoring import chunked_logps

    counts = labels[:, 1:] != -100
    x = chunked_logps(hidden[:, :-1][counts], weight, labels[:, 1:][counts])
    return hidden.new_zeros(counts.shape).masked_scatter(counts, x).sum(1)


def trl_orpo(hidden, weight, labels):
    "Full logits, the NLL of the chosen half and the log-probabilities, as `ORPOTrainer.concatenated_forward` does."
    import torch
    from trl.experimental.orpo import ORPOTrainer

    logits = hidden @ weight.t()
    half = len(labels) // 2
    nll = torch.nn.CrossEntropyLoss()(
        logits[:half, :-1].contiguous().view(-1, weight.shape[0]), labels[:half, 1:].contiguous().view(-1)
    )
    return ORPOTrainer.get_batch_logps(logits, labels) - nll / len(labels)


def trl_fused_dpo(hidden, weight, labels):
    "The head that `DPOTrainer` puts on its model (`add_fused_lm_head`), with the outputs it asks for."
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, _ChunkedLogProbFunction

    labels, mask = labels[:, 1:], labels[:, 1:] != -100
    x = _ChunkedLogProbFunction.apply(
        hidden[:, :-1].reshape(-1, hidden.shape[-1]),
        weight,
        None,
        labels.clamp(min=0).reshape(-1),
        1.0,
        _CHUNKED_LOGPROB_CHUNK_SIZE,
        None,
        1.0,
        ("log_probs", "entropy", "mean_logits", "is_top1"),
    )[0]
    return x.view(mask.shape).masked_fill(~mask, 0).sum(1)


VARIANTS = {f.__name__: f for f in (ours, trl_orpo, trl_fused_dpo)}


def resident(field):
    "`VmRSS` or `VmHWM` (its peak) of this process, in bytes."
    with open("/proc/self/status") as f:
        return int(re.search(rf"{field}:\s+(\d+)", f.read())[1]) * 1024


def reset_peak():
    "Give freed memory back and start the peak again from what is resident now."
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def measure(name, args):
    "One variant, in this process."
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    step = VARIANTS[name]

    def inputs(vocab, length):
        hidden = torch.randn(args.batch, length, args.hidden, requires_grad=True)
        weight = (torch.randn(vocab, args.hidden) * 0.02).requires_grad_()
        labels = torch.randint(vocab, (args.batch, length))
        labels[:, : int(args.prompt * length)] = -100
        return hidden, weight, labels

    step(*inputs(64, 8)).sum().backward()  # imports and thread pools, before anything is measured
    hidden, weight, labels = inputs(args.vocab, args.length)
    reset_peak()
    before, clock = resident("VmRSS"), time.process_time()
    logps = step(hidden, weight, labels)
    logps.sum().backward()
    seconds, peak = time.process_time() - clock, resident("VmHWM")
    print(
        json.dumps(
            {
                "peak_mb": round((peak - before) / 2**20, 1),
                "cpu_seconds": round(seconds, 2),
                "logps_sum": logps.sum().item(),
                "grad": [hidden.grad.norm().item(), weight.grad.norm().item()] if name != "trl_orpo" else None,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=128_000, help="vocabulary (default %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=4, help="sequences, chosen and rejected together (default %(default)s)"
    )
    parser.add_argument("--length", type=int, default=512, help="tokens in each (default %(default)s)")
    parser.add_argument("--hidden", type=int, default=256, help="width of the model (default %(default)s)")
    parser.add_argument(
        "--prompt",
        type=float,
        default=0.0,
        help="fraction of each sequence that does not count; ours gains from it (default %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default %(default)s)")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise SystemExit("loss_memory.py reads peak memory from /proc: run it on Linux")
    if args.variant:
        return measure(args.variant, args)
    env = dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(args.threads))
    rows = {}
    for name in VARIANTS:
        run = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--variant", name],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows[name] = json.loads(run.stdout.splitlines()[-1])
    mine, fused = rows["ours"], rows["trl_fused_dpo"]
    close = lambda a, b: abs(a - b) <= 1e-4 * abs(b)
    assert close(mine["logps_sum"], fused["logps_sum"]) and all(map(close, mine["grad"], fused["grad"])), (
        rows
    )  # the same numbers were computed
    ratios = {
        f"ours/{k}": {
            "memory": round(mine["peak_mb"] / r["peak_mb"], 3),
            "cpu": round(mine["cpu_seconds"] / r["cpu_seconds"], 3),
        }
        for k, r in rows.items()
        if k != "ours"
    }
    met = {k: ratios[k]["memory"] <= v for k, v in TARGETS.items()}
    print(
        json.dumps(
            {
                "benchmark": "loss_memory",
                "vocab": args.vocab,
                "batch": args.batch,
                "length": args.length,
                "hidden": args.hidden,
                "prompt": args.prompt,
                "threads": args.threads,
                **{k: {"peak_mb": r["peak_mb"], "cpu_seconds": r["cpu_seconds"]} for k, r in rows.items()},
                "ratios": ratios,
                "memory_targets": TARGETS,
                "met": met,
            }
        )
    )
    raise SystemExit(0 if all(met.values()) else 1)


if __name__ == "__main__":
    main()
