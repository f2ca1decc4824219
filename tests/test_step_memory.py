"A step that would not fit is computed in parts, or with activation checkpointing, and learns the same."

import copy
import logging
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "nbs" / "08_training"))
import toys

from preflexor_lab.models.adapters import add_lora
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.memory import step_memory
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer
from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

TOK = toys.toy_tokenizer()
PAIRS = toys.uneven_pairs()[:8]
TEXTS = [{"prompt": p["prompt"], "completion": p["chosen"]} for p in PAIRS]
COMMON = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 8,
    "max_steps": 2,
    "logging_steps": 1,
}


def made(kind, folder, **more):
    "A trainer of a kind on a fresh model, with an adapter for the last two."
    options = {**COMMON, "output_dir": str(folder), **more}
    model = toys.toy_model(TOK, initializer_range=0.05)
    if kind == "sft":
        return SFTTrainer(model, SFTConfig(**options), TEXTS, processing_class=TOK)
    if kind.startswith("orpo"):
        config = ORPOConfig(**options, share_prompts=kind == "orpo_shared", beta=0.1)
        return ORPOTrainer(model, config, PAIRS, processing_class=TOK)
    if kind == "exo_lora":
        config = DPOConfig(**options, loss_type="exo_pair", label_smoothing=5e-3, beta=0.1)
        torch.manual_seed(0)
        return DPOTrainer(add_lora(model, r=2), config, PAIRS, processing_class=TOK)
    options |= {"rloo_k": 2, "response_length": 6, "kl_coef": 0.05}
    return PolicyTrainer(
        model, PolicyConfig(**options), TEXTS, processing_class=TOK, tool=lambda p, r, row: len(r) % 7 / 7
    )


KINDS = ("sft", "orpo", "orpo_shared", "exo_lora", "rloo")


def limit_for(kind, folder, share):
    "GB that this share of the units of the largest micro-batch takes."
    trainer = made(kind, folder)
    trainer.create_optimizer()
    shapes, units = trainer.largest()
    memory = step_memory(trainer.model, trainer.optimizer)
    return memory([(n * share, t) for n, t in shapes]) * 1.001 / 1e9


def trained(kind, folder, **more):
    "Weights, logged losses and the number of forward-and-backward passes of two steps."
    trainer = made(kind, folder, **more)
    passes, original = [], trainer.compute_loss

    def counted(model, inputs, *args, **kw):
        passes.append(trainer.units(inputs))
        return original(model, inputs, *args, **kw)

    trainer.compute_loss = counted
    trainer.train()
    losses = [{k: v for k, v in line.items() if k in WATCHED} for line in trainer.state.log_history]
    return toys.weights(trainer), losses, passes, trainer


WATCHED = ("loss", "rewards/margins", "rewards/accuracies", "policy/score", "policy/kl", "grad_norm")


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_parts_is_the_same_step(kind, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "preflexor_lab"):
        whole, losses, passes, trainer = trained(kind, tmp_path)
        assert "a training step" not in caplog.text  # there is room
        assert trainer.room is not None and not trainer.room.checkpointed
        units = 4 if kind == "rloo" else 8
        assert passes == [units, units]
        limit = limit_for(kind, tmp_path, 0.25)
        cut, cut_losses, cut_passes, _ = trained(kind, tmp_path, step_memory=limit)
    assert max(cut_passes) == units // 4 and sum(cut_passes) == sum(passes)
    assert torch.allclose(cut, whole, rtol=0, atol=1e-6)
    for a, b in zip(losses, cut_losses, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    told = [r.getMessage() for r in caplog.records if "a training step" in r.getMessage()]
    assert len(told) == 1 and told[0].endswith("it is computed in 4 parts")


@pytest.mark.parametrize("kind", KINDS)
def test_where_one_unit_does_not_fit_activations_are_computed_again(kind, tmp_path, caplog):
    "With 2 layers little is saved, so the limit stands between the two needs of one unit."
    probe = made(kind, tmp_path)
    probe.create_optimizer()
    shapes, units = probe.largest()
    one, memory = [(n / units, t) for n, t in shapes], step_memory(probe.model, probe.optimizer)
    between = (memory(one) + memory(one, checkpointed=True)) / 2e9
    whole, losses, _, _ = trained(kind, tmp_path)
    with caplog.at_level(logging.WARNING, "preflexor_lab"):
        cut, _, passes, trainer = trained(kind, tmp_path, step_memory=between)
    assert max(passes) == 1 and trainer.room.checkpointed
    assert any(getattr(m, "gradient_checkpointing", False) for m in trainer.model.modules())
    assert torch.allclose(cut, whole, rtol=0, atol=1e-6)
    told = [r.getMessage() for r in caplog.records if "a training step" in r.getMessage()]
    assert len(told) == 1 and "with activation checkpointing and in" in told[0]


def test_gradients_of_parts_add_up(tmp_path):
    "One backward pass over eight uneven pairs against eight over one pair each."
    trainer = made("orpo_shared", tmp_path)
    batch = trainer.collate([trainer.train_dataset[i] for i in range(8)])
    totals, found = batch["weights"], []
    for size in (8, 1):
        trainer.model.zero_grad()
        parts = [trainer.part(batch, at, at + size) for at in range(0, 8, size)]
        losses = [trainer.compute_loss(trainer.model, part, num_items_in_batch=totals) for part in parts]
        sum(losses).backward()
        found.append((sum(losses).item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1].abs().max() > 1e-3
    assert torch.allclose(found[0][1], found[1][1], rtol=0, atol=1e-6)


def test_a_step_beyond_half_of_what_is_free_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "preflexor_lab"):
        _, _, passes, _ = trained("sft", tmp_path, step_memory=1.2 * limit_for("sft", tmp_path, 1))
        (line,) = [r.getMessage() for r in caplog.records if "a training step" in r.getMessage()]
        assert line.endswith("are free") and passes == [8, 8]  # told, and nothing is cut
        caplog.clear()
        trained("sft", tmp_path, step_memory=2.2 * limit_for("sft", tmp_path, 1))
    assert "a training step" not in caplog.text


def test_what_cannot_be_measured_trains_as_it_is(tmp_path, caplog):
    trainer = made("sft", tmp_path)
    body = trainer.model.base_model
    own = copy.copy(body.forward)

    def picky(*args, use_cache=None, **kw):
        if "attention_mask" not in kw:
            raise ValueError("a mask is needed")
        return own(*args, use_cache=use_cache, **kw)

    body.forward = picky
    with caplog.at_level(logging.INFO, "preflexor_lab"):
        trainer.train()
    assert trainer.room is None and trainer.state.global_step == 2
    assert "cannot be measured (a mask is needed)" in caplog.text


@pytest.mark.parametrize("value", [0, -1.5])
def test_a_limit_has_to_be_above_zero(value, tmp_path):
    with pytest.raises(ValueError, match="step_memory must be above 0"):
        made("sft", tmp_path, step_memory=value)
