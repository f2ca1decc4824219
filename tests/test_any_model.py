"""Models that were not made here: every case was seen to fail once, by kind.

Tiny models with random weights stand for their architectures; what is tested is that generation and training read
them as transformers does, whatever their caches, positions and adapters are.
"""

import copy
import math

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from preflexor_lab.data.judges import RewardModelJudge
from preflexor_lab.models.adapters import add_lora, merge_lora
from preflexor_lab.models.cache import roomy_cache
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path, quiet_transformers, save_model
from preflexor_lab.models.local import Forward, LocalEngine, read_prompts
from preflexor_lab.text.markers import THINK_END, THINK_START, register_markers
from preflexor_lab.tools.sentiment import Classifier
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.orpo import ORPOConfig, ORPOTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

torch.set_num_threads(1)
SIZES = dict(
    vocab_size=260,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    pad_token_id=257,
    bos_token_id=258,
    eos_token_id=256,
)
OF_OPT = {k: v for k, v in SIZES.items() if k not in ("intermediate_size", "num_key_value_heads")}
LINEAR = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
MAMBA = dict(mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=16)
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
MIXED = dict(layer_types=["linear_attention", "full_attention"])
CONFIGS = {
    "plain": ("LlamaConfig", SIZES),
    "sliding window": ("MistralConfig", SIZES | dict(sliding_window=16)),
    "windows and full": ("Gemma3TextConfig", SIZES | dict(head_dim=8, sliding_window=16, query_pre_attn_scalar=8)),
    "sinks": ("GptOssConfig", SIZES | dict(head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=16)),
    "gated linear attention": ("Qwen3_5TextConfig", SIZES | LINEAR | MIXED | dict(head_dim=8)),
    "linear attention and experts": (
        "Qwen3NextConfig",
        SIZES
        | LINEAR
        | MIXED
        | dict(
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
    ),
    "short convolutions": ("Lfm2Config", SIZES | dict(layer_types=["conv", "full_attention"])),
    "attention beside Mamba": ("FalconH1Config", SIZES | MAMBA | dict(mamba_d_ssm=32, mamba_n_heads=4, head_dim=8)),
    "Mamba": (
        "MambaConfig",
        dict(vocab_size=260, hidden_size=32, num_hidden_layers=2, state_size=8, pad_token_id=257, eos_token_id=256),
    ),
    "ALiBi": ("BloomConfig", dict(vocab_size=260, hidden_size=32, n_layer=2, n_head=4, eos_token_id=256)),
    "learned positions": ("OPTConfig", OF_OPT | dict(ffn_dim=64, word_embed_proj_dim=32)),
    "long rope": (
        "Phi3Config",
        SIZES
        | dict(original_max_position_embeddings=32, rope_parameters=LONG | dict(original_max_position_embeddings=32)),
    ),
    "scaled logits": ("GraniteConfig", SIZES | dict(logits_scaling=2.0)),
}


def make(kind, **changed):
    "A tiny model of a kind, its weights large enough that greedy text is not constant."
    name, options = CONFIGS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, name)(**options | changed))
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.15)
    return model.eval()


@pytest.fixture(scope="module")
def tok():
    "One token per byte."
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", pad_token="<p>", bos_token="<b>")


