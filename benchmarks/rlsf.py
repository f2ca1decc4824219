"""CPU seconds of one PPO batch of RLSF (2405.16661), sampling one query at a time, and TRL's RLOO trainer. Prints one
JSON line.

    python benchmarks/rlsf.py [--prompts 16] [--samples 2] [--new 192] [--epochs 4] [--rounds 2]

A batch is: sample 32 responses of `--new` tokens, judge them, ask the reference model (kl_coef 0.05) and the old
policy, then `--epochs` updates on the same samples: forward, backward, AdamW. All sides start from the same Llama of
5.6M random parameters (vocabulary 4096), in one process on one thread, take turns, and are timed in CPU time
(`time.process_time`); the first batch of each turn is the warm-up, the second counts, and of the turns the best.

* ours: `RLSFTrainer` with token feedback and a value head. One engine call samples all rows. The tool costs nothing: a
constant certificate of three spans;
  finding the sampled tokens that they touch does cost, and is counted with the sampling; `feedback` is laying their
  values out.
* one_query: the published way. `model.generate` with its cache on one query after another, then whole rows of all
samples, full logits and
  log_softmax: without gradient the old log-probabilities and values and the reference's, then the updates with gradient
  (clipped surrogate, clipped value). Rewards at the tokens cost it nothing: they are the same three places in every
  row. Its warm-up is one query and one update on it.
* trl_rloo: `RLOOTrainer` with num_iterations = `--epochs` on the same prompts, beta 0.05, and a reward that costs
nothing. The same sampling, the same
  forward and backward passes; it has no values and its reward is one number a sample. It takes at least two samples of
  each prompt, so all sides do.

Every sample has `--new` tokens (see `benchmarks/common`); their number is checked.

`ratios` are CPU seconds of ours over theirs, for the batch and for sampling alone. Exits 1 when sampling is less than 5
times as fast as one query at a time (ratio above 0.2).
"""

import argparse
import copy
import gc
import time

import common
import torch
from common import cpu, small_llama, word_tokenizer

TARGETS = {"sampling: ours/one_query": 0.2}
KL, CLIP, LAMBDA, VALUE = 0.05, 0.2, 0.95, 0.1
PLACES = (3, 40, 90)  # words that the constant certificate marks


def constant(prompt, response, item=None):
    "A certificate that costs next to nothing: three words, two of them wrong."
    from preflexor_lab.text.records import Certificate, Span

    starts = (20, 200, 500)
    return Certificate(0.5, False, tuple(Span(s, s + 6, v) for s, v in zip(starts, (1.0, -1.0, -1.0))))


def ours(args, model, tok, prompts, folder):
    from preflexor_lab.methods.rlsf import RLSFConfig, RLSFTrainer

    parts, sampled = dict(sampling=0.0, feedback=0.0, old_and_reference=0.0), []

    class Timed(RLSFTrainer):
        def sample(self, rows):
            groups, parts["sampling"] = cpu(lambda: super(Timed, self).sample(rows))
            assert all(len(r.ids) == args.new for g in groups for r in g)
            sampled.append(self.state.global_step)
            return groups

        def prepare(self, groups):
            found, parts["feedback"] = cpu(lambda: super(Timed, self).prepare(groups))
            assert int((found["feedback"] != 0).sum()) >= 3 * len(found["ids"])
            return found

        def compute_advantages(self, batches):
            found, parts["old_and_reference"] = cpu(lambda: super(Timed, self).compute_advantages(batches))
            return found

    config = RLSFConfig(
        **common.settings(args, folder, args.epochs),
        rloo_k=args.samples,
        response_length=args.new,
        kl_coef=KL,
        num_ppo_epochs=args.epochs,
        cliprange=CLIP,
        lam=LAMBDA,
        vf_coef=VALUE,
    )
    trainer = Timed(copy.deepcopy(model), config, [dict(prompt=p) for p in prompts], tok, constant)
    total = common.second_half(trainer, args.epochs)
    assert sampled == [0, args.epochs], sampled
    return dict(total=total, **parts, updates=total - sum(parts.values()), shared=trainer.shared)


