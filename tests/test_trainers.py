"""What no notebook can hold of the trainers: several processes, and canaries for what they rely on in transformers, TRL
and accelerate."""

import inspect
from dataclasses import fields

import pytest
from launcher import launch

WORKER = """
import os, sys, warnings

warnings.filterwarnings("ignore")
import torch, torch.distributed as dist
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

out, batch = sys.argv[1], int(sys.argv[2])
words = ["<pad>", "<eos>", "<unk>", "="] + [str(i) for i in range(20)]
core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
pairs = [
    dict(prompt=f"{i} =", chosen=" ".join(["1"] * (1 + i * i % 9)), rejected=" ".join(["2"] * (1 + i * 5 % 7)))
    for i in range(8)
]
weights, logs, world = {}, {}, 1
for name, cls, config, kw in (
    ("sft", SFTTrainer, SFTConfig, {}),
    ("orpo", ORPOTrainer, ORPOConfig, dict(bf16=False)),
    ("exo", DPOTrainer, DPOConfig, dict(bf16=False, loss_type="exo_pair", label_smoothing=5e-3, beta=1.0)),
):
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tok),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.2,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )
    args = config(
        output_dir=f"{out}/{name}",
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        max_steps=2,
        per_device_train_batch_size=batch,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        **kw,
    )
    trainer = cls(model, args, pairs, processing_class=tok)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    trainer.train()
    assert max((v - start[k]).abs().max() for k, v in model.state_dict().items()) > 1e-3, (
        "nothing was learned, equal weights would say nothing"
    )
    world = trainer.accelerator.num_processes
    if world > 1:
        assert type(trainer.model_wrapped).__name__ == "DistributedDataParallel", type(trainer.model_wrapped)
    weights.update({f"{name}.{k}": v.clone() for k, v in model.state_dict().items()})
    logs[name] = [
        {
            k: v
            for k, v in l.items()
            if k in ("loss", "nll_loss", "rewards/margins", "rewards/accuracies", "mask/all_masked")
        }
        for l in trainer.state.log_history
        if "loss" in l
    ]
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(dict(weights=weights, logs=logs, world=world), f"{out}/result.pt")
if world > 1:
    dist.barrier()  # nobody leaves while another still needs the group
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the group, and a normal exit then aborts now and then
"""


def test_two_processes_train_as_one(tmp_path):
    "Two processes with two examples each equal one with four: weights, and metrics over both."
    import torch

    one, two = launch(WORKER, tmp_path / "one", 1, 4), launch(WORKER, tmp_path / "two", 2, 2)
    assert (one["world"], two["world"]) == (1, 2)
    for name, w in one["weights"].items():
        assert torch.allclose(w, two["weights"][name], atol=1e-6), name
    for name, lines in one["logs"].items():
        assert len(lines) == 2
        for a, b in zip(lines, two["logs"][name]):
            assert a.keys() == b.keys() and "loss" in a
            for key in a:
                assert a[key] == pytest.approx(b[key], abs=1e-4), (name, key)


def has(owner, name, *parameters):
    "A method or function that our trainers override or call, with the parameters they use."
    found = getattr(owner, name, None)
    assert found is not None, f"{owner.__name__}.{name} is gone: look at what replaced it in this version"
    missing = set(parameters) - set(inspect.signature(found).parameters)
    assert not missing, f"{owner.__name__}.{name} lost {missing}"
    return found