PROMPTS = ["aaaaathe quick", "hello there my friend, this is longer", "x"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_generation_is_that_of_transformers(kind, tok):
    model, expected = make(kind), []
    for prompt in PROMPTS:
        ids = torch.tensor([tok(prompt)["input_ids"]])
        options = dict(max_new_tokens=30, do_sample=False, pad_token_id=257, eos_token_id=256)
        expected.append(model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist())
    found = LocalEngine(model, tok, weights="random", eos_token_id=256).generate(PROMPTS, max_new_tokens=30)
    assert [list(c.ids) for (c,) in found] == expected


@pytest.mark.parametrize("kind", CONFIGS)
def test_samples_do_not_depend_on_their_batch(kind, tok):
    engine = LocalEngine(make(kind), tok, weights="random")
    how = dict(n=3, max_new_tokens=24, temperature=1.0, seed=1)
    together, alone = engine.generate(PROMPTS, **how), [engine.generate([p], **how)[0] for p in PROMPTS]
    for a, b in zip(together, alone):
        assert [c.ids for c in a] == [c.ids for c in b]
        assert max(abs(x - y) for c, d in zip(a, b) for x, y in zip(c.logps, d.logps)) < 1e-3


PASSAGES = ["the hardness of a metal is a matter of its bonds, " * 2, "a polymer's chains are long and tangled; " * 2]
PARTS = ["steps?", "concepts?", "design and why?", "a hypothesis?"]
SHARING = [p + part for part in PARTS for p in PASSAGES] + ["x"]
READ_WHOLE = {
    "gated linear attention",
    "linear attention and experts",
    "short convolutions",
    "attention beside Mamba",
    "Mamba",
    "long rope",
}


def passes(model, call):
    "What a call returns, and the shapes of ids that went through the embedding in it, single tokens left out."
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape[:2])))
    try:
        result = call()
    finally:
        hook.remove()
    return result, [shape for shape in seen if shape[1] > 1]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_prefix_is_read_once_where_the_model_allows_it(kind, tok):
    model, expected = make(kind, **{} if kind in ("Mamba", "ALiBi") else {"max_position_embeddings": 256}), []
    for prompt in SHARING:
        ids = torch.tensor([tok(prompt)["input_ids"]])
        options = dict(max_new_tokens=20, do_sample=False, pad_token_id=257, eos_token_id=256)
        expected.append(model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist())
    engine = LocalEngine(model, tok, weights="random", eos_token_id=256)
    found, shapes = passes(model, lambda: engine.generate(SHARING, max_new_tokens=20))
    assert [list(c.ids) for (c,) in found] == expected
    assert (shapes == [(2, 102), (9, 13)]) == (kind not in READ_WHOLE), shapes


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in READ_WHOLE])
def test_two_passes_give_the_logits_of_one(kind, tok):
    model = make(kind, **{} if kind == "ALiBi" else {"max_position_embeddings": 256})
    forward, prompts = Forward(model), [tok(prompt)["input_ids"] for prompt in SHARING]
    with torch.inference_mode():
        two, shapes = passes(model, lambda: read_prompts(forward, prompts, roomy_cache(model.config, 1))[0])
        one, whole = passes(
            model, lambda: read_prompts(lambda *a: forward(*a), prompts, roomy_cache(model.config, 1))[0]
        )
        other = read_prompts(forward, [[7] + prompt[1:] for prompt in prompts], roomy_cache(model.config, 1))[0]
    assert (len(shapes), len(whole)) == (2, 1)
    assert sum(b * t for b, t in shapes) < 0.6 * len(prompts) * max(map(len, prompts))
    assert torch.allclose(two, one, atol=1e-4)
    assert "window" in kind or kind == "sinks" or not torch.allclose(two, other, atol=1e-3)  # the prefix counts


@pytest.mark.parametrize("kind", ["plain", "sliding window", "windows and full", "ALiBi"])
def test_samples_do_not_depend_on_sharing_a_prefix(kind, tok):
    model = make(kind, **{} if kind == "ALiBi" else {"max_position_embeddings": 256})
    engine = LocalEngine(model, tok, weights="random", batch_size=7)
    how = dict(n=2, max_new_tokens=16, temperature=1.0, seed=1)
    together, alone = engine.generate(SHARING, **how), [engine.generate([p], **how)[0] for p in SHARING]
    for a, b in zip(together, alone):
        assert [(c.ids, c.seed) for c in a] == [(c.ids, c.seed) for c in b]
        assert max(abs(x - y) for c, d in zip(a, b) for x, y in zip(c.logps, d.logps)) < 1e-3


def test_nano_gives_the_same_greedy_text_from_a_shared_prefix():
    tokenizer, model = load_tokenizer(nano_path()), load_model(nano_path())
    sheet = " ".join(f"The hardness of sample {k} is {k % 7}." for k in range(12))
    prompts = [f"{sheet} {question}" for question in ("Which is hardest?", "How many samples are there?", "Why?", "x")]
    engine = LocalEngine(model, tokenizer, weights="nano")
    together, shapes = passes(model, lambda: engine.generate(prompts, max_new_tokens=24))
    alone = [engine.generate([prompt], max_new_tokens=24)[0] for prompt in prompts]
    assert shapes[0][0] == 1 and shapes[1][0] == 4
    assert [c.ids for (c,) in together] == [c.ids for (c,) in alone]


