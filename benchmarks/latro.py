"""CPU seconds of one LaTRO update (2411.04282) against TRL's RLOO trainer and against the method written plainly. Prints one JSON line.

    python benchmarks/latro.py [--prompts 4] [--samples 8] [--new 128] [--rounds 2] [--memory]

An update is: sample rationales of `--new` tokens for each prompt, ask the reference model (kl_coef 0.05), forward, backward, AdamW.
All sides start from the same Llama of 5.6M random parameters (vocabulary 4096), in one process on one thread, take turns, and are timed
in CPU time (`time.process_time`); of each turn's two updates the first is the warm-up, and the best turn counts.

* ours: `LaTROTrainer`. One engine call samples all groups; rationale and answer (8 tokens) are scored in one forward pass, the prompt of a group once.
* trl_rloo: `RLOOTrainer` on the same prompts, with beta 0.05 and a reward that costs nothing. It has no answer to score, which makes
  its work smaller than ours (128 instead of 136 tokens behind each prompt), and no stop strings to look for; before the
  update it scores the samples once more, as the old policy, which LaTRO has no need of. It pads and reads whole rows, prompt included.
* plain: the steps of the published method one after another. `model.generate` with its cache on each prompt repeated (all rows in
  one call unless `--rollout` says less), then whole rows, full logits and log_softmax: without gradient log π(z|x), log π₀(z|x) and
  log π(y|x⊕z), with gradient log π(z|x) and log π(y|x⊕z); the gradient is not clipped.

Every sample has `--new` tokens: the rows of the two special tokens in the (tied) embedding are built such that their logits lie more
than 20 nats below those of all words, so that the end of sequence is never drawn although every side watches for it; the number of sampled
tokens is checked. Rationales end at LaTRO's default stop string, which no word contains.

`--memory`: peak memory of the loss part of one update (hidden states → log-probabilities of samples and answers, forward and backward)
at a 128k vocabulary, ours against full logits in one pass; each in its own process, with `--memory-samples` samples. Linux only.

Exits 1 when a target (CPU seconds at most 0.8 of TRL's, at most 0.5 of the plain version) is missed.
"""
import argparse, copy, gc, json, os, re, subprocess, sys, tempfile, time, warnings

os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
warnings.filterwarnings("ignore")

import torch

TARGETS = {"ours/trl_rloo": .8, "ours/plain": .5}
VOCAB, ANSWER, KL = 4096, 8, .05


def word_tokenizer():
    "Words 'w2' ... 'w4095' with those ids, after the end of sequence and the pad."
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    words = {w: i for i, w in enumerate(["<eos>", "<pad>"] + [f"w{i}" for i in range(2, VOCAB)])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<pad>", padding_side="left", model_input_names=["input_ids", "attention_mask"])


def small_llama():
    "A Llama with 5.6M random parameters that never ends a sequence: the first channel of the residual stream tells words from special tokens."
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=256, intermediate_size=640, num_hidden_layers=6, num_attention_heads=8, max_position_embeddings=512,
                                         tie_word_embeddings=True, eos_token_id=0, bos_token_id=None, pad_token_id=1, initializer_range=.05))
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[:, 0] = 1.0
        table[:2, 0] = -1.0
        for layer in model.model.layers: layer.self_attn.o_proj.weight[0], layer.mlp.down_proj.weight[0] = 0, 0
        model.model.norm.weight[0] = 100.0
        logits = model(torch.randint(2, VOCAB, (2, 64))).logits
        assert float((logits[..., 2:].amin(-1)-logits[..., :2].amax(-1)).min()) > 20, "the end of sequence could be drawn"
    return model.eval()


def cpu(call):
    "Result of a call and the CPU seconds it took."
    gc.collect()
    start = time.process_time()
    result = call()
    return result, time.process_time()-start


def settings(args, folder):
    return dict(output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1000, max_steps=2,
                per_device_train_batch_size=args.prompts*args.samples, gradient_accumulation_steps=1, learning_rate=5e-7, temperature=1.0)


def second_update(trainer, args):
    "CPU seconds of the second of two updates, from the end of the first."
    from transformers import PrinterCallback, TrainerCallback
    ends = []
    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__): ends.append(time.process_time())
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    gc.collect()
    trainer.train()
    assert len(ends) == 2
    return ends[1]-ends[0]