def test_canary_transformers_trainer():
    "Private or unwritten behaviour of transformers.Trainer that CompletionTrainer relies on."
    from transformers import Trainer, TrainingArguments

    has(Trainer, "get_batch_samples", "epoch_iterator", "num_batches", "device")
    has(Trainer, "_get_train_sampler", "train_dataset")
    has(Trainer, "_get_eval_sampler", "eval_dataset")
    has(Trainer, "_prepare_inputs", "inputs")
    has(Trainer, "prediction_step", "model", "inputs", "prediction_loss_only", "ignore_keys")
    has(Trainer, "compute_loss", "model", "inputs", "return_outputs", "num_items_in_batch")
    has(Trainer, "log", "logs", "start_time")
    has(Trainer, "evaluate", "eval_dataset", "ignore_keys", "metric_key_prefix")
    assert "loss_is_scaled_for_ga" in inspect.getsource(Trainer.training_step), (
        "training_step no longer asks loss_is_scaled_for_ga: check accumulation"
    )
    names = {f.name for f in fields(TrainingArguments)}
    assert {
        "train_sampling_strategy",
        "warmup_steps",
        "average_tokens_across_devices",
        "use_cpu",
        "bf16",
        "remove_unused_columns",
        "label_smoothing_factor",
        "torch_compile",
    } <= names
    assert not names & {"warmup_ratio", "group_by_length"}, (
        "transformers has warmup_ratio or group_by_length again: CompletionArguments may drop its own"
    )


def test_canary_trl_configs():
    "The configs subclass TRL's: a field that appears or disappears there must be honoured or refused here."
    import transformers
    import trl
    from trl.experimental.orpo import ORPOConfig as TRLORPOConfig

    ours = {f.name for f in fields(transformers.TrainingArguments)}
    common = {"learning_rate", "logging_steps", "gradient_checkpointing", "bf16"}
    honoured = {"beta", "max_length", "disable_dropout", "model_init_kwargs", "trust_remote_code"}
    from preflexor_lab.training.dpo import REFUSED_DPO_ARGUMENTS
    from preflexor_lab.training.orpo import REFUSED_ORPO_ARGUMENTS
    from preflexor_lab.training.preference import REFUSED_PAIR_ARGUMENTS

    dpo = {f.name for f in fields(trl.DPOConfig)} - ours - common
    known = (
        honoured
        | set(REFUSED_DPO_ARGUMENTS)
        | set(REFUSED_PAIR_ARGUMENTS)
        | {
            "loss_type",
            "loss_weights",
            "label_smoothing",
            "precompute_ref_log_probs",
            "precompute_ref_batch_size",
            "pad_to_multiple_of",
        }
    )
    assert dpo == known, f"TRL's DPOConfig changed: new {sorted(dpo - known)}, gone {sorted(known - dpo)}"
    orpo = {f.name for f in fields(TRLORPOConfig)} - ours - common
    known = (
        honoured
        | set(REFUSED_PAIR_ARGUMENTS)
        | set(REFUSED_ORPO_ARGUMENTS)
        | {"max_completion_length", "padding_value"}
    )
    assert orpo == known, f"TRL's ORPOConfig changed: new {sorted(orpo - known)}, gone {sorted(known - orpo)}"


def test_canary_trl_defaults():
    "Defaults that our documentation states, and that ours are the same where the machine can."
    import trl
    from transformers.utils import is_torch_bf16_gpu_available

    from preflexor_lab.training.dpo import DPOConfig

    defaults = {f.name: f.default for f in fields(trl.DPOConfig)}
    assert defaults["bf16"] is None and defaults["gradient_checkpointing"] is True and defaults["beta"] == 0.1
    assert DPOConfig("out").bf16 is is_torch_bf16_gpu_available()


def test_canary_gradient_is_scaled_once(tmp_path):
    "Accumulating two pieces gives one batch's gradient, so nobody divides by the number of pieces a second time."
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from preflexor_lab.training.sft import SFTConfig, SFTTrainer

    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", "a", "b"])}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    norms = []
    for batch, pieces in ((4, 1), (1, 4)):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=5,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=None,
            )
        )
        args = SFTConfig(
            str(tmp_path / str(batch)),
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=pieces,
            train_sampling_strategy="sequential",
        )
        trainer = SFTTrainer(
            model, args, [dict(prompt="a", completion=" ".join("b" * n)) for n in (1, 2, 5, 9)], processing_class=tok
        )
        trainer.train()
        norms.append((trainer.state.log_history[0]["grad_norm"], trainer.state.log_history[0]["loss"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
