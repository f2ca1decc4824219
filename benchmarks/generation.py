"""Local generation against one-at-a-time generation, in tokens per CPU second; prints one JSON line.

A Llama of 5.6M random parameters, 32 prompts of 64 tokens, 128 new tokens each, greedy, no end of sequence. The
baseline is `model.generate`, one prompt a call. Both sides run in one process on one thread, and are timed in CPU time
(`time.process_time`) after a warm-up, in turns, the best of `--rounds` counting for each.

`shared_prefix` is for prompts as a teacher writes them: four passages of 400 tokens, six ends of 20 tokens each, 16 new
tokens. The batch with each passage read once is compared with the same batch, every prompt read whole.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from preflexor_lab.models.cache import roomy_cache
from preflexor_lab.models.engine import GenerationParams  # noqa: E402
from preflexor_lab.models.local import Forward, Row, decode_batch, evaluating  # noqa: E402


def small_llama():
    "A Llama with 5.6M parameters, random weights."
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=0,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).eval()


def one_at_a_time(model, prompts, new):
    "The baseline: one call of `model.generate` a prompt."
    out = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            done = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=0
            )
        out.append(done[0, len(prompt) :].tolist())
    return out


def batched(model, prompts, new):
    "Ours: the loop of LocalEngine, without its text."
    forward = Forward(model)
    rows = [Row(i, 0, prompt, i, new) for i, prompt in enumerate(prompts)]
    with evaluating(model):
        decode_batch(forward, rows, GenerationParams(max_new_tokens=new), (), roomy_cache(model.config, new))
    return [row.ids for row in rows]


def read_whole(model, prompts, new):
    "Ours, with every prompt read whole: the loop knows nothing of a function, so that it shares nothing."
    forward = Forward(model)
    rows = [Row(i, 0, prompt, i, new) for i, prompt in enumerate(prompts)]
    with evaluating(model):
        decode_batch(
            lambda *args: forward(*args), rows, GenerationParams(max_new_tokens=new), (), roomy_cache(model.config, new)
        )
    return [row.ids for row in rows]


def best_of(sides, model, prompts, new, rounds):
    "Best CPU seconds of each side, in turns after a warm-up, and what each returned."
    for side in sides.values():
        side(model, prompts[:2], 8)
    best, texts = {}, {}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds, texts[name] = cpu_seconds(lambda: side(model, prompts, new))
            best[name] = min(seconds, best.get(name, seconds))
    return best, texts


def shared_prefix(model, generator, rounds, new=16):
    "Prompts that share passages, read once and read whole."
    passages = torch.randint(1, 4096, (4, 400), generator=generator).tolist()
    ends = torch.randint(1, 4096, (6, 20), generator=generator).tolist()
    prompts = [passage + end for passage in passages for end in ends]
    best, texts = best_of({"once": batched, "whole": read_whole}, model, prompts, new, rounds)
    return {
        "prompts": len(prompts),
        "prompt_tokens": len(prompts[0]),
        "new_tokens": new,
        "cpu_seconds": {k: round(v, 3) for k, v in best.items()},
        "ratio": round(best["whole"] / best["once"], 2),
        "target": 2.0,
        "same_ids": sum(a == b for a, b in zip(texts["once"], texts["whole"])) / len(prompts),
    }


def cpu_seconds(call):
    "CPU seconds of one call, all threads, and what it returned."
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def main():
    "Run both sides in turns and print the best of each."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = small_llama()
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(1, 4096, (args.prompts, args.length), generator=generator).tolist()
    sides = {"batched": batched, "one_at_a_time": one_at_a_time}
    best, texts = best_of(sides, model, prompts, args.new, args.rounds)
    tokens = args.prompts * args.new
    rate = {name: tokens / seconds for name, seconds in best.items()}
    sharing = shared_prefix(model, generator, args.rounds)
    print(
        json.dumps(
            {
                "benchmark": "generation",
                "parameters": sum(p.numel() for p in model.parameters()),
                "prompts": args.prompts,
                "prompt_tokens": args.length,
                "new_tokens": args.new,
                "threads": torch.get_num_threads(),
                "tokens_per_cpu_second": {k: round(v, 1) for k, v in rate.items()},
                "ratio": round(rate["batched"] / rate["one_at_a_time"], 2),
                "target": 5.0,
                "same_ids": sum(a == b for a, b in zip(texts["batched"], texts["one_at_a_time"])) / args.prompts,
                "shared_prefix": sharing,
            }
        )
    )
    raise SystemExit(rate["batched"] / rate["one_at_a_time"] < 5 or sharing["ratio"] < sharing["target"])


if __name__ == "__main__":
    main()
