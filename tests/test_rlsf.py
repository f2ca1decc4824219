"RLSF in several processes, with a tool that hangs and crashes, and with samples from a server."

import os
import signal
import time
import zlib

import pytest
from launcher import launch

WORKER = """
import os, sys
import torch, torch.distributed as dist
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.training.callbacks import make_arguments
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.methods.rlsf import RLSFConfig, RLSFTrainer
from preflexor_lab.tools.lab import Lab
from transformers import PrinterCallback
from transformers.utils import logging as hf
hf.disable_progress_bar(); hf.set_verbosity_error()
folder, samples = sys.argv[1], int(sys.argv[2])
name = str(nano_path("novice"))
tokenizer, model = load_tokenizer(name), load_model(name, dtype=torch.float64)
rows = [dict(prompt=i.prompt) for i in world.items(8, seed=5, hops=(3, 4), split="train")]
args = make_arguments(RLSFConfig, folder + "/out", rloo_k=2, per_device_train_batch_size=samples, response_length=80, learning_rate=3e-2, max_steps=4, num_ppo_epochs=2, optim="sgd", max_grad_norm=0.0,
                      vf_coef=1.0, kl_coef=0.05, lr_scheduler_type="constant", group_by_length=False, train_sampling_strategy="sequential", share_prompts=False, logging_steps=1, average_tokens_across_devices=True)
trainer = RLSFTrainer(model, args, rows, tokenizer, Lab(lines=True))
trainer.remove_callback(PrinterCallback)
sampled, sample = [], trainer.sample
def watched(rows):
    groups = sample(rows)
    sampled.append([r.ids for g in groups for r in g])
    return groups
trainer.sample = watched
trainer.train()
world_size = trainer.accelerator.num_processes
if world_size > 1:
    everyone = [None]*world_size
    dist.all_gather_object(everyone, sampled)
    sampled = [sum(parts, []) for parts in zip(*everyone)]
if trainer.accelerator.is_main_process:
    torch.save(dict(weights=trainer.accelerator.unwrap_model(trainer.model).state_dict(), head=trainer.value_head.state_dict(), world=world_size, sampled=sampled,
                    log=[l for l in trainer.state.log_history if "policy/reward" in l]), folder + "/result.pt")
if dist.is_initialized():
    dist.barrier(); dist.destroy_process_group()
os._exit(0)
"""


def test_two_processes_update_as_one(tmp_path):
    """Four updates on two batches: two processes with two prompts each take the steps of one with four, on the same samples, to a relative 1e-5 of the update, value head included.

    In float64: over several clipped updates float32's rounding grows to more than that, whoever adds up.
    """
    import torch

    from preflexor_lab.models.loading import load_model, nano_path

    one, two = launch(WORKER, tmp_path / "one", 1, 8), launch(WORKER, tmp_path / "two", 2, 4)
    assert (one["world"], two["world"]) == (1, 2)
    assert len(one["sampled"]) == 2 and one["sampled"] == two["sampled"]
    start = load_model(str(nano_path("novice")), dtype=torch.float64).state_dict()
    moved = lambda run: torch.cat([(run["weights"][k] - start[k]).flatten() for k in start])
    head = lambda run: torch.cat([v.flatten() for v in run["head"].values()])  # it begins at zero
    for update in (moved, head):
        assert update(one).norm() > 0
        assert (update(one) - update(two)).norm() / update(one).norm() < 1e-5
    assert len(one["log"]) == len(two["log"]) == 4
    for a, b in zip(one["log"], two["log"]):
        for key in (
            "loss",
            "policy/reward",
            "policy/score",
            "policy/passed",
            "policy/length",
            "policy/kl",
            "policy/ratio",
            "policy/moved",
            "policy/value_loss",
        ):
            assert a[key] == pytest.approx(b[key], abs=1e-4), key


class Moody:
    "The lab's tool on a bad day: by the response's checksum it never returns, crashes its process, raises, or judges."

    moods = ("hangs", "crashes", "raises", "judges", "judges", "judges")

    def mood(self, response):
        return self.moods[zlib.crc32(response.encode()) % len(self.moods)]

    def __call__(self, prompt, response, item=None):
        from preflexor_lab.tools.lab import Lab

        mood = self.mood(response)
        if mood == "hangs":
            time.sleep(600)
        if mood == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if mood == "raises":
            raise RuntimeError("bad day")
        return Lab(lines=True)(prompt, response, item)


