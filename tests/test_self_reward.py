"Self-rewarding from outside: what a mistake costs, recipes with loops in them, and the command line."

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as hf

from preflexor_lab.data.judges import PairwiseConfig, RewardConfig
from preflexor_lab.methods.self_reward import (
    ExternalRewardDPOConfig,
    SelfRewardDPOConfig,
    SelfRewardingTrainer,
    SFTConfig,
)
from preflexor_lab.models.endpoint import EndpointEngine
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path, weights_hash
from preflexor_lab.recipes.run import run_recipe
from preflexor_lab.recipes.schema import load_recipe
from preflexor_lab.runs.ledger import Ledger
from preflexor_lab.runs.stages import stage_seed
from preflexor_lab.tasks import materials_lab as world

hf.disable_progress_bar()
LAB = RewardConfig(
    "{{ prompt }}{{ response }}<|judge|>", r"score {{ reward }}", chat=False, neutral=False, answer_only=False
)
ITEMS = world.items(12, seed=5, hops=(5, 6), split="train")
FAST = dict(batch_size=4, num_epochs=1, learning_rate=1e-4)


def trainer(folder, config, stages=None, **more):
    name = str(nano_path("reasoner"))
    stages = stages or [
        SelfRewardDPOConfig(
            [i.prompt for i in ITEMS],
            6,
            gen_temperature=1.0,
            gen_top_p=1.0,
            gen_max_new_tokens=90,
            eval_max_new_tokens=100,
            num_sampled_reward_responses=1,
            trainer_kwargs=FAST,
        )
    ]
    return SelfRewardingTrainer(
        load_model(name, dtype=torch.float32),
        finetune_configs=stages,
        tokenizer=load_tokenizer(name),
        self_reward_prompt_config=config,
        checkpoints_folder=folder,
        progress=False,
        **more,
    )


def rows(folder):
    with Ledger(Path(folder) / "ledger.sqlite", readonly=True) as ledger:
        return ledger.counts(), {r["key"] for r in ledger.rows()}


def test_a_wrong_pattern_loses_nothing(tmp_path):
    "The stage stops with one line; with the pattern mended, every candidate and every judgement comes from the ledger."
    wrong = RewardConfig(LAB.prompt_template, r"points: {{ reward }}", chat=False, neutral=False, answer_only=False)
    with pytest.raises(ValueError, match="could be read") as e:
        trainer(tmp_path, wrong)()
    assert "\n" not in str(e.value) and "points" not in str(e.value)
    before, keys = rows(tmp_path)
    assert before["answer"] and before["vote"] and before["grade"] == before["vote"]
    trainer(tmp_path, LAB)()  # no stage was finished, so the mended settings are welcome
    after, more = rows(tmp_path)
    assert keys <= more
    assert (after["answer"], after["vote"]) == (before["answer"], before["vote"])
    with pytest.raises(ValueError, match="overwrite_checkpoints=True"):
        trainer(tmp_path, wrong)()


def test_judged_candidates_are_kept_whole(tmp_path):
    trainer(tmp_path, LAB)()
    seen = json.loads((tmp_path / "data" / "1.dpo.judged.json").read_text())
    assert seen["report"]["candidates"] == 4 * seen["report"]["prompts"]
    for j in seen["judged"]:
        assert len(j["candidates"]) == len(j["lengths"]) and (j["pairs"] or j["skipped"])
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"learning_rate", "loss", "rewards/margins"} <= set().union(*metrics)


def test_a_callable_an_earlier_stage_and_another_model_judge(tmp_path):
    "Three rounds with three judges; the one named by its stage is that stage's checkpoint."
    name = str(nano_path("critic"))
    base = dict(gen_temperature=1.0, gen_top_p=1.0, gen_max_new_tokens=90, trainer_kwargs=FAST, passes=2)
    prompts = [i.prompt for i in ITEMS]
    votes = dict(eval_max_new_tokens=100, num_sampled_reward_responses=1)
    stages = [
        ExternalRewardDPOConfig(prompts, 4, reward_model=lambda p, r: -len(r), **base),
        SelfRewardDPOConfig(prompts, 3, rewarding_model="1.dpo", **base, **votes),
        SelfRewardDPOConfig(
            prompts, 3, rewarding_model=(load_model(name, dtype=torch.float32), load_tokenizer(name)), **base, **votes
        ),
    ]
    trainer(tmp_path, LAB, stages)()
    with Ledger(tmp_path / "ledger.sqlite", readonly=True) as ledger:
        judges = {r["weights"] for r in ledger.rows("vote")}
    assert judges == {
        weights_hash(load_model(str(tmp_path / "checkpoints" / "1.dpo"))),
        weights_hash(load_model(name, dtype=torch.float32)),
    }


