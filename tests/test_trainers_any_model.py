"Every trainer takes a model by its folder, finds the tokenizer, fits the machine and reads examples in any usual form."

import importlib

import pytest
import torch

PAIRS = [{"prompt": f"{a} + 1 =", "chosen": f" {a + 1}", "rejected": f" {a}"} for a in range(4)]
COMPLETIONS = [{"prompt": p["prompt"], "completion": p["chosen"]} for p in PAIRS]
QUERIES = [{"queries": c["prompt"], "responses": c["completion"]} for c in COMPLETIONS]
MESSAGES = [
    {"messages": [{"role": "user", "content": c["prompt"]}, {"role": "assistant", "content": c["completion"]}]}
    for c in COMPLETIONS
]
IMPLICIT = [{side: p["prompt"] + p[side] for side in ("chosen", "rejected")} for p in PAIRS]
CHAT_PAIRS = [
    {
        side: [{"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p[side]}]
        for side in ("chosen", "rejected")
    }
    for p in PAIRS
]


def tool(prompt, response, row):
    "A score that differs between samples."
    from preflexor_lab.text.records import Certificate

    return Certificate(float(len(response) % 2), bool(len(response) % 2))


class Trainer:
    "Where a trainer and its config are, and what it needs beside a model and data."

    def __init__(self, module, name, data, **inputs):
        self.module, self.name, self.data, self.inputs = module, name, data, inputs

    def __repr__(self):
        return self.name

    @property
    def config(self):
        return getattr(importlib.import_module(f"preflexor_lab.{self.module}"), f"{self.name}Config")

    @property
    def trainer(self):
        return getattr(importlib.import_module(f"preflexor_lab.{self.module}"), f"{self.name}Trainer")

    def make(self, model, folder, data=None, options=(), **more):
        args = self.config(str(folder), max_steps=1, report_to="none", **dict(options))
        return self.trainer(model, args, self.data[0] if data is None else data, **self.inputs | more)


ANY_COMPLETION = [COMPLETIONS, QUERIES, MESSAGES, PAIRS]
ANY_PAIR = [PAIRS, IMPLICIT, CHAT_PAIRS]
TRAINERS = [
    Trainer("training.sft", "SFT", ANY_COMPLETION),
    Trainer("training.orpo", "ORPO", ANY_PAIR),
    Trainer("training.dpo", "DPO", ANY_PAIR),
    Trainer("training.policy_gradient", "Policy", ANY_COMPLETION, tool=tool),
    Trainer("methods.latro", "LaTRO", ANY_COMPLETION),
    Trainer("methods.rlsf", "RLSF", ANY_COMPLETION, tool=tool),
    Trainer("methods.spin", "SPIN", ANY_COMPLETION),
]
every = pytest.mark.parametrize("kind", TRAINERS, ids=repr)


@pytest.fixture(scope="module")
def tiny():
    "An untrained model and its tokenizer, in memory."
    from preflexor_lab.models.loading import small_model, train_tokenizer

    tokenizer = train_tokenizer([c["prompt"] + c["completion"] for c in COMPLETIONS], 300)
    return small_model(tokenizer, hidden=16, layers=1, heads=2, max_length=1024), tokenizer


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    "The same, saved."
    from preflexor_lab.models.loading import save_model

    return str(save_model(*tiny, tmp_path_factory.mktemp("any") / "model"))


def changed(model, folder):
    "Whether training moved a weight of the saved model."
    from preflexor_lab.models.loading import load_model, weights_hash

    return weights_hash(model.cpu()) != weights_hash(load_model(folder, dtype="float32"))


@every
def test_default_config_is_usable(kind, tmp_path):
    "With nothing but a folder, and right for the machine."
    import torch

    args = kind.config(str(tmp_path))
    assert args.use_cpu is not torch.accelerator.is_available()
    if args.use_cpu:
        assert args.device.type == "cpu"
        assert not args.bf16 and not args.gradient_checkpointing
        assert kind.config(str(tmp_path), use_cpu=True, bf16=True).bf16  # asked for


@every
def test_one_step_from_a_folder_name(kind, folder, tmp_path):
    "Nothing is given but the output folder, one step and no tracker; that step learns."
    trainer = kind.make(folder, tmp_path)
    trainer.train()
    assert changed(trainer.model, folder)


@every
def test_a_loaded_model_finds_its_tokenizer(kind, folder, tiny, tmp_path):
    from preflexor_lab.models.loading import load_model

    trainer = kind.make(load_model(folder), tmp_path)
    assert trainer.tokenizer.get_vocab() == tiny[1].get_vocab()
    with pytest.raises(ValueError, match="pass processing_class=tokenizer"):
        kind.make(tiny[0], tmp_path)


def ids_of(trainer):
    "Token ids of each example that a trainer holds: prompts of a policy, else everything that is read."
    if hasattr(trainer, "data"):  # SPIN keeps prompts and demonstrations
        return list(zip(*trainer.data))
    data = trainer.train_dataset
    if hasattr(data, "sides"):
        return [[ids.tolist() for ids, *_ in pair] for pair in zip(*(side.rows for side in data.sides))]
    return [r["prompt_ids"] if isinstance(r, dict) else r[0].tolist() for r in data.rows]


@every
def test_text_of_any_form_gives_the_same_examples(kind, folder, tmp_path):
    forms = [ids_of(kind.make(folder, tmp_path, data)) for data in kind.data if data not in (MESSAGES, CHAT_PAIRS)]
    assert len(forms) > 1 and all(form == forms[0] and len(form) == len(PAIRS) for form in forms)


@every
def test_messages_go_through_the_chat_template(kind, folder, tmp_path):
    trainer = kind.make(folder, tmp_path, MESSAGES if MESSAGES in kind.data else CHAT_PAIRS)
    if kind.name == "SPIN":
        assert ids_of(trainer)[0] == (MESSAGES[0]["messages"][:1], COMPLETIONS[0]["completion"])
        return
    first = ids_of(trainer)[0]
    text = trainer.tokenizer.decode(first[0] if kind.data is ANY_PAIR else first)
    assert text.startswith("<|user|>0 + 1 =<|assistant|>")


@every
@pytest.mark.parametrize("name", ["data_collator", "compute_metrics", "model_init", "tokenizer"])
def test_arguments_of_other_trainers_are_refused_by_name(kind, name, folder, tmp_path):
    with pytest.raises(ValueError, match=f"{kind.name}Trainer does not take {name}: "):
        kind.make(folder, tmp_path, **{name: print})
    with pytest.raises(TypeError, match="unexpected argument 'modle'"):
        kind.make(folder, tmp_path, modle=1)


@every
def test_a_warm_up_leaves_a_step_to_learn(kind, tmp_path, caplog):
    args = kind.config(str(tmp_path), max_steps=1, warmup_ratio=0.5)
    assert args.get_warmup_steps(1) == 0 and "would leave no learning step of 1" in caplog.text
    assert args.get_warmup_steps(4) == 2


def test_one_step_with_warm_up_learns(folder, tmp_path):
    "A share of one step is rounded up to that step, whose rate would be 0."
    sft = TRAINERS[0].make(folder, tmp_path, options={"warmup_ratio": 0.05})
    sft.train()
    assert changed(sft.model, folder)


def test_self_rewarding_stages_from_a_folder_name(folder, tmp_path):
    "All kinds of stages, on examples under other names; the second judge sees nothing but right answers."
    from preflexor_lab.methods.self_reward import (
        ExternalRewardDPOConfig,
        SelfPlayConfig,
        SelfRewardingTrainer,
        SFTConfig,
    )

    one = {"trainer_kwargs": {"max_steps": 1}}
    asked = {"gen_temperature": 1.0, "gen_max_new_tokens": 48, "num_candidate_responses": 6}
    stages = [
        SFTConfig(QUERIES, **one),
        SelfPlayConfig(MESSAGES, **one),
        ExternalRewardDPOConfig(QUERIES, 2, reward_model=lambda p, r: len(r) % 3, **asked, **one),
        ExternalRewardDPOConfig(QUERIES, 2, reward_model=lambda p, r: 1, **asked, **one),
    ]
    run = SelfRewardingTrainer(folder, finetune_configs=stages, checkpoints_folder=tmp_path / "run", progress=False)
    model = run()
    assert changed(model, folder)
    pairs = {r["stage"]: r["value"] for r in run.summary if r["metric"] == "pairs"}
    assert pairs == {"3.dpo": 2, "4.dpo": 0}
    checkpoints = [tmp_path / "run" / "checkpoints" / name for name in ("2.spin", "3.dpo", "4.dpo")]
    from preflexor_lab.models.loading import load_model, weights_hash

    played, trained, left = (weights_hash(load_model(c)) for c in checkpoints)
    assert played != trained == left


def test_a_policy_in_bfloat16_samples_through_its_adapter(tmp_path):
    "Accelerate's autocast begins inside the model's forward pass, where the sampler's corrections meet it."
    from preflexor_lab.models.adapters import add_lora
    from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
    from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer

    tokenizer = load_tokenizer(nano_path("novice"))
    model = add_lora(load_model(nano_path("novice"), dtype="bfloat16"), tokenizer, r=2)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    options = dict(use_cpu=True, bf16=True, max_steps=2, rloo_k=2, per_device_train_batch_size=2, response_length=4)
    args = PolicyConfig(str(tmp_path), report_to="none", learning_rate=1e-2, warmup_steps=0, **options)
    rows = [dict(prompt=" what is bone ?"), dict(prompt=" what is silk ?")]
    trainer = PolicyTrainer(model, args, rows, tokenizer, tool=lambda p, r, row: float(len(r) % 3))
    trainer.train()
    assert any(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if n in before)


def test_every_training_of_a_model_is_under_autocast(tmp_path):
    "accelerate wraps a model once and marks it; the mark goes with the wrapping, or a second training is in float32."
    from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
    from preflexor_lab.training.callbacks import fit
    from preflexor_lab.training.sft import SFTConfig, SFTTrainer

    path = str(nano_path("novice"))
    model, tokenizer = load_model(path, dtype=torch.float32), load_tokenizer(path)
    seen, row = [], dict(prompt="what is bone ?", completion=" 4")
    model.get_output_embeddings().register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    for k in range(3):
        args = SFTConfig(str(tmp_path / str(k)), use_cpu=True, bf16=True, report_to="none", max_steps=1)
        fit(SFTTrainer(model, args, [row] * 8, processing_class=tokenizer))
        assert seen and all(seen), f"training {k} ran without autocast"
        model(torch.tensor([[1, 2]]))
        assert not seen[-1]
        seen.clear()