def ours(args, model, tok, data, folder):
    from preflexor_lab.latro import LaTROConfig, LaTROTrainer
    parts = dict(sampling=0.0, reference=0.0)
    class Timed(LaTROTrainer):
        def sample(self, rows):
            groups, parts["sampling"] = cpu(lambda: super(Timed, self).sample(rows))
            assert all(len(r.ids) == args.new for g in groups for r in g)
            return groups
        def ask_reference(self, groups):
            found, parts["reference"] = cpu(lambda: super(Timed, self).ask_reference(groups))
            return found
    trainer = Timed(copy.deepcopy(model), LaTROConfig(**settings(args, folder), rloo_k=args.samples, response_length=args.new, kl_coef=KL), data, tok)
    total = second_update(trainer, args)
    return dict(total=total, **parts, update=total-sum(parts.values()), shared=trainer.shared)


def trl_rloo(args, model, tok, data, folder):
    from datasets import Dataset
    from transformers import LlamaForCausalLM
    from trl import RLOOConfig, RLOOTrainer
    def distinct(completion_ids, **_):
        assert all(len(ids) == args.new for ids in completion_ids)
        return [float(len(set(ids))) for ids in completion_ids]
    parts = dict(sampling=0.0)
    class Timed(RLOOTrainer):
        def _generate(self, *a, **kw):
            found, parts["sampling"] = cpu(lambda: super(Timed, self)._generate(*a, **kw))
            return found
    home = os.path.join(folder, "model")
    if not os.path.exists(home): model.save_pretrained(home), tok.save_pretrained(home)
    config = RLOOConfig(**settings(args, folder), num_generations=args.samples, max_completion_length=args.new, beta=KL, num_iterations=1, steps_per_generation=1)
    trainer = Timed(LlamaForCausalLM.from_pretrained(home), distinct, config, train_dataset=Dataset.from_list([dict(prompt=r["queries"]) for r in data]), processing_class=tok)
    assert trainer.ref_model is not None
    total = second_update(trainer, args)
    return dict(total=total, **parts, update=total-parts["sampling"])