def arguments(cls, folder, **more):
    quiet = dict(use_cpu=True, bf16=False, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1)
    return cls(output_dir=str(folder), gradient_checkpointing=False, **quiet | more)


PAIRS = [dict(prompt="a question, " * 2 + str(i), chosen=" good" + "x" * i, rejected=" bad") for i in range(4)]
LONG_PAIR = [dict(prompt="p" * 70, chosen=" good", rejected=" bad")]


@pytest.mark.parametrize("kind", CONFIGS)
def test_preference_training_falls_back_to_the_layout_that_the_model_reads(kind, tok, tmp_path):
    losses = []
    for share in (None, False):
        args = arguments(ORPOConfig, tmp_path, max_steps=1, per_device_train_batch_size=4, share_prompts=share)
        trainer = ORPOTrainer(make(kind), args, PAIRS, LONG_PAIR, processing_class=tok)
        trainer.train()
        losses.append([trainer.state.log_history[0]["loss"], trainer.evaluate()["eval_loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_the_layout_is_compared_on_evaluation_pairs_too(tok, tmp_path):
    args = arguments(ORPOConfig, tmp_path, max_steps=1)
    short = [dict(prompt="ab", chosen="cd", rejected="ef")] * 4
    model = make("sliding window", sliding_window=48)
    shared = ORPOTrainer(model, args, short, processing_class=tok).shared
    trainer = ORPOTrainer(model, args, short, LONG_PAIR, processing_class=tok)
    assert (shared, trainer.shared) == (True, False)  # training pairs alone lie within the window
    later = ORPOTrainer(model, args, short, processing_class=tok)
    found = later.evaluate(LONG_PAIR)["eval_loss"]
    plain = arguments(ORPOConfig, tmp_path, max_steps=1, share_prompts=False)
    assert found == pytest.approx(
        ORPOTrainer(model, plain, short, LONG_PAIR, processing_class=tok).evaluate()["eval_loss"]
    )


def test_a_frozen_head_reads_one_contiguous_position(tok):
    "torch copies the head's matrix once per row for a strided input and a frozen weight."
    seen = []
    model = make("plain").requires_grad_(False)
    model.lm_head.register_forward_hook(lambda _, args, out: seen.append((args[0].shape[1], args[0].is_contiguous())))
    LocalEngine(model, tok, weights="random").generate(PROMPTS, max_new_tokens=3)
    assert set(seen) == {(1, True)}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "adapt",
    [
        lambda m, tok: add_lora(m, tok, r=4),
        lambda m, tok: add_lora(m, r=4),
        lambda m, tok: get_peft_model(m, LoraConfig(r=4, target_modules="all-linear")),
    ],
    ids=["add_lora(m, tokenizer)", "add_lora(m)", "LoraConfig"],
)
def test_an_adapter_on_spare_rows_comes_back_with_the_same_logits(adapt, tied, tok, tmp_path):
    model = make("plain", vocab_size=320, tie_word_embeddings=tied)
    save_model(model, tok, tmp_path / "base")
    tokenizer, base = load_tokenizer(tmp_path / "base"), load_model(tmp_path / "base")
    register_markers(tokenizer, base)
    with quiet_transformers():
        adapted = adapt(base, tokenizer)
    ids = torch.tensor([tokenizer.encode(f"why?{THINK_START}so{THINK_END} yes")])
    step(adapted, ids)
    before = adapted(ids).logits
    save_model(adapted, tokenizer, tmp_path / "adapter")
    assert torch.equal(load_model(tmp_path / "adapter")(ids).logits, before)
    assert torch.allclose(merge_lora(adapted)(ids).logits, before, atol=1e-4)


def step(model, ids):
    "Two steps on one sequence."
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_merging_an_adapter_on_one_side_of_tied_embeddings_moves_no_logit(target, tok, tmp_path):
    model = make("plain", tie_word_embeddings=True)
    with quiet_transformers():
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", target]))
    ids = torch.tensor([tok.encode("hello there")])
    step(adapted, ids)
    before = adapted(ids).logits
    save_model(merge_lora(adapted), tok, tmp_path / "merged")
    assert torch.allclose(load_model(tmp_path / "merged")(ids).logits, before, atol=1e-4)


def test_phase_two_begins_at_log_2_on_the_adapter_of_phase_one(tok, tmp_path):
    config = LoraConfig(r=4, target_modules="all-linear")
    args = arguments(ORPOConfig, tmp_path, max_steps=4, learning_rate=1e-2)
    one = ORPOTrainer(make("plain"), args, PAIRS, processing_class=tok, peft_config=config)
    one.train()
    two = DPOTrainer(one.model, arguments(DPOConfig, tmp_path, max_steps=2), PAIRS, processing_class=tok)
    two.train()
    assert two.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("how", ["token", "text"])
@pytest.mark.parametrize("lora", [False, True])
def test_a_trainer_teaches_markers_to_a_tokenizer_without_them(how, lora, tok, tmp_path):
    save_model(make("plain"), tok, tmp_path / "base")
    tokenizer, model = load_tokenizer(tmp_path / "base"), load_model(tmp_path / "base")
    texts = [dict(prompt="2 + 3 =", completion=f"{THINK_START}so{THINK_END}5")] * 4
    adapter = LoraConfig(r=4, target_modules="all-linear")
    if lora and how == "token":
        register_markers(tokenizer, model)
    model = add_lora(model, r=adapter.r) if lora else model
    args = arguments(SFTConfig, tmp_path, max_steps=2, learning_rate=1e-2, markers=how)
    SFTTrainer(model, args, texts, processing_class=tokenizer).train()
    assert (len(tokenizer.encode(THINK_START)) == 1) == (how == "token")
    save_model(model, tokenizer, tmp_path / "taught")
    ids = torch.tensor([tokenizer.encode(f"2 + 3 ={THINK_START}so{THINK_END}5")])
    assert torch.equal(load_model(tmp_path / "taught")(ids).logits, model.eval()(ids).logits)


def test_dropout_of_attention_is_switched_off(tok, tmp_path):
    model = make("plain", attention_dropout=0.5)
    SFTTrainer(
        model,
        arguments(SFTConfig, tmp_path, max_steps=1, disable_dropout=True),
        [dict(prompt="a", completion="b")],
        processing_class=tok,
    )
    ids = torch.tensor([tok.encode("hello there")])
    model.train()
    assert torch.equal(model(ids).logits, model(ids).logits)


def reward_model(tok):
    "A tiny classifier whose padding is its end of sequence."
    torch.manual_seed(3)
    sizes = {k: v for k, v in SIZES.items() if not k.endswith("token_id")}
    model = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**sizes, num_labels=1)).eval()
    model.config.pad_token_id = tok.eos_token_id
    torch.nn.init.normal_(model.score.weight)
    return model


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_reward_is_read_at_the_last_token_when_pads_are_ends(side, tok):
    tok = copy.deepcopy(tok)
    tok.pad_token, tok.padding_side = tok.eos_token, side
    model, answers = (
        reward_model(tok),
        ["yes<e>", "no, it is not<e>", "perhaps<e>", "a much longer answer than that<e>"],
    )
    with torch.no_grad():
        rows = [torch.tensor([tok.encode("why?" + a)]) for a in answers]
        wanted = [model.score(model.model(r).last_hidden_state[0, -1]).item() for r in rows]
        pooled = [model(r).logits.item() for r in rows]  # transformers reads the token before the end
    together = [v.score for v in RewardModelJudge(model, tok)(["why?"], [answers])[0]]
    alone = [RewardModelJudge(model, tok)(["why?"], [[a]])[0][0].score for a in answers]
    assert together == pytest.approx(wanted, abs=1e-5) and alone == pytest.approx(wanted, abs=1e-5)
    order, elsewhere = ([i for _, i in sorted((x, i) for i, x in enumerate(xs))] for xs in (wanted, pooled))
    assert order != elsewhere  # so that reading the other token would be seen
    classify = Classifier(model, tok, credit="leave_one_out", window=64)
    odds = [z for z, _ in classify._read(["why?" + a for a in answers], "")]
    assert odds == pytest.approx(wanted, abs=1e-5)
