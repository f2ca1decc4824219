"""Every task of a recipe with the kinds of stages that make sense on it, on a few questions, to the report.

What does not make sense is refused by name, before anything is loaded (`tests/test_bad_input.py` and notebook 09).
"""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from preflexor_lab.models.loading import nano_path, save_model
from preflexor_lab.recipes.one_stage import training_recipe
from preflexor_lab.recipes.run import run_recipe
from preflexor_lab.recipes.schema import Recipe, load_recipe
from preflexor_lab.runs.ledger import Ledger

torch.set_num_threads(1)
SUMS = [
    dict(question=f"What is {a} plus {b}?", answer=f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}")
    for a in range(2, 10)
    for b in range(2, 10)
]
CHOICES = [
    dict(question=f"Which is {a}?", choices=dict(text=[str(a), str(a + 1)], label=["A", "B"]), answerKey="A")
    for a in range(60)
]
PAIRS = [dict(prompt=f"{a} plus 1? ", chosen=f"It is {a + 1}.", rejected="No idea.") for a in range(60)]
SCORED = [
    dict(question=f"Why {a}?", raw_output=f"Because {text} {a}.", overall_score=score)
    for a in range(40)
    for text, score in (("of", 9.0), ("not", 2.0))
]
REVIEWS = [dict(text=f"The film of {a} was a long one, and everybody stayed to the end.") for a in range(60)]
ROWS = dict(gsm8k=SUMS, arc=CHOICES, jsonl=SUMS, pairs=PAIRS, scored=SCORED, sentiment=REVIEWS)
CHAT = [
    dict(
        prompt=[dict(role="system", content="Be brief."), dict(role="user", content=f"{a} plus 1?")],
        chosen=[dict(role="assistant", content=f"It is {a + 1}.")],
        rejected=[dict(role="assistant", content="No idea.")],
    )
    for a in range(60)
]
DOCUMENTS = [
    "Bronze is an alloy of copper and some tin. This alloy is harder than copper but easier to cast.",
    "A ceramic breaks long before it bends under load. Each crack in a ceramic runs from a small pore.",
    "A polymer flows when every chain in it slides. Strong heat makes the polymer soft and its chain mobile.",
    "Steel is an alloy of iron with carbon. A crack in steel stops at the next grain boundary of the metal.",
    "The grain of a metal grows slowly in heat. A small grain makes the metal strong and also tough.",
    "A polymer with ceramic powder inside is a composite. The composite stops a crack where a chain holds.",
    "Every fibre of a composite carries a share of load. A broken fibre passes its load to the next fibre.",
    "Nacre is a layered ceramic with a thin polymer between. Its crack turns around every layer of nacre.",
    "A layer of oxide protects the metal under a surface. The oxide layer of aluminium is only nanometres thick.",
    "Silk is a fibre that spiders spin from protein. The protein chain in silk folds into small sheets.",
    "Bone is a composite of protein and mineral. Its mineral carries load while the protein stops a crack.",
    "Wood is a fibre composite that grows layer by layer. The fibre of wood follows the load on a branch.",
]
SMALL = dict(eval=dict(items=4, max_new_tokens=8, direct=False), batch_size=8, threads=1)
CASES = [
    ("gsm8k", dict(kind="sft")),
    ("gsm8k", dict(kind="orpo")),
    ("gsm8k", dict(kind="latro", samples=2)),
    ("gsm8k", dict(kind="rlsf", tool="arithmetic")),
    ("arc", dict(kind="rloo", samples=2)),
    ("arc", dict(kind="latro", samples=2)),
    ("jsonl", dict(kind="spin")),
    ("countdown", dict(kind="rlsf")),
    ("countdown", dict(kind="dpo", rejected="teacher")),
    ("sentiment", dict(kind="rlsf")),
    ("sentiment", dict(kind="self_reward", samples=2, judge="exact")),
    ("pairs", dict(kind="exo")),
    ("pairs", dict(kind="sft")),
    ("scored", dict(kind="orpo")),
    ("reasoning_gym:leg_counting", dict(kind="rloo", samples=2)),
]


def written(folder, name, rows):
    "Rows as a JSONL file."
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return str(path)


def summary(folder):
    "Metric → value of each stage."
    rows = json.loads((Path(folder) / "summary.json").read_text())
    return {(r["stage"], r["metric"]): r["value"] for r in rows}


def weights(folder):
    "A model's tensors."
    from safetensors.torch import load_file

    return load_file(next(Path(folder).glob("*.safetensors")))