def lab(folder, tool, engine=None, **options):
    "A trainer of two batches of eight samples, two updates on each; `rolled` keeps the samples, `pieces` what was trained on."
    import torch

    from preflexor_lab.methods.rlsf import RLSFConfig, RLSFTrainer
    from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
    from preflexor_lab.tasks import materials_lab as world
    from preflexor_lab.training.callbacks import make_arguments

    name, items = str(nano_path("novice")), world.items(16, seed=5, hops=(3, 4), split="train")
    args = make_arguments(
        RLSFConfig,
        folder,
        **dict(
            dict(
                per_device_train_batch_size=8,
                response_length=80,
                learning_rate=1e-3,
                max_steps=4,
                num_ppo_epochs=2,
                optim="sgd",
                logging_steps=1,
            ),
            **options,
        ),
    )
    model = load_model(name, dtype=torch.float32)
    trainer = RLSFTrainer(
        model,
        args,
        [dict(prompt=i.prompt) for i in items],
        load_tokenizer(name),
        tool,
        engine=engine(model) if engine else None,
    )
    trainer.rolled, trainer.pieces = [], []
    sample, compute_advantages = trainer.sample, trainer.compute_advantages

    def watch_samples(rows):
        groups = sample(rows)
        trainer.rolled.append([r for g in groups for r in g])
        return groups

    def watch_pieces(batches):
        trainer.pieces.append(compute_advantages(batches))
        return trainer.pieces[-1]

    trainer.sample, trainer.compute_advantages = watch_samples, watch_pieces
    return trainer


def test_a_tool_that_hangs_and_crashes(tmp_path):
    "In limited workers it costs its samples and nothing else: they are left out, counted, and training goes on."
    import torch

    from preflexor_lab.models.loading import weights_hash
    from preflexor_lab.tools.sandbox import Limited, Limits

    with Limited(Moody(), Limits(seconds=1), workers=2) as tool:
        trainer = lab(tmp_path, tool)
        before = weights_hash(trainer.model)
        trainer.train()
    assert trainer.state.global_step == 4 and len(trainer.rolled) == 2
    assert weights_hash(trainer.model) != before and all(p.isfinite().all() for p in trainer.model.parameters())
    said = dict(hangs="over the time limit of 1 s", crashes="killed by SIGSEGV", raises="RuntimeError: bad day")
    seen = [Moody().mood(r.completion.text) for batch in trainer.rolled for r in batch]
    assert set(seen) == set(Moody.moods), "the samples must meet every mood"
    for batch, (piece,) in zip(trainer.rolled, trainer.pieces):
        for j, r in enumerate(batch):
            mood = Moody().mood(r.completion.text)
            assert said[mood] in r.error if mood in said else r.error == ""
            assert bool(piece["failed"][j]) == (mood in said)
            assert int(piece["live"][j].sum()) == (0 if mood in said else len(r.ids))
            assert bool(piece["advantages"][j].abs().sum() > 0) == (mood not in said)
    failed = [sum(bool(r.error) for r in batch) / len(batch) for batch in trainer.rolled for _ in range(2)]
    log = [l for l in trainer.state.log_history if "policy/failed_scores" in l]
    assert [l["policy/failed_scores"] for l in log] == pytest.approx(failed)
    scores = [
        torch.tensor([r.score for r in batch if not r.error]).mean().item()
        for batch in trainer.rolled
        for _ in range(2)
    ]
    assert [l["policy/score"] for l in log] == pytest.approx(scores, abs=1e-5)  # of the others alone


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_samples_and_old_log_probabilities_from_a_server(tmp_path, noise):
    "A server that tells log-probabilities trains two batches; the ratio is to what it said: 1 in a batch's first update if it has the weights that are trained, else not."
    import torch
    from test_policy_server import NAME, Server, weights

    from preflexor_lab.models.endpoint import EndpointEngine
    from preflexor_lab.models.loading import load_tokenizer, weights_hash
    from preflexor_lab.tools.lab import Lab

    servers = []

    def engine(model):
        servers.append(Server(weights(noise) if noise else model, load_tokenizer(NAME)).__enter__())
        return EndpointEngine(
            servers[0].url, "novice", api="completions", logprobs=True, extra=dict(return_token_ids=True), max_retries=0
        )

    try:
        trainer = lab(tmp_path, Lab(lines=True), engine)
        before = weights_hash(trainer.model)
        trainer.train()
    finally:
        servers[0].__exit__()
    assert trainer.state.global_step == 4 and len(servers[0].seen) == 16 and weights_hash(trainer.model) != before
    for batch, (piece,) in zip(trainer.rolled, trainer.pieces, strict=True):
        assert not piece["failed"].any() and not piece["own"][piece["live"] == 1].any()
        for j, r in enumerate(batch):
            assert torch.equal(piece["old"][j, 1 : 1 + len(r.ids)], torch.tensor(r.completion.logps))
    ratios = [l["policy/ratio"] for l in trainer.state.log_history if "policy/ratio" in l]
    moved = [l["policy/moved"] for l in trainer.state.log_history if "policy/ratio" in l]
    assert len(ratios) == 4
    for first in (0, 2):
        if noise:
            assert moved[first] > 1e-3
        else:
            assert ratios[first] == pytest.approx(1, abs=1e-4) and moved[first] < 1e-6 < moved[first + 1]
