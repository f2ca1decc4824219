"""Damaged checkpoints, settings and run folders: one line before anything costly, never a traceback or a wrong answer.

Every case was seen to fail once; models are copies of the packaged novice with one thing wrong.
"""

import json
import logging
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from preflexor_lab.models.adapters import add_lora
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.recipes.cli import app
from preflexor_lab.recipes.schema import load_recipe
from preflexor_lab.text.markers import THINK_TAGS, answer_place, extract_text, read_sections, split_sections
from preflexor_lab.training.dpo import DPOConfig, DPOTrainer
from preflexor_lab.training.sft import SFTConfig, SFTTrainer

torch.set_num_threads(1)
QUESTION = "mass : iron= 4 . bone= iron +2 . what is bone ?"


def preflexor(*words):
    "Exit status, and what the command said."
    done = CliRunner().invoke(app, list(map(str, words)))
    return done.exit_code, done.output.strip()


@pytest.fixture
def novice(tmp_path):
    "A copy of the packaged novice that a test may damage."
    return Path(shutil.copytree(nano_path("novice"), tmp_path / "model"))


def not_a_number(folder):
    model = load_model(str(folder))
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_in_half(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def holding(name, text):
    def damage(folder):
        (folder / name).write_text(text)

    return damage


def new_tokens(folder):
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["mass", "bone"])
    tokenizer.save_pretrained(folder)


DAMAGE = {
    "a weight that is no number": (not_a_number, "hold values that are no numbers"),
    "pickled weights": (pickled, "no file named model.safetensors"),
    "weights cut in half": (cut_in_half, "incomplete metadata"),
    "a config that is no JSON": (holding("config.json", "{"), "not a valid JSON file"),
    "an empty config": (holding("config.json", "{}"), "Unrecognized model"),
    "a config that is a list": (holding("config.json", "[]"), "does not hold what its name says"),
    "an empty tokenizer": (holding("tokenizer.json", "{}"), "does not hold what its name says"),
    "a tokenizer config that is a list": (holding("tokenizer_config.json", "[]"), "does not hold what its name says"),
    "tokens without embeddings": (new_tokens, "has no embedding in this model"),
    "a template that is no Jinja": (holding("chat_template.jinja", "{% for %}"), "the chat template refuses"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model(kind, novice):
    damage, reason = DAMAGE[kind]
    damage(novice)
    status, said = preflexor("ask", QUESTION, "--model", novice, "--max-new-tokens", 4)
    assert reason in said and "Traceback" not in said and len(said.splitlines()) == 1
    assert status == 2 or said.startswith("failed:")


def adapter(folder, base):
    "A LoRA adapter on the packaged novice that names another base."
    add_lora(load_model(str(nano_path("novice"))), None, r=2).save_pretrained(folder)
    load_tokenizer(str(nano_path("novice"))).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))


def test_an_adapter_based_on_an_adapter(tmp_path):
    adapter(tmp_path / "itself", tmp_path / "itself")
    adapter(tmp_path / "one", tmp_path / "other")
    adapter(tmp_path / "other", tmp_path / "one")
    for name in ("itself", "one"):
        with pytest.raises(ValueError, match="names .* as its base model, which is an adapter itself"):
            load_model(str(tmp_path / name))


def test_a_pickled_adapter_is_read_only_when_asked_for(tmp_path):
    adapter(tmp_path / "adapter", nano_path("novice"))
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="adapter_model.bin, a pickle.*use_safetensors=False"):
        load_model(str(tmp_path / "adapter"))
    assert load_model(str(tmp_path / "adapter"), use_safetensors=False).peft_config


def test_ids_without_an_embedding(novice, tmp_path):
    "A sample that holds one fails alone; training on one is refused before the first step."
    new_tokens(novice)
    model, tokenizer = load_model(str(novice)), load_tokenizer(str(novice))
    bad, good = LocalEngine(model, tokenizer).generate([QUESTION, "hardness : gold= 4 ."], max_new_tokens=2)
    assert "has no embedding" in bad[0].error and not good[0].failed
    row = dict(prompt=QUESTION, completion=" 6", chosen=" 6", rejected=" 5")
    options = dict(use_cpu=True, report_to="none")
    for cls, config in ((SFTTrainer, SFTConfig), (DPOTrainer, DPOConfig)):
        with pytest.raises(ValueError, match="has no embedding in this model"):
            cls(
                model,
                args=config(str(tmp_path / "out"), **options),
                train_dataset=[row] * 2,
                processing_class=tokenizer,
            )


def test_training_that_diverged_gives_no_answers(novice):
    model, tokenizer = load_model(str(novice)), load_tokenizer(str(novice))
    model.model.norm.weight.data[:] = float("nan")
    for temperature in (0.0, 1.0):
        ((done,),) = LocalEngine(model, tokenizer).generate([QUESTION], max_new_tokens=4, temperature=temperature)
        assert done.failed and "its training diverged" in done.error


OVERRIDES = {
    "name=[": "not YAML",
    "name={": "not YAML",
    "seeds=[[[": "not YAML",
    "seeds=0,[": "not YAML",
    "stages=*x": "undefined alias",
    "seeds=" + "[" * 3000: "nested too deeply",
    "name=!!python/object:os.system": "could not determine a constructor",
    "name=2020-13-45": "month must be in 1..12",
    "name=a\x1b[31m": "not YAML",
    "stages=": "a list of stages",
    "stages.0=1": "a stage is a mapping",
    "stages.-1.epochs=1": "no place in a list",
    "a.b.c=1": "unknown recipe key",
    "=1": "write key=value",
    "eval=1": "recipe key 'eval'",
    "model=": "recipe key 'model'",
    "seeds=.nan": "a finite number",
    "seeds=1e400": "valid integer",
    "threads=99999999999999999999": "less than or equal to 1024",
    "name=../../x": "name",
}