@pytest.mark.parametrize("task, stage", CASES, ids=[f"{t}-{s['kind']}" for t, s in CASES])
def test_a_task_and_a_method(task, stage, tmp_path):
    if task.startswith("reasoning_gym"):
        pytest.importorskip("reasoning_gym", reason="the extra preflexor_lab[tasks] is not installed")
    if task == "sentiment":
        pytest.importorskip("vaderSentiment", reason="the extra preflexor_lab[tools] is not installed")
    data = dict(data=written(tmp_path, task, ROWS[task])) if task in ROWS else {}
    sampling = {} if stage["kind"] in ("sft",) or task in ("pairs", "scored") else dict(max_new_tokens=8)
    spec = dict(questions=6, batch_size=2, learning_rate=1e-3) | sampling | stage
    recipe = Recipe(task=task, model="novice", **data, **SMALL, stages=[spec])
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    found, label = summary(folder), recipe.final_label
    metric = (
        "preference_accuracy" if task in ("pairs", "scored") else "sentiment" if task == "sentiment" else "accuracy"
    )
    assert 0 <= found["base", metric] <= 1 and 0 <= found[label, metric] <= 1
    assert (folder / "report.html").stat().st_size > 10_000
    before, after = weights(nano_path("novice")), weights(folder / "model")
    assert any(not torch.equal(before[k].float(), after[k].float()) for k in before if k in after)


def tiny_model(folder, template, *words):
    "A tiny model with random weights, one token per byte and one per word; returns its folder."
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", pad_token="<p>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<u>", "<a>", "<s>"]})
    tokenizer.chat_template = template
    tokenizer.add_tokens(list(words))
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=272, max_position_embeddings=1024, eos_token_id=256, pad_token_id=257, **sizes)
    save_model(LlamaForCausalLM(config), tokenizer, folder)
    return str(folder)


TURNS = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}<e>{% endfor %}"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("chat"), TURNS + "{% if add_generation_prompt %}<a>{% endif %}")


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"), None)


def prompts_of(folder, kind="completion"):
    "Prompts of a run's ledger rows."
    with Ledger(Path(folder) / "ledger.sqlite") as ledger:
        return [r["prompt"] for r in ledger.rows(kind)]


def test_a_chat_model_is_asked_in_its_template(chat_model, tmp_path):
    "In training as in evaluation, and as `preflexor ask` asks later; the answer ends the turn."
    recipe = Recipe(
        task="gsm8k",
        data=written(tmp_path, "sums", SUMS),
        model=chat_model,
        **SMALL,
        stages=[dict(kind="orpo", questions=6, batch_size=2, max_new_tokens=8)],
    )
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    asked = [*prompts_of(folder), *prompts_of(folder, "rejected")]
    assert len(asked) == 4 + 6 + 4
    for text in asked:
        assert text.startswith("<u>What is ") and text.endswith('"The answer is" and the answer.<e><a>')
    pair = json.loads((folder / "data" / "s0.orpo.jsonl").read_text().splitlines()[0])
    assert pair["prompt"] in asked
    assert pair["chosen"].startswith("<|thinking|>\n") and "<|/thinking|>\nThe answer is" in pair["chosen"]


def test_a_model_that_thinks_is_trained_in_its_own_words(tmp_path):
    "With markers=own the model reads and writes `<think>`; its vocabulary stays as it was."
    template = TURNS + "{% if add_generation_prompt %}<a>{% endif %}"
    thinker = tiny_model(tmp_path / "thinker", template, "<think>", "</think>")
    stages = [
        dict(kind="sft", questions=6, batch_size=2, epochs=20, learning_rate=1e-2),
        dict(kind="latro", questions=2, batch_size=2, samples=2, max_new_tokens=8),
    ]
    recipe = Recipe(
        task="gsm8k", data=written(tmp_path, "sums", SUMS), model=thinker, markers="own", **SMALL, stages=stages
    )
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    before, after = weights(thinker), weights(folder / "model")
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    rows = [f["model.embed_tokens.weight"].float()[[261, 262]] for f in (before, after)]
    assert (rows[0] != rows[1]).any(1).all()  # both words were trained
    with Ledger(folder / "ledger.sqlite") as ledger:
        written_by_it = [r["text"] for r in ledger.rows("completion") if r["text"]]
    assert any(t.startswith("<think>") for t in written_by_it)
    assert not any("<|thinking|>" in t for t in written_by_it)


def test_a_model_without_words_of_its_own_is_refused_before_anything_is_paid_for(chat_model, tmp_path):
    recipe = Recipe(task="gsm8k", data=written(tmp_path, "sums", SUMS), model=chat_model, markers="own", **SMALL)
    with pytest.raises(ValueError, match="'<think>' is no token of this tokenizer"):
        run_recipe(recipe, tmp_path / "run", show=False)


