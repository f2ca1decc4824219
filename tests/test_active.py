"The published training script from end to end, a killed loop, and a loop of two processes."

import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
QUIET = dict(use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)


# ---- what the published notebook imports from elsewhere -------------------------------------------------------------
class Calculator:
    "Stands where the published script has a language model behind an endpoint: `generate(messages=...) -> (text, messages)`."

    def __call__(self, messages, temperature=0.0):
        text = messages[-1]["content"]
        numbers = [w for w in text.split() if w.isdigit()]
        if text.startswith("Ask"):
            return f"What is {numbers[0]} plus {numbers[-1]} ?", messages
        return f"{int(numbers[0]) + int(numbers[1])}", messages


@pytest.fixture(scope="module")
def lab():
    "A tokenizer with chat roles and a model of a few thousand weights."
    import datasets
    import torch

    from preflexor_lab.models.loading import small_model, train_tokenizer

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    tokenizer = train_tokenizer(
        [f"What is {a} plus {b} ? Use . {a + b} is the sum" for a in range(10) for b in range(10)], 320
    )
    return types.SimpleNamespace(
        tokenizer=tokenizer,
        model=lambda seed=0: small_model(tokenizer, hidden=32, layers=2, heads=4, max_length=256, seed=seed),
    )


def dataset_functions(tokenizer, think_start, think_end):
    "`process` and `generate_dataset` as the published notebook defines them, with a calculator's prompts."
    import datasets

    from preflexor_lab.models.local import generate_local_model

    def process(row):
        row["prompt"] = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=False
        )
        row["chosen"] = tokenizer.apply_chat_template(
            [{"role": "assistant", "content": row["chosen"]}], tokenize=False, add_generation_prompt=False
        )
        row["rejected"] = tokenizer.apply_chat_template(
            [{"role": "assistant", "content": row["rejected"]}], tokenize=False, add_generation_prompt=False
        )
        return {"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"]}

    def one(generate, index, topic, number_nodes_to_get, get_rejected_from_trained_model, model, tokenizer):
        nodes = [n for n in index if n == topic] if topic else random.sample(index, number_nodes_to_get)
        question, _ = generate(messages=[{"role": "user", "content": "Ask about " + " ".join(nodes)}], temperature=0.7)
        answer, _ = generate(messages=[{"role": "user", "content": question}])
        if get_rejected_from_trained_model:
            rejected, _ = generate_local_model(
                model=model, tokenizer=tokenizer, prompt=question, system_prompt="You add.", max_new_tokens=8
            )
        else:
            rejected = "I do not know"
        return (
            question + f" Use {think_start}.",
            f"{think_start}\nThe sum is {answer}.\n{think_end}\n{answer}",
            rejected.strip(),
        )

    def generate_dataset(
        generate_GPT,
        index,
        topics=None,
        only_include_wrong_answers=False,
        n_questions_for_each=1,
        number_nodes_to_get=2,
        verbatim=False,
        get_rejected_from_trained_model=True,
        model=None,
        tokenizer=None,
        nodes=None,
        text=None,
        process=None,
    ):
        data = {"prompt": [], "chosen": [], "rejected": [], "rejected_correct": []}
        for topic in topics if isinstance(topics, list) else [None] * topics:
            for _ in range(n_questions_for_each):
                for key, value in zip(
                    data,
                    (
                        *one(
                            generate_GPT,
                            index,
                            topic,
                            number_nodes_to_get,
                            get_rejected_from_trained_model,
                            model,
                            tokenizer,
                        ),
                        None,
                    ),
                ):
                    data[key].append(value)
        dataset = datasets.Dataset.from_dict(data)
        return dataset.map(process) if process is not None else dataset

    return process, generate_dataset