def plain(args, model, tok, data, folder):
    model, ref = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7)
    k, width = args.samples, args.length

    def logps(model, ids, begin):
        "log-probability of ids[:, begin:], summed."
        logits = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, begin-1:-1]
        return logits.float().log_softmax(-1).gather(2, ids[:, begin:, None])[..., 0].sum(1)

    def update(rows):
        start = time.process_time()
        prompts = torch.tensor([tok(r["queries"])["input_ids"] for r in rows]).repeat_interleave(k, 0)
        answers = torch.tensor([tok(r["responses"])["input_ids"]+[tok.eos_token_id] for r in rows]).repeat_interleave(k, 0)
        model.eval()
        with torch.no_grad():
            sampled = torch.cat([model.generate(part, attention_mask=torch.ones_like(part), max_new_tokens=args.new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True)
                                 for part in prompts.split(args.rollout)])
            assert sampled.shape[1] == width+args.new
            sampling = time.process_time()-start
            whole = torch.cat([sampled, answers], 1)
            rationale, reference, answer = logps(model, sampled, width), logps(ref, sampled, width), logps(model, whole, width+args.new)
        reward = (answer - KL*(rationale-reference)).view(-1, k)
        advantage = (reward - (reward.sum(1, keepdim=True)-reward)/(k-1)).view(-1)
        model.train()
        loss = -(advantage*logps(model, sampled, width) + logps(model, whole, width+args.new)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time()-start, sampling

    update(data[:args.prompts])
    gc.collect()
    total, sampling = update(data[args.prompts:])
    return dict(total=total, sampling=sampling, update=total-sampling)


SIDES = {f.__name__: f for f in (ours, trl_rloo, plain)}


def resident(field):
    "`VmRSS` or `VmHWM` (its peak) of this process, in bytes."
    with open("/proc/self/status") as f: return int(re.search(rf"{field}:\s+(\d+)", f.read())[1])*1024


def loss_memory(variant, args):
    "Peak of one variant above what was resident before, in this process."
    import ctypes
    from preflexor_lab.losses import chunked_logps
    def step(hidden, weight, targets):
        if variant == "full": return (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        return chunked_logps(hidden, weight, targets)
    def inputs(tokens, vocab):
        return torch.randn(tokens, 256, requires_grad=True), (torch.randn(vocab, 256)*.02).requires_grad_(), torch.randint(vocab, (tokens,))
    torch.manual_seed(0)
    step(*inputs(64, 64)).sum().backward()
    hidden, weight, targets = inputs(args.memory_samples*(args.new+ANSWER), args.memory_vocab)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f: f.write("5")
    before = resident("VmRSS")
    clock = time.process_time()
    logps = step(hidden, weight, targets)
    logps.sum().backward()
    print(json.dumps(dict(peak_mb=round((resident("VmHWM")-before)/2**20, 1), cpu_seconds=round(time.process_time()-clock, 2), logps_sum=logps.sum().item())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="prompts of an update (default %(default)s)")
    parser.add_argument("--samples", type=int, default=8, help="rationales of each (default %(default)s)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt (default %(default)s)")
    parser.add_argument("--new", type=int, default=128, help="tokens of a rationale (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side, the best counts (default %(default)s)")
    parser.add_argument("--rollout", type=int, default=10**6, help="rows that the plain version generates together (default: all)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to time (default: all)")
    parser.add_argument("--memory", action="store_true", help="also peak memory of the loss part at a large vocabulary")
    parser.add_argument("--memory-samples", type=int, default=8, help="samples in it (default %(default)s)")
    parser.add_argument("--memory-vocab", type=int, default=128_000, help="vocabulary there (default %(default)s)")
    parser.add_argument("--variant", choices=("ours", "full"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.variant: return loss_memory(args.variant, args)
    import datasets, transformers
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    model, tok = small_llama(), word_tokenizer()
    draw = torch.Generator().manual_seed(0)
    text = lambda n: " ".join(f"w{i}" for i in torch.randint(2, VOCAB, (n,), generator=draw).tolist())
    data = [dict(queries=text(args.length), responses=text(ANSWER-1)) for _ in range(2*args.prompts)]
    assert all(len(tok(r["queries"])["input_ids"]) == args.length for r in data)
    found = {name: [] for name in args.sides}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name in found:
                found[name].append(SIDES[name](args, model, tok, data, folder))
                print(name, {k: round(v, 2) if isinstance(v, float) else v for k, v in found[name][-1].items()}, file=sys.stderr, flush=True)
    best = {name: min(turns, key=lambda t: t["total"]) for name, turns in found.items()}
    ratios = {pair: round(best["ours"]["total"]/best[pair.split("/")[1]]["total"], 3) for pair in TARGETS if "ours" in best and pair.split("/")[1] in best}
    met = {pair: ratio <= TARGETS[pair] for pair, ratio in ratios.items()}
    line = dict(benchmark="latro", parameters=sum(p.numel() for p in model.parameters()), prompts=args.prompts, samples=args.samples, prompt_tokens=args.length, rationale_tokens=args.new,
                answer_tokens=ANSWER, threads=torch.get_num_threads(), rounds=args.rounds, cpu_seconds={n: round(b["total"], 2) for n, b in best.items()},
                parts={n: {k: round(v, 2) for k, v in b.items() if isinstance(v, float) and k != "total"} for n, b in best.items()},
                prompts_shared=best.get("ours", {}).get("shared"), ratios=ratios, targets=TARGETS, met=met)
    if args.memory:
        rows = {}
        for variant in ("ours", "full"):
            run = subprocess.run([sys.executable, __file__, "--variant", variant, "--memory-samples", str(args.memory_samples), "--memory-vocab", str(args.memory_vocab), "--new", str(args.new)],
                                 stdout=subprocess.PIPE, text=True, check=True)
            rows[variant] = json.loads(run.stdout.splitlines()[-1])
        assert abs(rows["ours"]["logps_sum"]-rows["full"]["logps_sum"]) <= 1e-4*abs(rows["full"]["logps_sum"]), rows
        line["loss_memory"] = dict(vocab=args.memory_vocab, samples=args.memory_samples, **{n: {k: v for k, v in r.items() if k != "logps_sum"} for n, r in rows.items()},
                                   ratio=round(rows["ours"]["peak_mb"]/rows["full"]["peak_mb"], 3))
    print(json.dumps(line))
    raise SystemExit(0 if all(met.values()) else 1)


if __name__ == "__main__": main()