def test_pairs_of_chat_messages(chat_model, base_model, tmp_path):
    data = written(tmp_path, "chat", CHAT)
    stages = [dict(kind="dpo", questions=6, batch_size=2)]
    folder = run_recipe(Recipe(task="pairs", data=data, model=chat_model, **SMALL, stages=stages), tmp_path / "run")
    assert ("dpo", "preference_accuracy") in summary(folder)
    with pytest.raises(ValueError, match="holds chat messages, and the tokenizer of .* has no chat template"):
        run_recipe(Recipe(task="pairs", data=data, model=base_model, **SMALL, stages=stages), tmp_path / "none")


def test_a_base_model_reflects_in_plain_text(base_model, tmp_path):
    "Without a chat template one completion holds critique and correction."
    options = dict(model=base_model, reflect=dict(rounds=1, items=2, max_new_tokens=8))
    recipe = Recipe(task="gsm8k", data=written(tmp_path, "sums", SUMS), **options, **SMALL)
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    assert ("reflect.1", "accuracy") in summary(folder)


def test_a_model_as_teacher_of_given_questions(tmp_path):
    "What the teacher got wrong is counted and never trained."
    recipe = Recipe(
        task="arc",
        data=written(tmp_path, "arc", CHOICES),
        model="novice",
        teacher=dict(model="self", max_new_tokens=8),
        **SMALL,
        stages=[dict(kind="orpo", questions=6, batch_size=2, max_new_tokens=8)],
    )
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    assert summary(folder)["orpo", "pairs"] == 0  # a novice solves nothing, and the run goes on to its report
    assert (folder / "report.html").is_file()


def test_one_line_trains(tmp_path):
    recipe = training_recipe(
        "dpo", "novice", written(tmp_path, "pairs", PAIRS), settings=["batch_size=8", "eval.items=4", "threads=1"]
    )
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    assert {("base", "preference_accuracy"), ("dpo", "preference_accuracy")} <= set(summary(folder))


def test_a_packaged_recipe_runs_on_another_task(tmp_path):
    settings = ["task=gsm8k", f"data={written(tmp_path, 'sums', SUMS)}", "controls=[]", "eval.items=4"]
    settings += ["eval.max_new_tokens=8", "eval.samples=0", "stages.0.questions=4", "stages.0.samples=2"]
    settings += ["stages.0.max_new_tokens=8", "stages.0.batch_size=2"]
    folder = run_recipe(load_recipe("latro", settings), tmp_path / "run", show=False)
    assert ("latro", "accuracy") in summary(folder)


def without_end(folder):
    "A tokenizer that cannot end a sequence."
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("eos_token", "pad_token")}))


def short_window(folder):
    "A model that reads 64 tokens."
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))


def encoder(folder):
    "A model of another kind."
    (folder / "config.json").write_text(json.dumps(dict(model_type="bert", architectures=["BertModel"])))


MISTAKES = [
    (without_end, {}, "has no end of sequence|neither pad_token nor eos_token"),
    (short_window, {}, "does not fit the model's window of 64"),
    (encoder, {}, "no causal language model but BertModel"),
    (None, dict(data="no/such/file.jsonl"), "no/such/file.jsonl"),
    (None, dict(stages=[dict(kind="orpo")], task="arc", rows=CHOICES, teacher={}), "has no worked solutions"),
]


@pytest.mark.parametrize("spoil, changed, says", MISTAKES, ids=["end", "window", "encoder", "data", "solutions"])
def test_a_mistake_is_told_before_the_first_question(spoil, changed, says, tmp_path):
    model = tmp_path / "model"
    tiny_model(model, None)
    if spoil:
        spoil(model)
    changed = dict(changed)
    rows = changed.pop("rows", SUMS)
    options = dict(task="gsm8k", data=written(tmp_path, "rows", rows), model=str(model), teacher=dict(model="self"))
    options |= dict(stages=[dict(kind="orpo", questions=4)]) | SMALL | changed
    with pytest.raises(ValueError, match=says) as told:
        run_recipe(Recipe(**options), tmp_path / "run", show=False)
    assert "\n" not in str(told.value).split("For further")[0].strip() or "validation error" in str(told.value)
    if (tmp_path / "run" / "ledger.sqlite").is_file():
        with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
            assert not ledger.counts()


def test_a_model_teacher_and_the_model_as_judge(tmp_path):
    "Nobody grades what a language model asks; held-out questions have their own grader."
    docs = tmp_path / "docs"
    docs.mkdir()
    for i, text in enumerate(DOCUMENTS):
        (docs / f"d{i}.md").write_text(text)
    recipe = Recipe(
        task="corpus",
        corpus=str(docs),
        model="novice",
        teacher=dict(model="self", max_new_tokens=4),
        eval=dict(items=3, judged=2, max_new_tokens=4, direct=False),
        batch_size=8,
        threads=1,
    )
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    assert any(metric.startswith("judge/") for _, metric in summary(folder))