class Voter(BaseHTTPRequestHandler):
    "An endpoint whose points depend on a text's length, and which prefers the longer of two responses."

    def do_GET(self):
        self.answer(dict(object="list", data=[dict(id="judge", object="model")]))

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
        a, b = text.find("Response A:"), text.find("Response B:")
        said = (
            f"Score: {len(text) % 6}"
            if a < 0
            else "Better: A"
            if b - a > text.find("Which response") - b
            else "Better: B"
        )
        self.answer(
            dict(
                id="x",
                object="chat.completion",
                created=0,
                model="judge",
                choices=[dict(index=0, finish_reason="stop", message=dict(role="assistant", content=said))],
            )
        )

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        "Quiet."


@pytest.mark.parametrize(
    "config", [RewardConfig(answer_only=False), PairwiseConfig(answer_only=False)], ids=["points", "pairwise"]
)
def test_an_endpoint_judges(tmp_path, config):
    "Votes come from a server; pairwise judging reports its position bias."
    server = ThreadingHTTPServer(("127.0.0.1", 0), Voter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        engine = EndpointEngine(f"http://127.0.0.1:{server.server_port}/v1", "judge")
        stage = SelfRewardDPOConfig(
            [i.prompt for i in ITEMS[:4]],
            2,
            rewarding_model=engine,
            gen_temperature=1.0,
            gen_top_p=1.0,
            gen_max_new_tokens=90,
            num_sampled_reward_responses=1,
            num_candidate_responses=3,
            trainer_kwargs=FAST,
        )
        t = trainer(tmp_path, config, [stage])
        t()
    finally:
        server.shutdown()
    seen = json.loads((tmp_path / "data" / "1.dpo.judged.json").read_text())
    assert seen["report"]["pairs"] and not seen["report"]["invalid_votes"]
    bias = {r["metric"]: r["value"] for r in t.summary if r["metric"].startswith("position bias")}
    assert bias.get("position bias/flipped") == (0.0 if isinstance(config, PairwiseConfig) else None)


def test_a_stage_stops_early_and_keeps_its_best(tmp_path):
    "The evaluation is best after two steps of six: those weights are the stage's checkpoint."
    seen = []

    def falls(model):
        seen.append(weights_hash(model))
        return [0, 1, 0.5, 0.2][len(seen) - 1]

    demos = [dict(prompt=i.prompt, completion=i.completion) for i in ITEMS]
    stage = SFTConfig(
        demos,
        early_stopper_eval_module=falls,
        early_stopper_kwargs=dict(every=2, patience=2),
        trainer_kwargs=dict(FAST, num_epochs=4),
    )
    model = trainer(tmp_path, LAB, [stage])()
    assert len(seen) == 4 and weights_hash(model) == seen[1]


def test_stages_have_their_own_seeds(tmp_path):
    demos = [dict(prompt=i.prompt, completion=i.completion) for i in ITEMS]
    one = SFTConfig(demos, trainer_kwargs=FAST)
    t = trainer(tmp_path / "a", LAB, [one, SFTConfig(demos, trainer_kwargs=FAST)])
    assert len({stage_seed(s, n.name) for s in (0, 1) for n in t.stages}) == 4


def test_a_recipe_mixes_loops_and_phases(tmp_path):
    """eft, self_reward, orpo and spin in one recipe, with the ceiling and rft as controls; killed runs are covered
    elsewhere."""
    settings = [
        "pages=6",
        "hops=4,5",
        "eval.items=4",
        "eval.judged=4",
        "eval.direct=false",
        "reflect.rounds=0",
        "eval.samples=0",
        "critic=null",
        "eval.against=base,previous",
        "stages=[{kind: eft, questions: 6, samples: 4, judgements: 4, max_new_tokens: 128}, "
        "{kind: self_reward, questions: 10, samples: 4, max_new_tokens: 128}, "
        "{kind: orpo, questions: 6, max_new_tokens: 128}, {kind: spin, questions: 16, max_new_tokens: 128}]",
        "controls=[{kind: self_reward, name: exact, judge: exact, start: eft, questions: 10, samples: 4, "
        "max_new_tokens: 128}, {kind: rft, start: eft, samples: 2, max_new_tokens: 128}]",
    ]
    folder = run_recipe(load_recipe("demo", settings), tmp_path / "run", show=False)
    summary = json.loads((folder / "summary.json").read_text())
    found = {(r["stage"], r["metric"]) for r in summary}
    for label in ("base", "eft", "self_reward", "orpo", "spin", "exact", "rft"):
        assert (label, "strict") in found and (label, "judge/valid") in found
    assert ("orpo minus self_reward", "gain in strict") in found and (
        "orpo minus self_reward",
        "growth of thinking_tokens",
    ) in found
    assert ("self_reward minus base", "gain in sampled/strict") in found
    page = (folder / "report.html").read_text()
    assert "self_reward: a chosen text" in page and "spin: a chosen text" in page


def test_command_line_says_what_is_wrong(tmp_path):
    command = [
        str(Path(sys.executable).with_name("preflexor")),
        "run",
        "demo",
        "stages=[{kind: self_reward, questions: 4}]",
        "--run-dir",
        str(tmp_path / "r"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().count("\n") == 0 and "at least 2 candidates" in done.stderr
