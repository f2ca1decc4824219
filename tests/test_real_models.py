"""Real checkpoints that nobody on this project made: `make real` runs these, on the folder PREFLEXOR_REAL_MODELS.

Skipped, with the reason, where there is none. Figures are printed (`pytest -s`).
"""

import copy
import json
import os
import re
import time
from pathlib import Path

import pytest
import torch

from preflexor_lab.models.adapters import add_lora, merge_lora
from preflexor_lab.models.loading import load_model, load_tokenizer, save_model
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.models.scoring import score_texts
from preflexor_lab.text.chat import encode, encode_prompt, turn_end
from preflexor_lab.text.markers import THINK_END, THINK_START, register_markers, split_sections
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

torch.set_num_threads(1)
QWEN, GEMMA = "qwen2.5-coder-0.5b-instruct", "gemma-3-270m"
LANGUAGE_MODELS = (QWEN, GEMMA)


@pytest.fixture(scope="module")
def real_models():
    "The folder of real models, or a skip that says why."
    folder = os.environ.get("PREFLEXOR_REAL_MODELS")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"no real models: set PREFLEXOR_REAL_MODELS to their folder (it is {folder!r})")
    return Path(folder)


def opened(folder, name):
    "Model in bfloat16 and tokenizer, or a skip."
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not in {folder}")
    return load_model(folder / name, dtype="bfloat16"), load_tokenizer(folder / name)


def asked(tokenizer, question):
    "A chat where there is a template, else plain text."
    return [{"role": "user", "content": question}] if tokenizer.chat_template else question + "\n"


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_one_tokenisation(real_models, name):
    model, tokenizer = opened(real_models, name)
    for question, reply in (("2 + 3 =", "5"), ("Why is bone tough?", " Because …\n\nof collagen.")):
        prompt = asked(tokenizer, question)
        ((head, tail),) = encode(tokenizer, [prompt], [reply])
        assert head == encode_prompt(tokenizer, prompt)
        assert head.count(tokenizer.bos_token_id) == (name == GEMMA)  # once, for the model that has one
        end = turn_end(tokenizer) if tokenizer.chat_template else tokenizer.eos_token
        assert tokenizer.decode(tail) == reply + end
        labels = torch.tensor([[-100] * len(head) + tail])
        with torch.no_grad():
            logits = model(torch.tensor([head + tail])).logits.float().log_softmax(-1)
        by_hand = logits[0, len(head) - 1 : -1].gather(1, labels[0, len(head) :, None]).sum().item()
        (scored,) = score_texts(model, tokenizer, [prompt], [reply])
        assert scored["count"] == len(tail) and scored["sum"] == pytest.approx(by_hand, rel=0.03, abs=0.3)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_an_adapter_comes_back_with_the_same_logits(real_models, name, tmp_path):
    model, tokenizer = opened(real_models, name)
    register_markers(tokenizer, model)
    adapted = add_lora(model, r=4)
    ids = torch.tensor([tokenizer.encode(f"why?{THINK_START}so{THINK_END} yes")])
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3)
    adapted(ids, labels=ids).loss.backward()
    optimizer.step()
    with torch.no_grad():
        before = adapted.eval()(ids).logits
        save_model(adapted, tokenizer, tmp_path / "adapter")
        assert torch.equal(load_model(tmp_path / "adapter", dtype="bfloat16")(ids).logits, before)


def seconds(engine, prompts, new=8):
    "CPU seconds of a few new tokens for each prompt."
    engine.generate(prompts[:2], max_new_tokens=2)
    start = time.process_time()
    engine.generate(prompts, max_new_tokens=new)
    return time.process_time() - start


def test_frozen_weights_cost_no_more(real_models):
    model, tokenizer = opened(real_models, QWEN)
    prompts = [asked(tokenizer, f"What is {i} plus {7 * i}?") for i in range(16)]
    taken = {}
    for frozen in (False, True, False, True):
        model.requires_grad_(not frozen)
        taken.setdefault(frozen, []).append(seconds(LocalEngine(model, tokenizer, weights="same"), prompts))
    ratio = min(taken[True]) / min(taken[False])
    print(f"frozen against trainable weights: {ratio:.2f}")
    assert ratio <= 1.1


