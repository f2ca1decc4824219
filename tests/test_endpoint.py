"The endpoint engine against a real server on the packaged model, and against a server that misbehaves on request."

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from badserver import BadServer, ok

from preflexor_lab.models.endpoint import EndpointEngine, generate_OpenAI
from preflexor_lab.models.engine import EngineError
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.models.replay import ReplayEngine, record

FACTS = [
    "hardness : silver= 7 . gold= silver -3 . what is gold ?\n",
    "hardness : silver= 2 . gold= silver +5 . what is gold ?\n",
]


def engine(server, **options):
    "An engine for a bad server, with short waits."
    return EndpointEngine(server.url, "m", **({"backoff": 0.02, "timeout": 5.0, "max_retries": 3} | options))


def one(server, **options):
    "The single completion of a single prompt."
    return engine(server, **options).generate(["hello"])[0][0]


def error(status, message="says the server", **headers):
    "A step that answers with an error."
    return status, headers, {"error": {"message": message}}


# ---- the real server ----


@pytest.fixture(scope="module", autouse=True)
def process(request, tmp_path_factory):
    "`transformers serve` on the packaged reasoner, started at once, needed last; its process group is ended after."
    if not any("served" in item.fixturenames for item in request.session.items if item.module is request.module):
        yield None
        return
    program = Path(sys.executable).with_name("transformers")
    program = str(program) if program.exists() else shutil.which("transformers")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    nano = tmp_path_factory.mktemp("served") / "nano"
    shutil.copytree(request.getfixturevalue("nano"), nano)
    address = f"--host 127.0.0.1 --port {port}".split()
    running = subprocess.Popen(
        [program, "serve", str(nano), *address, "--device", "cpu", "--dtype", "float32"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    yield running, f"http://127.0.0.1:{port}", str(nano)
    os.killpg(running.pid, signal.SIGTERM)
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(10)


@pytest.fixture(scope="module")
def served(process):
    "(base URL, model id) of the real server, once it answers."
    running, address, model = process
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert running.poll() is None, "transformers serve ended at once: is transformers[serving] installed?"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return f"{address}/v1", model
        except OSError:
            time.sleep(0.3)
    pytest.fail("transformers serve did not answer within 120 s")


# ---- trouble that passes ----


@pytest.mark.parametrize(
    "trouble",
    [
        [error(429), error(429)],
        [error(500), error(502), error(503)],
        [error(408), error(409)],
        ["cut"],
        ["slam", "slam"],
        ["garbage"],
        ["html"],
        [{"choices": []}],
        [{}],
    ],
    ids=str,
)
def test_trouble_that_passes(trouble):
    with BadServer(*trouble, "at last") as server:
        done = one(server)
        assert (done.text, done.failed, done.tokens, done.prompt_tokens) == ("at last", False, 2, 3)
        assert len(server.seen) == len(trouble) + 1


def test_time_outs_are_tried_again():
    with BadServer("hang", "at last") as server:
        assert one(server, timeout=0.3).text == "at last"


def test_retry_after_is_honoured():
    with BadServer(error(429, **{"Retry-After": "0.6"}), "fine") as server:
        assert one(server, backoff=0.0).text == "fine"
        first, second = (seen["at"] for seen in server.seen)
        assert 0.6 <= second - first < 3


# ---- trouble that stays: data, not exceptions ----


@pytest.mark.parametrize(
    "step,reason",
    [
        (error(429, "slow down"), "429: slow down"),
        (error(503, "busy"), "503: busy"),
        ("hang", "timed out"),
        ("cut", "connection failed"),
        ("slam", "connection failed"),
        ("garbage", "not JSON"),
        ("html", "a web page came"),
    ],
    ids=str,
)
def test_trouble_that_stays(step, reason):
    with BadServer(step) as server:
        done = one(server, timeout=0.3, max_retries=1)
        assert done.failed and reason in done.error and "given up after 2 tries" in done.error
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    "step,reason",
    [
        ("", "returned nothing"),
        ("  \n", "returned nothing"),
        (ok(None), "returned nothing"),
        (ok(None, refusal="I will not"), "refused: I will not"),
        ({"choices": [ok("half")["choices"][0] | {"finish_reason": "content_filter"}]}, "filtered"),
        (error(400, "too long"), "400: too long"),
        ((422, {}, {"detail": "Unexpected fields"}), "422: Unexpected fields"),
    ],
    ids=str,
)
def test_an_unusable_answer_is_a_failed_completion(step, reason):
    with BadServer(step) as server:
        done = one(server)
        assert done.failed and reason in done.error and done.text == ""
        assert len(server.seen) == 1, "the same question would get the same answer"


def test_one_bad_item_leaves_the_others_alone():
    def mood(body):
        prompt = body["messages"][0]["content"]
        return error(400, "no") if "3" in prompt else ok("yes " + prompt)

    with BadServer(mood) as server:
        done = [row[0] for row in engine(server).generate([f"prompt {i}" for i in range(6)])]
        assert [c.failed for c in done] == [False, False, False, True, False, False]
        assert done[5].text == "yes prompt 5"


# ---- trouble for everybody: one line ----


@pytest.mark.parametrize(
    "step,say",
    [
        (error(401, "bad key"), "api_key"),
        (error(403, "not yours"), "api_key"),
        (error(404, "no such model"), "model's id"),
        (error(400, "the model m does not exist"), "model's id"),
        ((429, {}, {"error": {"message": "pay", "code": "insufficient_quota"}}), "quota"),
    ],
    ids=str,
)
def test_fatal_answers(step, say):
    with BadServer(step) as server:
        with pytest.raises(EngineError, match=say) as caught:
            engine(server, concurrency=4).generate([str(i) for i in range(50)])
        assert server.url in str(caught.value) and "\n" not in str(caught.value)
        assert len(server.seen) <= 8, "the other prompts are not tried"


def test_nobody_there():
    with BadServer() as server:
        url = server.url
    start = time.monotonic()
    with pytest.raises(EngineError, match="nobody answers at") as caught:
        EndpointEngine(url, "m").generate(["a"] * 40)
    assert "\n" not in str(caught.value) and time.monotonic() - start < 5


def test_a_server_that_dies_on_the_way():
    with BadServer() as server:
        client = engine(server)
        assert client.generate(["a"])[0][0].text == "fine"
    with pytest.raises(EngineError, match="nobody answers at"):
        client.generate(["a"] * 10)


# ---- many at once ----


def test_concurrency_is_used_and_bounded():
    with BadServer(lambda body: ok(body["messages"][0]["content"]), latency=0.1) as server:
        start = time.monotonic()
        done = engine(server, concurrency=10).generate([f"p{i}" for i in range(30)])
        assert [row[0].text for row in done] == [f"p{i}" for i in range(30)]
        assert 5 <= server.busiest <= 10 and time.monotonic() - start < 2.5


def test_samples_are_requests_with_seeds_of_their_own():
    with BadServer() as server:
        rows = engine(server).generate(["a", "b"], n=3, temperature=0.7, max_new_tokens=11, stop=["END"], seed=4)
        bodies = [seen["body"] for seen in server.seen]
        assert sorted(b["seed"] for b in bodies) == sorted(c.seed for row in rows for c in row)
        assert len({b["seed"] for b in bodies}) == 6
        for body in bodies:
            assert (body["max_tokens"], body["temperature"], body["stop"]) == (11, 0.7, ["END"]) and "n" not in body


def test_a_server_that_ignores_the_temperature_is_noticed(caplog):
    with BadServer() as server, caplog.at_level(logging.WARNING, logger="preflexor_lab.models.endpoint"):
        client = engine(server)
        client.generate(["a", "b"], n=3)
        assert not caplog.records
        for _ in range(2):
            client.generate(["a", "b"], n=3, temperature=1.0)
        assert len(caplog.records) == 1 and "do_sample" in caplog.text


def test_inside_a_running_loop():
    with BadServer() as server:

        async def notebook():
            return one(server).text

        assert asyncio.run(notebook()) == "fine"


def test_budget():
    with BadServer() as server:
        client = engine(server, concurrency=1, token_budget=12)
        done = [row[0] for row in client.generate(list("abcdef"))]
        assert [c.failed for c in done] == [False] * 3 + [True] * 3 and "token budget of 12 is used up" in done[3].error
        assert len(server.seen) == 3 and client.generate(["g"])[0][0].failed


def test_stop_strings_and_logprobs_of_the_server():
    answer = ok("gold END more")
    token = {"token": "gold", "logprob": -0.25, "bytes": None, "top_logprobs": []}
    answer["choices"][0]["logprobs"] = {"content": [token]}
    with BadServer(answer) as server:
        done = engine(server, logprobs=True).generate(["x"], stop=["END"])[0][0]
        assert (done.text, done.logps, done.finish_reason) == ("gold ", (-0.25,), "stop")
        assert server.seen[0]["body"]["logprobs"] is True


def test_keys_stay_where_they_belong(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with BadServer() as server:
        one(server)
        one(server, api_key="mine")
        assert [seen["headers"]["authorization"] for seen in server.seen] == ["Bearer none", "Bearer mine"]


def test_generate_openai():
    with BadServer("seven", ok(None, refusal="no")) as server:
        past = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        text, messages = generate_OpenAI(
            prompt="How hard is silver?", messages=past, base_url=server.url, model="m", presence_penalty=0.5
        )
        assert text == "seven" and len(past) == 2
        assert messages[-1] == {"role": "assistant", "content": "seven"} and len(messages) == 4
        assert server.seen[0]["body"]["presence_penalty"] == 0.5 and "frequency_penalty" not in server.seen[0]["body"]
        with pytest.raises(EngineError, match="refused: no"):
            generate_OpenAI(prompt="x", base_url=server.url, model="m")


def test_record_and_replay(tmp_path):
    path = tmp_path / "calls.jsonl"
    prompts, how = ["a", [{"role": "user", "content": "b"}]], {"n": 2, "temperature": 1.0, "seed": 1}
    with BadServer(lambda body: ok(str(body["seed"])), latency=0) as server:
        first = record(engine(server), path).generate(prompts, **how)
    assert ReplayEngine(path).generate(prompts, **how) == first
    with pytest.raises(EngineError, match="no sample 0 for 'a' with seed=2"):
        ReplayEngine(path).generate(["a"], temperature=1.0, seed=2)


# ---- the real server, last, so that it had time to start ----


def test_real_server_says_what_the_weights_say(served, nano):
    from preflexor_lab.models.loading import load_model, load_tokenizer

    url, model = served
    local = LocalEngine(load_model(nano, dtype="float32"), load_tokenizer(nano))
    expected = [row[0].text for row in local.generate(FACTS, max_new_tokens=60)]
    for api in ("chat", "completions"):
        prompts = FACTS if api == "completions" else [[{"role": "user", "content": f}] for f in FACTS]
        done = [row[0] for row in EndpointEngine(url, model, api=api, timeout=60).generate(prompts, max_new_tokens=60)]
        assert [c.text for c in done] == expected and all(c.tokens and c.prompt_tokens and not c.failed for c in done)
    assert "<|thinking|>" in expected[0] and "<|/thinking|>" in expected[0]


def test_real_server_samples(served):
    url, model = served
    client = EndpointEngine(url, model, timeout=60, concurrency=1)
    first, again = (client.generate(["hardness"], n=4, temperature=2.0, max_new_tokens=12)[0] for _ in range(2))
    assert len(first) == 4 and not any(c.failed for c in first) and len({c.text for c in first}) > 1
    assert [c.text for c in first] == [c.text for c in again], "the server takes our seeds"


def test_real_server_generate_openai_and_wrong_model(served):
    url, model = served
    text, messages = generate_OpenAI(
        prompt=FACTS[0], system_prompt="", base_url=url, model=model, temperature=0.0, max_tokens=60
    )
    assert text and messages[-1]["content"] == text
    with pytest.raises(EngineError, match="model's id"):
        EndpointEngine(url, "nope", timeout=60).generate(FACTS)


def preflexor(root, *words):
    "The command as a user types it, in a process of its own."
    command = [sys.executable, "-c", "from preflexor_lab.recipes.cli import main; main()", *words]
    return subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def teachers_of(folder):
    "Engines that wrote the thinking of a run."
    from preflexor_lab.runs.ledger import Ledger

    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        return " ".join({row["engine_id"] for row in ledger.rows("thinking") if row["engine_id"]})


def test_a_whole_run_with_a_served_teacher(served, root, tmp_path):
    "The recipe of a mini run with two settings changed: the model's folder, and the server's address."
    url, model = served
    done = preflexor(
        root,
        "run",
        "tests/recipes/mini.yaml",
        "--run-dir",
        str(tmp_path / "run"),
        f"model={model}",
        f"teacher.url={url}",
        "teacher.max_new_tokens=24",
        "teacher.concurrency=2",
        "teacher.categories=one,two",
        "stages.0.questions=8",
        "stages.1.questions=12",
        "eval.items=4",
        "eval.max_new_tokens=64",
        "stages.0.max_new_tokens=64",
        "stages.1.max_new_tokens=64",
        "reflect.items=2",
    )
    assert done.returncode == 0, done.stderr
    assert url.split("//")[1] in teachers_of(tmp_path / "run")
    measured = {(r["stage"], r["metric"]) for r in json.loads((tmp_path / "run" / "summary.json").read_text())}
    assert {("base", "strict"), ("orpo", "strict"), ("exo", "strict"), ("orpo", "pairs"), ("exo", "pairs")} <= measured
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "model" / "config.json").is_file()


def test_the_papers_recipe_with_a_served_teacher(served, root, shared_data, tmp_path):
    "LoRA, real documents, two rounds of Phase II and reflection, as for a real model; only the sizes are cut down."
    url, model = served
    (tmp_path / "papers").mkdir()
    for file in sorted((shared_data / "chemistry").glob("m510*.md")):
        shutil.copy(file, tmp_path / "papers")
    done = preflexor(
        root,
        "run",
        "papers",
        f"corpus={tmp_path / 'papers'}",
        f"model={model}",
        f"teacher.url={url}",
        "--run-dir",
        str(tmp_path / "run"),
        "teacher.max_new_tokens=24",
        "teacher.concurrency=2",
        "eval.max_length=256",
        "stages.0.max_length=256",
        "stages.1.max_length=256",
        "stages.0.questions=4",
        "stages.1.questions=8",
        "eval.items=6",
        "eval.max_new_tokens=32",
        "stages.0.max_new_tokens=32",
        "stages.1.max_new_tokens=32",
        "reflect.items=2",
        "reflect.max_new_tokens=48",
        "threads=1",
    )
    assert done.returncode == 0, done.stderr
    assert url.split("//")[1] in teachers_of(tmp_path / "run")
    measured = {(r["stage"], r["metric"]) for r in json.loads((tmp_path / "run" / "summary.json").read_text())}
    assert {
        ("base", "accuracy"),
        ("exo.2", "accuracy"),
        ("exo.2", "preference_accuracy"),
        ("exo.2", "reward_accuracy"),
        ("reflect.1", "accuracy"),
    } <= measured
    unmerged = tmp_path / "run" / "model" / "adapter_config.json"
    assert not unmerged.exists(), "the adapter must be merged into the model that is shipped"


def test_an_open_turn_is_continued_where_the_server_can(caplog):
    open_turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = {"continue_final_message": True, "add_generation_prompt": False}
    with BadServer() as server:
        engine(server).generate([open_turn, [open_turn[0]]])
        bodies = sorted((seen["body"] for seen in server.seen), key=lambda body: len(body["messages"]))
        assert not asked.keys() & bodies[0].keys() and asked.items() <= bodies[1].items()
    refusal = (422, {}, {"detail": "Unexpected fields in the request: {'continue_final_message'}"})
    with BadServer(refusal, "fine") as server, caplog.at_level("WARNING"):
        client = engine(server, concurrency=1)
        done = client.generate([open_turn, open_turn])
        assert [c.text for (c,) in done] == ["fine"] * 2 and len(server.seen) == 3
        assert not asked.keys() & server.seen[-1]["body"].keys()
        assert len(caplog.records) == 1 and "cannot go on with an open turn" in caplog.text
