"LaTRO in several processes, and on rows from a file."

import json

import pytest
from launcher import launch

WORKER = """
import json, os, sys
import torch, torch.distributed as dist
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.training.callbacks import make_arguments
from preflexor_lab.methods.latro import LaTROConfig, LaTROTrainer
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from transformers import PrinterCallback
from transformers.utils import logging as hf
hf.disable_progress_bar(); hf.set_verbosity_error()
folder, samples = sys.argv[1], int(sys.argv[2])
name = str(nano_path("novice"))
tokenizer, model = load_tokenizer(name), load_model(name, dtype=torch.float32)
items = world.items(4, seed=5, hops=(3, 4), split="train")
rows = [dict(queries=i.prompt, responses=f" {i.answer}", groundtruth=i.answer) for i in items]
args = make_arguments(LaTROConfig, folder + "/out", rloo_k=4, per_device_train_batch_size=samples, response_length=80, learning_rate=1e-3, max_steps=1, optim="sgd", max_grad_norm=0.0,
                      lr_scheduler_type="constant", group_by_length=False, train_sampling_strategy="sequential", share_prompts=False, logging_steps=1, average_tokens_across_devices=True)
trainer = LaTROTrainer(model, args, rows, tokenizer)
trainer.remove_callback(PrinterCallback)
trainer.train()
if trainer.accelerator.is_main_process:
    torch.save(dict(weights={k: v for k, v in trainer.accelerator.unwrap_model(trainer.model).state_dict().items()}, world=trainer.accelerator.num_processes,
                    log=[l for l in trainer.state.log_history if "policy/reward" in l]), folder + "/result.pt")
if dist.is_initialized():
    dist.barrier(); dist.destroy_process_group()
os._exit(0)
"""


def test_two_processes_update_as_one(tmp_path):
    "Two processes with two questions each take the step of one process with four, on the same samples, to a relative 1e-5."
    import torch

    from preflexor_lab.models.loading import load_model, nano_path

    one, two = launch(WORKER, tmp_path / "one", 1, 16), launch(WORKER, tmp_path / "two", 2, 8)
    assert (one["world"], two["world"]) == (1, 2)
    start = load_model(str(nano_path("novice")), dtype=torch.float32).state_dict()
    moved = lambda run: torch.cat([(run["weights"][k] - start[k]).flatten() for k in start])
    assert moved(one).norm() > 0
    assert (moved(one) - moved(two)).norm() / moved(one).norm() < 1e-5
    for key in ("policy/reward", "policy/length", "policy/finished", "policy/kl"):
        assert one["log"][0][key] == pytest.approx(two["log"][0][key], abs=1e-4), key


def test_rows_from_a_file(tmp_path):
    "Questions and answers from JSONL: prepared, trained for a step, graded."
    import torch

    from preflexor_lab.methods.latro import LaTROConfig, LaTROTrainer
    from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path, weights_hash
    from preflexor_lab.tasks import materials_lab as world
    from preflexor_lab.tasks.latro_data import prepare_data
    from preflexor_lab.training.callbacks import fit, make_arguments

    path = tmp_path / "qa.jsonl"
    path.write_text(
        "".join(
            json.dumps(dict(question=i.prompt, answer=i.answer)) + "\n"
            for i in world.items(6, seed=1, hops=(3,), split="train")
        )
    )
    name = str(nano_path("novice"))
    tokenizer, model = load_tokenizer(name), load_model(name, dtype=torch.float32)
    rows = prepare_data(path, tokenizer, trigger="", template="<|/thinking|> {answer}", chat=False)
    args = make_arguments(
        LaTROConfig,
        tmp_path / "out",
        rloo_k=2,
        per_device_train_batch_size=4,
        response_length=80,
        learning_rate=1e-4,
        max_steps=1,
        stop_seqs=rows.stop_seqs,
    )
    before = weights_hash(model)
    trainer = LaTROTrainer(model, args, list(rows), tokenizer, eval_dataset=list(rows)[:3], grade=rows.grade)
    assert weights_hash(fit(trainer)) != before
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1