def test_an_adapter_costs_little_more_than_the_merged_model(real_models):
    "LoRA of rank 16 in float32 on bfloat16 weights, with trained marker rows, 16 prompts at a time."
    model, tokenizer = opened(real_models, QWEN)
    register_markers(tokenizer, model)
    adapted = add_lora(model, tokenizer)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.01)
    merged = merge_lora(copy.deepcopy(adapted))
    prompts = [asked(tokenizer, f"What is {i} plus {7 * i}?") for i in range(16)]
    sides = {"adapter": adapted, "merged": merged}
    engines = {side: LocalEngine(m, tokenizer, weights=side) for side, m in sides.items()}
    taken = {}
    for side in ("adapter", "merged") * 3:  # in turns, as other work on the machine slows both
        taken.setdefault(side, []).append(seconds(engines[side], prompts, 32))
    ratio = min(taken["adapter"]) / min(taken["merged"])
    print(f"adapter against merged weights: {ratio:.2f}")
    assert ratio <= 1.15


def rationales(tokenizer, rows):
    "GSM8K rows with their rationale as thinking."
    out = []
    for row in rows:
        thought, answer = re.sub(r"<<.*?>>", "", row["answer"]).split("\n#### ")
        chosen = f"{THINK_START}\n{thought}\n{THINK_END}\nThe answer is {answer}."
        wrong = f"The answer is {int(re.sub('[^0-9]', '', answer) or 0) + 7}."
        out.append(dict(prompt=asked(tokenizer, row["question"]), completion=chosen, chosen=chosen, rejected=wrong))
    return out


CASES = [
    (name, method, markers, 16)
    for name in LANGUAGE_MODELS
    for method in ("sft", "orpo")
    for markers in ("token", "text")
]


@pytest.mark.parametrize("name, method, markers, rank", [*CASES, (GEMMA, "sft", "token", 0)])
def test_phase_one_installs_thinking(real_models, shared_data, name, method, markers, rank, tmp_path):
    "96 examples, with an adapter or all weights: 95 % of held-out answers open their thinking, 75 % are well formed."
    model, tokenizer = opened(real_models, name)
    model = model if rank else model.float()
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:96] + lines[1000:1032]]
    if markers == "token":
        register_markers(tokenizer, model)
    adapted = add_lora(model, r=rank) if rank else model
    epochs, rate = (1, 2e-4) if name == QWEN else (3, 5e-4)  # chosen on other questions
    rate = rate if rank else 5e-5
    options = dict(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_train_epochs=epochs,
        learning_rate=rate,
        markers=markers,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        max_length=512,
        seed=0,
    )
    config, trainer = (SFTConfig, SFTTrainer) if method == "sft" else (ORPOConfig, ORPOTrainer)
    more = {} if method == "sft" else dict(gradient_checkpointing=False, beta=0.1)
    trainer(adapted, config(**options, **more), rationales(tokenizer, rows[:96]), processing_class=tokenizer).train()
    engine = LocalEngine((merge_lora(adapted) if rank else adapted).eval(), tokenizer, weights="trained")
    prompts = [asked(tokenizer, row["question"]) for row in rows[96:]]
    answers = [c for (c,) in engine.generate(prompts, max_new_tokens=192)]
    sections = [split_sections(c.text) for c in answers]
    began = sum(c.text.lstrip().startswith(THINK_START) for c in answers) / len(answers)
    whole = sum(s.complete and bool(s.answer) and c.finish_reason == "stop" for s, c in zip(sections, answers))
    how = f"LoRA {rank}" if rank else "all weights"
    print(f"{name}, {method}, markers={markers}, {how}: {began:.0%} open, {whole / len(answers):.0%} well formed")
    assert began >= 0.95 and whole / len(answers) >= 0.75


def test_retrieval_by_meaning(real_models, shared_data, tmp_path):
    "An embedding finds a passage that shares no content word with the question; with words it is fused."
    pytest.importorskip("llama_index.embeddings.huggingface", reason="the extra preflexor_lab[embed] is not installed")
    from preflexor_lab.corpus.index import build_index

    texts = dict(car="An automobile needs fuel for its motor.", bone="Collagen and mineral make a skeleton tough.")
    for name, text in texts.items():
        (tmp_path / f"{name}.md").write_text(text)
    model = f"huggingface:{real_models / 'all-minilm-l6-v2'}"
    for hybrid in (False, True):
        index = build_index(tmp_path, embed=model, hybrid=hybrid)
        (best, *_) = index.retrieve("Why does a vehicle burn petrol?", 2)
        assert "automobile" in best.text