@pytest.mark.parametrize("setting", OVERRIDES, ids=[s[:24].encode("unicode_escape").decode() for s in OVERRIDES])
def test_an_override_that_is_none(setting, tmp_path):
    status, said = preflexor("run", "demo", setting, "--run-dir", tmp_path / "run")
    assert status == 2 and OVERRIDES[setting] in said and said.startswith("preflexor: ")
    assert len(said.splitlines()) == 1 and "\x1b" not in said
    assert not (tmp_path / "run").exists()


FILES = {
    "deep lists": ("a: " + "[" * 5000, "nested too deeply"),
    "deep mappings": ("stages: " + "{a: " * 3000, "nested too deeply"),
    "an alias of nothing": ("a: &a [1]\nb: *c\n", "undefined alias 'c', line 2, column 4"),
    "another encoding": (b"name: caf\xe9\n", "is not YAML"),
    "a zero byte": (b"name: a\x00b\n", "is not YAML"),
    "a list": ("- a\n", "a mapping of keys was expected"),
    "nothing": ("", "a mapping of keys was expected"),
    "code": ("name: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_recipe_file_that_is_none(kind, tmp_path):
    text, reason = FILES[kind]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=reason) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, text", [("state.json", "{}"), ("state.json", "\0\0"), ("recipe.yaml", "- a")])
def test_a_damaged_run_folder(name, text, tmp_path):
    "Nothing is guessed, and nothing in the folder is touched."
    run = tmp_path / "run"
    run.mkdir()
    settings = load_recipe("demo").model_dump()
    (run / "recipe.yaml").write_text("# A run of preflexor_lab: this folder is written and cleared by it.\n")
    with (run / "recipe.yaml").open("a") as file:
        yaml.safe_dump(settings, file)
    (run / "state.json").write_text(json.dumps(dict(stages={"x": dict(rows=[])}, metrics_bytes=0)))
    head = (run / "recipe.yaml").read_text().splitlines(keepends=True)[0]
    (run / name).write_text((head if name == "recipe.yaml" else "") + text)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.name != "run.lock"}
    status, said = preflexor("run", "demo", "--run-dir", run)
    assert status == 2 and "put it back from a copy" in said and len(said.splitlines()) == 1
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != "run.lock"} == before


ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x9b31m", "\r", "\b\b", "\x00", "\u202e"]


@pytest.mark.parametrize("escape", ESCAPES, ids=[e.encode("unicode_escape").decode() for e in ESCAPES])
def test_what_commands_a_terminal_is_shown(escape, tmp_path, capfd):
    "In a message, in the log, and in what a ledger holds."
    from preflexor_lab.recipes.cli import _start_log
    from preflexor_lab.runs.ledger import Ledger, LedgerRow

    status, said = preflexor("inspect", tmp_path / f"no{escape}where".replace("\0", ""))
    assert status == 2 and (escape not in said or escape == "\0")
    _start_log(debug=False)
    logging.getLogger("preflexor_lab.data").warning("the server said %s", f"a{escape}b")
    assert escape not in capfd.readouterr().err
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add(LedgerRow("answer", f"t{escape}u", f"p{escape}q", engine_id="e", weights="w", error=f"e{escape}f"))
    for words in ((), ("--kind", "answer")):
        status, said = preflexor("inspect", tmp_path, *words)
        assert status == 0 and escape not in said


UNITS = {
    "sections": "<|thinking|>a<|/thinking|>",
    "starts": "<|thinking|>",
    "ends": "<|/thinking|>",
    "crossed": "<|thinking|><|reflect|>a<|/thinking|><|/reflect|>",
    "tags": "<think><graph>a</graph></think>",
    "tags without an end": "<graph>",
    "broken": "<|\\",
    "words": "word ",
}
READERS = [split_sections, read_sections, answer_place, extract_text, lambda text: split_sections(text, THINK_TAGS)]


def seconds(function, text):
    "CPU time of a call, the best of three."
    found = []
    for _ in range(3):
        start = time.process_time()
        function(text)
        found.append(time.process_time() - start)
    return min(found)


@pytest.mark.parametrize("kind", UNITS)
def test_reading_sections_takes_linear_time(kind):
    "Sixteen times the text takes far less than the 256 times of quadratic work."
    for read in READERS:
        assert seconds(read, UNITS[kind] * 4000) < 50 * max(seconds(read, UNITS[kind] * 250), 1e-3)


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def test_a_chat_template_without_end(novice):
    (novice / "chat_template.jinja").write_text(ENDLESS)
    status, said = preflexor("ask", QUESTION, "--model", novice)
    assert status == 2 and "the chat template took more than 5 s" in said


def test_a_judge_without_end():
    "The prompt of a judge is stopped; a pattern that explodes makes one vote invalid, with the reason."
    from preflexor_lab.data.judges import RewardConfig, read_vote
    from preflexor_lab.text.records import Completion

    slow = RewardConfig(reward_regex_template=r"(?:a|a)+{{ reward }}$", low=0, high=5)
    score, reason = read_vote(slow, Completion("a" * 60 + "b"))
    assert score is None and "took more than 2 s on a text of 61 characters" in reason
    assert read_vote(slow, Completion("aa4"))[0] == 4
    with pytest.raises(ValueError, match="took more than 5 s"):
        RewardConfig(reward_regex_template=ENDLESS + "{{ reward }}")


def test_a_pickled_classifier_is_refused(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    from preflexor_lab.tools.sentiment import Classifier

    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    pickled(tmp_path)
    with pytest.raises(ValueError, match="no file named model.safetensors"):
        Classifier(str(tmp_path))