def one_query(args, model, tok, prompts, folder):
    model, ref = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False)
    head = torch.nn.Linear(model.config.hidden_size, 1)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=5e-7)
    width = args.length

    def read(model, ids):
        "Log-probabilities of the sampled tokens, and values of the states before them: (N, T) each."
        out = model(ids, attention_mask=torch.ones_like(ids), use_cache=False, output_hidden_states=True)
        logps = out.logits[:, width - 1 : -1].float().log_softmax(-1).gather(2, ids[:, width:, None])[..., 0]
        return logps, head(out.hidden_states[-1][:, width - 1 : -1])[..., 0]

    def batch(texts, epochs):
        start = time.process_time()
        queries = [torch.tensor([tok(t)["input_ids"]]) for t in texts for _ in range(args.samples)]
        model.eval()
        with torch.no_grad():
            rows = [
                model.generate(
                    q,
                    attention_mask=torch.ones_like(q),
                    max_new_tokens=args.new,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    use_cache=True,
                )
                for q in queries
            ]
            sampling = time.process_time() - start
            ids = torch.cat(rows)
            assert ids.shape == (len(queries), width + args.new)
            (old, values), (reference, _) = read(model, ids), read(ref, ids)
            rewards = -KL * (old - reference)
            for place, value in zip(PLACES, (1 / 3, -1 / 3, -1 / 3)):
                rewards[:, place] += value
            advantages, ahead, after = torch.zeros_like(rewards), 0.0, 0.0
            for t in reversed(range(args.new)):
                ahead = rewards[:, t] + after - values[:, t] + LAMBDA * ahead
                after, advantages[:, t] = values[:, t], ahead
            returns = advantages + values
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        model.train()
        for _ in range(epochs):
            logps, now = read(model, ids)
            ratio, held = (logps - old).exp(), values + (now - values).clamp(-CLIP, CLIP)
            policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            value = 0.5 * torch.maximum((now - returns) ** 2, (held - returns) ** 2).mean()
            (policy + VALUE * value).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.process_time() - start, sampling

    batch(prompts[:1], 1)
    gc.collect()
    total, sampling = batch(prompts[args.prompts :], args.epochs)
    return dict(total=total, sampling=sampling, updates=total - sampling)


def trl_rloo(args, model, tok, prompts, folder):
    return common.trl_rloo(args, model, tok, prompts, folder, KL, args.epochs)


SIDES = {f.__name__: f for f in (ours, one_query, trl_rloo)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a batch (default %(default)s)")
    parser.add_argument("--samples", type=int, default=2, help="responses to each (default %(default)s)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt (default %(default)s)")
    parser.add_argument("--new", type=int, default=192, help="tokens of a response (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="updates on a batch (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of each side, the best counts (default %(default)s)"
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to time (default: all)")
    args = parser.parse_args()
    if args.new <= max(PLACES) or args.samples < 2:
        parser.error(f"--new must be above {max(PLACES)} and --samples at least 2, got {args.new} and {args.samples}")
    torch.set_num_threads(1)
    model, tok = small_llama(), word_tokenizer()
    best = common.take_turns(
        {name: SIDES[name] for name in args.sides},
        args.rounds,
        args,
        model,
        tok,
        common.texts(tok, 2 * args.prompts, args.length),
    )
    ratios = {}
    for part, field in (("batch", "total"), ("sampling", "sampling")):
        ratios |= {
            f"{part}: ours/{other}": round(best["ours"][field] / best[other][field], 3)
            for other in best
            if "ours" in best and other != "ours"
        }
    met = {name: ratios[name] <= most for name, most in TARGETS.items() if name in ratios}
    common.finish(
        dict(
            benchmark="rlsf",
            parameters=sum(p.numel() for p in model.parameters()),
            prompts=args.prompts,
            samples=args.samples,
            prompt_tokens=args.length,
            response_tokens=args.new,
            epochs=args.epochs,
            threads=torch.get_num_threads(),
            rounds=args.rounds,
            **common.seconds(best),
            prompts_shared=best.get("ours", {}).get("shared"),
            ratios=ratios,
            targets=TARGETS,
            met=met,
        ),
        met,
    )


if __name__ == "__main__":
    main()