def test_published_script(lab, tmp_path, monkeypatch, capsys):
    "Phase I with LoRA, merge, Phase II: the published cells in their order, on a model of this size."
    monkeypatch.chdir(tmp_path)
    pushed = []
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import PreTrainedTokenizerBase, TrainerCallback

    from preflexor_lab.methods.preflexor import PRefLexORDPOTrainer, PRefLexORORPOTrainer
    from preflexor_lab.models.local import generate_local_model
    from preflexor_lab.training.dpo import DPOConfig
    from preflexor_lab.training.orpo import ORPOConfig

    for cls in (PeftModel, PreTrainedTokenizerBase):
        monkeypatch.setattr(cls, "push_to_hub", lambda self, repo, **kw: pushed.append((type(self).__name__, repo)))
    lab.model().save_pretrained("base")  # the model's name: a folder
    from transformers import AutoModelForCausalLM

    think_start, think_end, tokenizer = "<|thinking|>", "<|/thinking|>", lab.tokenizer
    process, generate_dataset = dataset_functions(tokenizer, think_start, think_end)
    generate_GPT, index = Calculator(), [str(i) for i in range(10)]

    model = AutoModelForCausalLM.from_pretrained("base")
    lora = dict(
        lora_alpha=64,
        lora_dropout=0.1,
        r=4,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj", "up_proj"],
    )
    model = get_peft_model(model, LoraConfig(**lora))
    FT_model_name, topics, num_questions_per_topic, num_epochs_per_dataset_generation = "Phase_I_results", 3, 1, 2
    model_current = FT_model_name + "_"
    cfg = ORPOConfig(
        output_dir=FT_model_name,
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        optim="adamw_torch_fused",
        logging_steps=2,
        learning_rate=5e-3,
        warmup_ratio=0,
        warmup_steps=0,
        lr_scheduler_type="constant",
        max_prompt_length=64,
        remove_unused_columns=False,
        max_length=128,
        beta=0.1,
        save_total_limit=3,
        save_strategy="no",
        hub_private_repo=True,
        hub_model_id=f"lab/{FT_model_name}",
        **QUIET,
    )
    n_steps = topics * num_questions_per_topic * num_epochs_per_dataset_generation
    trainer = PRefLexORORPOTrainer(
        model=model,
        args=cfg,
        train_dataset=None,
        tokenizer=tokenizer,
        n_steps=n_steps,
        topics=topics,
        number_nodes_to_get=3,
        n_questions_for_each=num_questions_per_topic,
        only_include_wrong_answers=False,
        process=process,
        generate_dataset=generate_dataset,
        generate=generate_GPT,
        index=index,
        get_rejected_from_trained_model=True,
    )
    num_iterations = 2
    for iteration in range(num_iterations):
        trainer.train()
        output_text, messages = generate_local_model(
            model=model,
            tokenizer=tokenizer,
            prompt="What is 1 plus 2 ?" + f" Use {think_start}.",
            system_prompt="You add.",
            prepend_response=f"{think_start}",
            num_return_sequences=1,
            repetition_penalty=1.0,
            temperature=0.1,
            max_new_tokens=8,
            messages=[],
            do_sample=True,
        )
        assert isinstance(output_text, str) and messages[-1]["role"] == "assistant"
        trainer.update_dataset()
        trainer.save_model(f"./{model_current}")
        model.push_to_hub(f"lab/{model_current}", private=True)
        tokenizer.push_to_hub(f"lab/{model_current}", private=True)
    assert trainer.model is model and [r for _, r in pushed] == ["lab/Phase_I_results_"] * 4
    assert [e["step"] for e in trainer.log_history if "loss" in e] == [2, 4, 6, 8, 10, 12]
    assert trainer.state.global_step == 12 and len(trainer.concatenated_train_dataset) == 9
    assert set(trainer.train_dataset.column_names) >= {"prompt", "chosen", "rejected"}
    assert not [line for line in Path(FT_model_name, "metrics.jsonl").read_text().splitlines() if not json.loads(line)]

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), model_current).merge_and_unload()
    model = get_peft_model(model, LoraConfig(**lora))
    ref_model = None

    class RewardLoggingCallback(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            last = state.log_history[-1]
            if "rewards/margins" in last:
                print(
                    f"Step={last['step']}",
                    "rewards/margins=",
                    last["rewards/margins"],
                    "loss=",
                    last["loss"],
                    "rewards/accuracy=",
                    last["rewards/accuracies"],
                )

    cfg = DPOConfig(
        output_dir="Phase_II_results",
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        logging_steps=1,
        max_grad_norm=0.3,
        learning_rate=1e-3,
        warmup_ratio=0,
        warmup_steps=0,
        lr_scheduler_type="constant",
        max_prompt_length=64,
        max_length=128,
        remove_unused_columns=False,
        beta=0.5,
        save_total_limit=50,
        save_strategy="epoch",
        hub_private_repo=True,
        hub_model_id="lab/Phase_II_results",
        loss_type="exo_pair",
        label_smoothing=5e-3,
        **QUIET,
    )
    trainer = PRefLexORDPOTrainer(
        model=model,
        ref_model=ref_model,
        args=cfg,
        train_dataset=None,
        tokenizer=tokenizer,
        n_steps=3,
        topics=["1", "2", "3"],
        number_nodes_to_get=3,
        n_questions_for_each=1,
        only_include_wrong_answers=False,
        process=process,
        generate_dataset=generate_dataset,
        generate=generate_GPT,
        get_rejected_from_trained_model=True,
        index=index,
        dynamic_answer_comparison=True,
        mask_thinking_tokens=False,
        thinking_token_mask_percentage=0.2,
        think_start_token="<|thinking|>",
        think_end_token="<|/thinking|>",
        include_thinking_token_in_labels=True,
        callbacks=[RewardLoggingCallback()],
    )
    for iteration in range(2):
        trainer.train()
        trainer.update_dataset()
        trainer.save_model("./Phase_II_results_")
    trainer.train(n_steps=2)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Step=")]
    assert [line.split()[0] for line in printed] == [f"Step={s}" for s in range(1, 9)]
    losses = [e for e in trainer.log_history if "loss" in e]
    assert [e["step"] for e in losses] == list(range(1, 9)) and all("rewards/accuracies" in e for e in losses)


# ---- killed at any point --------------------------------------------------------------------------------------------


def outcome(folder):
    "Final weights and steps, and the metrics without times and without the trainer's summary of one process."
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    of_a_process = ("runtime", "seconds", "per_second", "train_loss", "total_flos")
    kept = [{k: v for k, v in e.items() if not any(w in k for w in of_a_process)} for e in lines]
    return (folder / "RESULT").read_text(), kept


def test_killed_loop_ends_like_an_undisturbed_one(tmp_path):
    "Killed after a round, within one, with a half-written round or half-written data, and with an adapter."
    cuts = ("after round 1", "saving round-0002", "saving next", "step 5")
    cases = [
        "whole:never:full:epoch",
        *(f"cut{i}:{die}:full:{'steps' if die.startswith('step') else 'epoch'}" for i, die in enumerate(cuts)),
        "adapter:never:lora:epoch",
        "cutlora:after round 2:lora:epoch",
        "steplora:step 8:lora:steps",
    ]
    script = Path(__file__).with_name("active_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *cases], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if line.startswith("KILLED")] == [
        f"KILLED {n} 9" for n in ("cut0", "cut1", "cut2", "cut3", "cutlora", "steplora")
    ]
    whole, adapter = outcome(tmp_path / "whole"), outcome(tmp_path / "adapter")
    assert whole[0].endswith(" 9") and whole[0] != adapter[0]
    for i, die in enumerate(cuts):
        assert outcome(tmp_path / f"cut{i}") == whole, die
    assert outcome(tmp_path / "cutlora") == adapter
    assert outcome(tmp_path / "steplora") == adapter
    assert "training checkpoint-4" in (tmp_path / "cut3.taken_up").read_text()  # it went on inside the round


# ---- two processes --------------------------------------------------------------------------------------------------


def test_two_processes_share_data_and_weights(tmp_path):
    script = Path(__file__).with_name("active_pair.py")
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
        str(tmp_path / "out"),
    ]
    done = subprocess.run(run, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = sorted(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert [r[0] for r in rows] == ["2", "2"]  # the world really has two processes
    assert [r[2] for r in rows] == ["2", "0"]  # only the first one generates
    assert rows[0][3:] == rows[1][3:]  # both train on its data and end with the same weights
