"""What a length limit cuts is said, once a trainer: the end of a text, its system prompt, or all of a row."""

import logging

import pytest
import torch

from preflexor_lab.methods.spin import SPINConfig, SPINTrainer
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.scoring import score_texts
from preflexor_lab.text.chat import encode
from preflexor_lab.text.masks import MaskPolicy
from preflexor_lab.training.callbacks import make_arguments
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer
from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

torch.set_num_threads(1)
SYSTEM = {"role": "system", "content": "answer in one word"}


@pytest.fixture(scope="module")
def tok():
    tokenizer = load_tokenizer(nano_path("novice"))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer


@pytest.fixture
def model():
    return load_model(nano_path("novice"))


def rows(tok):
    "Four rows: one fits 40 tokens, one loses its end, one the beginning of its system prompt, one is all prompt."
    long, short = "why is bone tough ? " * 10, "why ?"
    texts = [(short, "x"), (short, "why not ? " * 20), (long, "x"), ("so " * 30 + long, "x")]
    chats = [[SYSTEM, {"role": "user", "content": q}] for q, _ in texts]
    return [dict(prompt=p, completion=a, chosen=a, rejected="y") for p, (_, a) in zip(chats, texts)]


def lengths(tok, rows):
    return [(len(h), len(t)) for h, t in encode(tok, [r["prompt"] for r in rows], [r["completion"] for r in rows])]


def trained(kind, model, tok, data, folder, **limits):
    cls, config = {
        "sft": (SFTTrainer, SFTConfig),
        "orpo": (ORPOTrainer, ORPOConfig),
        "dpo": (DPOTrainer, DPOConfig),
    }[kind]
    options = dict(loss_type=["exo_pair"], label_smoothing=0.1) if kind == "dpo" else {}
    return cls(model, make_arguments(config, folder, **options, **limits), data, data[:2], processing_class=tok)


@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo"])
def test_every_trainer_counts_what_it_cuts_in_one_line(kind, model, tok, tmp_path, caplog):
    data = rows(tok)
    sizes = lengths(tok, data)
    limit = sizes[0][0] + sizes[0][1] + 2
    with caplog.at_level(logging.WARNING, logger="preflexor_lab"):
        trained(kind, model, tok, data, tmp_path / "a", max_length=limit)
        trained(kind, model, tok, data, tmp_path / "b", max_length=limit, max_prompt_length=sizes[0][0])
        trained(kind, model, tok, data, tmp_path / "c", max_length=None)
    said = [r.getMessage() for r in caplog.records if "rows are longer" in r.getMessage()]
    # six rows: four to train on, and the first two again to evaluate on
    assert said == [
        f"4 of 6 rows are longer than max_length={limit}: 2 lose their end,"
        " 2 are left out, as their prompt alone fills it; raise max_length",
        f"4 of 6 rows are longer than max_length={limit} or max_prompt_length={sizes[0][0]}: 2 lose their end,"
        " 2 lose their system prompt; raise max_length or max_prompt_length",
    ]


def test_the_rejected_side_counts_as_well(model, tok, tmp_path, caplog):
    pair = dict(prompt="why ?", chosen="x", rejected="why not ? " * 20)
    with caplog.at_level(logging.WARNING, logger="preflexor_lab"):
        trained("orpo", model, tok, [pair] * 3, tmp_path, max_length=12)
    assert "5 of 5 rows are longer than max_length=12: 5 lose their end; raise max_length" in caplog.text


def test_inserted_thinking_counts_as_well(model, tok, tmp_path, caplog):
    policy = MaskPolicy(use_thinking_after_every_token=True, n_think=4)
    row = dict(prompt="why ?", completion="x")
    ((head, tail),) = encode(tok, ["why ?"], ["x"])
    whole = len(head) + len(tail) * 7
    with caplog.at_level(logging.WARNING, logger="preflexor_lab"):
        for limit in (whole, whole - 1):
            args = make_arguments(SFTConfig, tmp_path, max_length=limit)
            SFTTrainer(model, args, [row], processing_class=tok, policy=policy)
    assert caplog.text.count("rows are longer") == 1
    assert f"1 of 1 rows are longer than max_length={whole - 1}: 1 lose their end" in caplog.text


def test_scoring_counts_as_well(model, tok, caplog):
    data = rows(tok)
    limit = sum(lengths(tok, data)[0]) + 2
    with caplog.at_level(logging.WARNING, logger="preflexor_lab"):
        score_texts(model, tok, [r["prompt"] for r in data], [r["completion"] for r in data], max_length=limit)
    assert (
        f"3 of 4 rows are longer than max_length={limit}: 1 lose their end, 3 lose their system prompt" in caplog.text
    )


def test_demonstrations_of_self_play_are_never_cut(model, tok, tmp_path, caplog):
    args = make_arguments(SPINConfig, tmp_path, max_length=40)
    data = [dict(prompt="why ?", completion="x"), dict(prompt="why ?", completion="why not ? " * 20)]
    with caplog.at_level(logging.WARNING, logger="preflexor_lab"):
        trainer = SPINTrainer(model, args, data, processing_class=tok)
    assert trainer.data[1] == ["x"] and "1 of 2 demonstrations are left out" in caplog.text


def test_prompts_of_a_policy_are_refused_and_not_cut(model, tok, tmp_path):
    args = make_arguments(PolicyConfig, tmp_path, rloo_k=2, response_length=400)
    with pytest.raises(ValueError, match="shorten one of them"):
        PolicyTrainer(model, args, [dict(prompt="why is bone tough ? " * 30)], tok, tool=lambda *_: 1.0)


def test_the_pad_of_inserted_thinking_moves_the_answer(model, tok, tmp_path):
    "Pads between the markers are read: another pad is another probability of what follows."
    policy = MaskPolicy(use_thinking_after_every_token=True, n_think=3, include_thinking_token_in_labels=False)
    row, found = dict(prompt="why ?", completion="because of bone"), []
    for pad in ("<|pad|>", " 4"):
        args = make_arguments(SFTConfig, tmp_path, max_length=None)
        trainer = SFTTrainer(model, args, [row], processing_class=tok, policy=policy)
        trainer.pad_id = tok.encode(pad, add_special_tokens=False)[0]
        batch = trainer.collate([trainer.tokenize([row])[0]])
        with torch.no_grad():
            found.append(trainer.logps(model.eval(), batch)[batch["labels"] != -100])
    assert len(found[0]) == len(found[1]) > 2
    assert found[0][0].item() == pytest.approx(found[1][0].item(), abs=1e-5)  # before the first block
    assert (found[0] - found[1])[1:].abs().min() > 1e-4
