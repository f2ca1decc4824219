"The endpoint engine against a real server on the packaged model, and against a server that misbehaves on request."

import asyncio
import gzip
import html
import itertools
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
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from badserver import PROFILES, REPLY, THOUGHT, BadServer, ok

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


# ---- bodies of any shape: one failed row with the server's own words, and the batch goes on ----

HTML = "<html><head><title>Sign in to WiFi</title></head><body>Welcome</body></html>"


def raw(data, kind="application/json", status=200, **headers):
    "A step that sends these bytes."
    return status, {"Content-Type": kind} | headers, data if isinstance(data, bytes) else data.encode()


def events(*pieces, done=True):
    "A step that streams, although nobody asked for it."
    data = [f": ping\n\ndata: {json.dumps(p)}\n\n" for p in pieces] + ["data: [DONE]\n\n"] * done
    return raw("".join(data), "text/event-stream")


def delta(finish=None, **message):
    "One event of a stream."
    return {"choices": [{"index": 0, "delta": message, "finish_reason": finish}]}


def choices(*texts):
    "A body with choices of these indices and texts."
    made = [{"index": i, "finish_reason": "stop", "message": {"content": text}} for i, text in texts]
    return {"choices": made, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def said(**message):
    "A proper answer whose message is this."
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


RETRIED = " (given up after 2 tries)"
# step, words of the error, requests
REFUSED_BODIES = {
    "error under 200": ({"error": {"message": "no capacity"}}, "an error came under status 200: no capacity", 2),
    "error under 200, code 400": ({"error": {"code": 400, "message": "too long"}}, "400: too long", 1),
    "error under 200, code as text": ({"error": {"code": "503", "message": "full"}}, "503: full" + RETRIED, 2),
    "error as a string": ({"error": "no such luck"}, "an error came under status 200: no such luck", 2),
    "error beside choices": (ok("x") | {"error": {"code": 500, "message": "broke"}}, "500: broke", 2),
    "message without an error": ({"object": "error", "message": "bad luck", "code": 40303}, "bad luck", 2),
    "login page": (raw(HTML, "text/html"), "a web page came instead of an answer: 'Sign in to WiFi'", 2),
    "login page called JSON": (raw(HTML), "a web page came instead of an answer: 'Sign in to WiFi'", 2),
    "string": (raw('"quota exceeded for today"'), "quota exceeded for today", 2),
    "list of strings": (raw('["quota", "exceeded"]'), "quota; exceeded", 2),
    "list": (raw("[]"), "holds no choice ([])", 2),
    "null": (raw("null"), "holds no choice (null)", 2),
    "number": (raw("42"), "holds no choice (42)", 2),
    "empty": (raw(""), "not JSON but empty", 2),
    "no content": (raw("", status=204), "not JSON but empty", 2),
    "words": (raw("upstream connect error", "text/plain"), "not JSON (upstream connect error)", 2),
    "truncated": (raw(json.dumps(ok())[:60]), "not JSON", 2),
    "two bodies": (raw(json.dumps(ok()) * 2), "not JSON", 2),
    "deep": (raw('{"choices": ' + "[" * 90 + "]" * 90 + "}"), "nested more than 50 levels", 1),
    "deeper": (raw("[" * 100_000), "not JSON", 2),
    "choices []": ({"choices": []}, "holds no choice", 2),
    "choices null": ({"choices": None, "usage": None}, "holds no choice", 2),
    "choices a string": ({"choices": "none"}, "holds no choice", 2),
    "choice null": ({"choices": [None]}, "holds no choice", 2),
    "message null": ({"choices": [{"message": None}]}, "has no message", 1),
    "message a string": ({"choices": [{"message": "hi"}]}, "has no message", 1),
    "message missing": ({"choices": [{"index": 0}]}, "has no message", 1),
    "content a number": (said(content=7), "the message is no text (7)", 1),
    "content a dict": (said(content={"answer": 7}), "the message is no text", 1),
    "content null": (said(content=None), "returned nothing", 1),
    "content missing": (said(role="assistant"), "returned nothing", 1),
    "content an image": (said(content=[{"type": "image_url"}]), "returned nothing", 1),
    "tool call": (said(content=None, tool_calls=[{"function": {"name": "search"}}]), "the tool 'search'", 1),
    "function call": (said(content="", function_call={"name": "search"}), "the tool 'search'", 1),
    "refusal": (said(content=None, refusal="I will not"), "the model refused: I will not", 1),
    "refusal as a part": (said(content=[{"type": "refusal", "refusal": "Not that"}]), "refused: Not that", 1),
    "not UTF-8": (raw(b'{"choices": [{"message": {"content": "gem\xe4\xdf"}}]}'), "not UTF-8", 2),
    "wrong gzip": (raw("{}", **{"Content-Encoding": "gzip"}), "not gzip, though", 2),
    "gzip cut short": (raw(gzip.compress(b"{}")[:-5], **{"Content-Encoding": "gzip"}), "cut short", 2),
    "gzip bomb": (raw(gzip.compress(bytes(2**24)), **{"Content-Encoding": "gzip"}), "unpacks to more than", 1),
    "odd encoding": (raw("x", **{"Content-Encoding": "zstd"}), "packed as zstd", 1),
    "stream that breaks off": (events(delta(content="go"), done=False), "broke off", 2),
    "stream with an error": (events(delta(content="go"), {"error": {"message": "gone"}}), "gone", 2),
    "stream of nonsense": (raw("data: {oops\n\n", "text/event-stream"), "not JSON", 2),
    "empty stream": (events(), "holds no choice", 2),
    "reset": ("reset", "connection failed", 2),
}


def the_odd_one(step):
    "The row between two good ones, which the server answers with `step`, and how many requests it saw."
    with BadServer(lambda body: step if body["messages"][0]["content"] == "odd" else ok("yes")) as server:
        rows = engine(server, max_retries=1, concurrency=1).generate(["before", "odd", "after"])
        assert [row[0].text for row in rows] == ["yes", "", "yes"]
        done = rows[1][0]
        return done, len(server.seen)


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_a_body_without_an_answer(name):
    step, words, requests = REFUSED_BODIES[name]
    done, seen = the_odd_one(step)
    assert done.failed and words in done.error and "\n" not in done.error and len(done.error) < 500
    assert ("given up after 2 tries" in done.error) == (requests == 2)
    assert seen == 2 + requests


OPENED = f"<|thinking|>\n{THOUGHT}\n<|/thinking|>\n\n{REPLY}"
GZIP = {"Content-Encoding": "gzip"}
# step, text, finish reason
READ_BODIES = {
    "JSON called text": (raw(json.dumps(ok(REPLY)), "text/plain"), REPLY, "stop"),
    "JSON called a page": (raw(json.dumps(ok(REPLY)), "text/html"), REPLY, "stop"),
    "blank lines first": (raw("\n   \n" * 50 + json.dumps(ok(REPLY))), REPLY, "stop"),
    "byte order mark": (raw(b"\xef\xbb\xbf" + json.dumps(ok(REPLY)).encode()), REPLY, "stop"),
    "declared encoding": (
        raw(json.dumps(ok("gemäß"), ensure_ascii=False).encode("latin-1"), "application/json; charset=iso-8859-1"),
        "gemäß",
        "stop",
    ),
    "half a surrogate pair": (raw(json.dumps(ok("iron \ud800 rusts"))), "iron \ufffd rusts", "stop"),
    "a whole pair": (raw(json.dumps(ok("iron \U0001f528"))), "iron \U0001f528", "stop"),
    "gzip not asked for": (raw(gzip.compress(json.dumps(ok(REPLY)).encode()), **GZIP), REPLY, "stop"),
    "parts": (said(content=[{"type": "text", "text": "Iron "}, {"type": "text", "text": "rusts."}]), REPLY, "stop"),
    "parts of strings": (said(content=["Iron ", "rusts."]), REPLY, "stop"),
    "text beside a tool": (said(content=REPLY, tool_calls=[{"function": {"name": "f"}}]), REPLY, "stop"),
    "text of the other protocol": ({"choices": [{"text": REPLY, "finish_reason": "stop"}]}, REPLY, "stop"),
    "out of order": (choices((1, "second"), (0, "first")), "first", "stop"),
    "twice the same index": (choices((0, "first"), (0, "again")), "first", "stop"),
    "index missing": (choices((None, "first")), "first", "stop"),
    "index of another": (choices((3, "third")), "third", "stop"),
    "stream": (events(delta(content="Iron "), delta(content="rusts."), delta("stop")), REPLY, "stop"),
    "stream with an end of its own": (events(delta(content=REPLY), delta("length"), done=False), REPLY, "length"),
    "stream called JSON": (raw(events(delta(content=REPLY))[2]), REPLY, "stop"),
    "stream with thinking": (
        events(delta(reasoning_content="Iron "), delta(reasoning_content="oxidises."), delta(content=REPLY)),
        OPENED,
        "stop",
    ),
    "redirect": ((307, {"Location": "/v1/chat/completions?again=1"}, b""), REPLY, "stop"),
    **{
        f: (said(content=REPLY, **{f: THOUGHT}), OPENED, "stop") for f in ("reasoning_content", "reasoning", "thinking")
    },
    "thinking twice": (said(content=REPLY, reasoning=THOUGHT, reasoning_content=THOUGHT), OPENED, "stop"),
    "thinking in parts": (
        said(content=[{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": REPLY}]),
        OPENED,
        "stop",
    ),
    "thinking with its tags": (said(content=REPLY, reasoning=f"<think>\n{THOUGHT}\n</think>"), OPENED, "stop"),
    "thinking in the content too": (
        said(content=f"<think>{THOUGHT}</think>{REPLY}", reasoning=THOUGHT),
        f"<think>{THOUGHT}</think>{REPLY}",
        "stop",
    ),
    "blank thinking": (said(content=REPLY, reasoning="\n\n"), REPLY, "stop"),
}


@pytest.mark.parametrize("name", READ_BODIES)
def test_a_body_of_an_odd_shape(name):
    step, text, finish = READ_BODIES[name]
    with BadServer(step, REPLY) as server:
        done = one(server, max_retries=0)
        assert (done.text, done.finish_reason, done.error) == (text, finish, "")
        assert len(server.seen) == (2 if name == "redirect" else 1)


def test_thinking_between_markers_of_ones_own():
    marked = {"thinking": ("[THINK]", "[/THINK]")}
    with BadServer(said(content=REPLY, reasoning="so [/THINK] what")) as server:
        text = one(server, markers=marked).text
    assert text == f"[THINK]\nso [\\/THINK] what\n[/THINK]\n\n{REPLY}"  # the end inside is broken


# word, finish reason of the completion ('retry': asked again, and failed at last), words of the error
ENDS = [
    *((w, "stop", "") for w in ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "STOP", "COMPLETE", None, "")),
    *((w, "length", "") for w in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_new_tokens")),
    *((w, "length", "") for w in ("moonrise", "unknown", 7, True, [])),
    *((w, "error", "filtered") for w in ("content_filter", "SAFETY", "recitation", "refusal", "sensitive")),
    *((w, "retry", "broke off") for w in ("error", "abort", "cancelled", "insufficient_system_resource")),
    *((w, "stop", "") for w in ("tool_calls", "function_call", "tool_use")),
]


@pytest.mark.parametrize("word,finish,words", ENDS)
def test_ends(word, finish, words):
    answer = ok(REPLY)
    answer["choices"][0]["finish_reason"] = word
    with BadServer(answer) as server:
        done = one(server, max_retries=1)
        assert done.finish_reason == ("error" if finish == "retry" else finish) and words in done.error
        assert done.text == ("" if done.failed else REPLY) and len(server.seen) == (2 if finish == "retry" else 1)
        assert not words or str(word) in done.error


def test_an_unknown_end_is_said_once(caplog):
    answer = ok(REPLY)
    answer["choices"][0]["finish_reason"] = "moonrise"
    with BadServer(answer) as server:
        client = engine(server)
        for _ in range(2):
            assert {c.finish_reason for (c,) in client.generate(list("abc"))} == {"length"}
    assert [r.getMessage().split(": ", 1)[1] for r in caplog.records] == [
        "its finish reason 'moonrise' is not known: such answers count as cut off"
    ]


def test_no_end_is_told_by_the_length():
    answer = ok("one two three", usage=None)
    answer["choices"][0]["finish_reason"], answer["usage"] = None, {"prompt_tokens": 3, "completion_tokens": 8}
    with BadServer(answer) as server:
        client = engine(server)
        ends = [client.generate(["a"], max_new_tokens=n)[0][0].finish_reason for n in (8, 9)]
    assert ends == ["length", "stop"]


# usage, tokens and prompt tokens of the completion, tokens spent (a token for four characters where they are not told)
USAGES = [
    ({"prompt_tokens": 3, "completion_tokens": 2}, 2, 3, 5),
    ({"input_tokens": 3, "output_tokens": 2}, 2, 3, 5),
    *(({"prompt_tokens": 3, "completion_tokens": n}, 3, 3, 6) for n in (10**9, 1e9, -5, "2", 2.0, True, None, [2], 0)),
    *(({"prompt_tokens": n, "completion_tokens": 2}, 2, 0, None) for n in (10**9, -3, "3", 3.5, None, {})),
    *((u, 3, 0, None) for u in (None, {}, [], "5", 7)),
]


@pytest.mark.parametrize("usage,tokens,prompt,spent", USAGES)
def test_counts_that_cannot_be_true(usage, tokens, prompt, spent, caplog):
    with BadServer(ok(REPLY) | {"usage": usage}) as server:
        client = engine(server)
        done = client.generate(["hello"])[0][0]
        body = json.dumps(server.seen[0]["body"])
    assert (done.text, done.tokens, done.prompt_tokens) == (REPLY, tokens, prompt)
    assert client.spent == (spent if spent is not None else -(-len(body) // 4) + tokens)
    believed = (tokens, prompt) == (2, 3)
    assert ("a token is counted for every four characters" in caplog.text) == (not believed)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "a", "logprob": None}]},
        {"content": [{"token": "a", "logprob": "-1"}]},
        {"content": [{"token": "a", "logprob": 10**400}]},
        {"content": [{"token": "a"}]},
        {"content": ["a", 5]},
        {"content": {"a": 1}},
        {"token_logprobs": [0.5], "tokens": ["a"]},
        {"token_logprobs": [-0.5] * 500, "tokens": ["a"] * 500},
        [],
        "none",
    ],
    ids=str,
)
def test_log_probabilities_that_are_none(logprobs):
    answer = ok(REPLY)
    answer["choices"][0]["logprobs"] = logprobs
    with BadServer(raw(json.dumps(answer))) as server:
        done = one(server, logprobs=True)
    assert (done.text, done.logps, done.tokens) == (REPLY, None, 2)


def test_nan_is_no_log_probability():
    answer = ok(REPLY)
    answer["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": float("nan")}]}
    with BadServer(raw(json.dumps(answer))) as server:
        assert one(server, logprobs=True).logps is None


# ---- time and size ----


@pytest.mark.parametrize("step", ["drip", "hang"])
def test_the_time_is_for_the_whole_answer(step):
    with BadServer(step) as server:
        start = time.monotonic()
        done = one(server, timeout=0.5, max_retries=1)
        assert done.failed and "timed out after 0.5 s" in done.error and len(server.seen) == 2
        assert time.monotonic() - start < 3


def test_a_body_without_an_end():
    with BadServer("endless") as server:
        done = one(server, timeout=20.0)
        assert done.failed and "longer than" in done.error and len(server.seen) == 1
        assert server.sent < 2**25, "nothing is read beyond the limit"


def test_a_long_answer_is_read_whole():
    text = "iron rusts " * 100_000
    with BadServer(ok(text) | {"usage": {"prompt_tokens": 3, "completion_tokens": 200_000}}) as server:
        done = engine(server).generate(["a"], max_new_tokens=200_000)[0][0]
        assert done.text == text and done.tokens == 200_000


def test_a_long_error_is_cut():
    with BadServer((400, {}, {"error": {"message": "no " * 10**6}})) as server:
        done = one(server)
        assert done.error.startswith("400: no no") and len(done.error) < 400


def test_errors_are_one_line_without_escapes():
    with BadServer(error(400, "bad\n\x1b[31mprompt\x07\u2028end")) as server:
        assert one(server).error == "400: bad [31mprompt end"


# ---- status codes ----

# step, words, requests for one prompt of three
STATUSES = {
    "moderation": ((403, {}, {"error": {"message": "Your input was flagged"}}), "403: Your input was flagged", 1),
    "payment": (error(402, "Insufficient credits"), "402: Insufficient credits", 1),
    "too large": (raw("<html><title>413 Too Large</title></html>", "text/html", 413), "413: 413 Too Large", 1),
    "filter of a prompt": ((400, {}, {"error": {"message": "management policy", "code": "content_filter"}}), "400", 1),
    "not here": (error(404, "no endpoint for this prompt"), "404: no endpoint", 1),
    "forbidden later": (error(403, "not this one"), "403: not this one", 1),
    "redirect later": (
        (302, {"Location": "https://user:pw@sso.example/login?key=1"}, b""),
        "https://sso.example/login",
        1,
    ),
    "not implemented": (error(501, "no"), "501: no", 1),
    "busy, HTML": (raw("<h1>Bad gateway</h1>", "text/html", 502), "502: Bad gateway", 2),
    "busy, nothing": (raw("", status=503), "503: without a word", 2),
    "overloaded": (error(529, "Overloaded"), "529: Overloaded", 2),
    "slow down": (error(429, "slow", **{"Retry-After": "0"}), "429: slow", 2),
    "slow down, date": (error(429, "slow", **{"Retry-After": formatdate(0)}), "429: slow", 2),
    "slow down, nonsense": (error(429, "slow", **{"Retry-After": "nan"}), "429: slow", 2),
    "string": (raw('"bad prompt"', status=400), "400: bad prompt", 1),
    "words": (raw("bad prompt", "text/plain", 400), "400: bad prompt", 1),
    "latin-1": (raw("schlimm: \u00e4".encode("latin-1"), "text/plain", 400), "400: schlimm: \ufffd", 1),
    "null": (raw("null", status=400), "400: without a word", 1),
    "gzip": (raw(gzip.compress(b'{"error": "packed"}'), status=400, **GZIP), "400: packed", 1),
    "in circles": ((307, {"Location": "/v1/chat/completions"}, b""), "redirects in circles", 1),
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_status_of_one_prompt(name):
    step, words, requests = STATUSES[name]
    done, seen = the_odd_one(step)
    assert words in done.error and "pw" not in done.error
    assert seen == 2 + (4 if name == "in circles" else requests)


@pytest.mark.parametrize(
    "step,say",
    [
        (raw("<title>Not Found</title>", "text/html", 404), "model's id"),
        (error(405, "Method Not Allowed"), "model's id"),
        ((301, {"Location": "https://other.example/v1/chat/completions"}, b""), "redirects to 'https://other.example"),
        ((307, {"Location": "http://127.0.0.1:1/v1/chat/completions"}, b""), "redirects to 'http://127.0.0.1/v1"),
        ({"error": {"code": 401, "message": "bad key"}}, "api_key"),
        ({"error": "model 'm' not found"}, "model's id"),
        (raw("Forbidden", "text/plain", 403), "api_key"),
        (error(407, "proxy"), "api_key"),
    ],
    ids=str,
)
def test_what_would_fail_every_time_ends_at_once(step, say):
    with BadServer(step) as server:
        with pytest.raises(EngineError, match=say) as caught:
            engine(server, concurrency=4).generate([str(i) for i in range(50)])
        assert "\n" not in str(caught.value) and len(server.seen) <= 8


def test_an_unknown_host():
    with pytest.raises(EngineError, match="nobody answers at") as caught:
        EndpointEngine("http://no-such-host.invalid/v1", "m", backoff=0.01).generate(["a"] * 20)
    assert "\n" not in str(caught.value)


# ---- parameters that a server refuses ----


def picky(*names, says="Unsupported parameter: '{}' is not supported with this model.", status=400):
    "A server that refuses these parameters, one after another."

    def answer(body):
        for name in names:
            if name in body:
                return status, {}, {"error": {"message": says.format(name), "param": None}}
        return ok("fine")

    return answer


SAYS = [
    "Unsupported parameter: '{}' is not supported with this model.",
    "Unrecognized request argument supplied: {}",
    "property `{}` is unsupported",
    '1 validation error: body.{0}: Extra inputs are not permitted "{0}"',
    "Argument not supported on this model: {}",
    "this model does not support the parameter {}",
    "{} is not allowed here",
]


@pytest.mark.parametrize("name", ["seed", "temperature", "top_p", "stop", "logprobs", "n", "top_k", "presence_penalty"])
@pytest.mark.parametrize("says", SAYS)
def test_a_refused_parameter_is_left_out_and_remembered(name, says, caplog):
    options = dict(temperature=0.7, stop=["END"], top_k=5, top_p=0.9)
    with BadServer(picky(name, says=says)) as server:
        client = engine(server, concurrency=1, logprobs=True, extra={"n": 1, "presence_penalty": 0.5})
        texts = [c.text for (c,) in client.generate(["a", "b"], **options) + client.generate(["c"], **options)]
        bodies = [seen["body"] for seen in server.seen]
    assert texts == ["fine"] * 3 and [name in b for b in bodies] == [True, False, False, False]
    assert set(bodies[0]) - set(bodies[1]) == {name}, "nothing else is left out"
    assert len([r for r in caplog.records if f"refuses {name}" in r.getMessage()]) == 1


def test_many_refused_parameters_come_to_an_end(caplog):
    names = ["seed", "top_p", "temperature", "stop"]
    with BadServer(picky(*names)) as server:
        client = engine(server, concurrency=8, max_retries=0)
        done = client.generate([str(i) for i in range(8)], temperature=0.5, stop=["x"])
        assert {c.text for (c,) in done} == {"fine"}
        assert len(server.seen) <= 8 * 5 and len(caplog.records) == len(names)
        before = len(server.seen)
        client.generate(["again"], temperature=0.5, stop=["x"])
        assert len(server.seen) == before + 1 and not set(names) & server.seen[-1]["body"].keys()


def test_a_parameter_that_cannot_be_left_out():
    step = (400, {}, {"error": {"message": "Unsupported parameter: 'messages' is not supported", "param": "messages"}})
    with BadServer(step) as server:
        assert "400: Unsupported parameter: 'messages'" in one(server).error and len(server.seen) == 1


def test_a_server_that_refuses_what_was_not_sent():
    with BadServer(error(400, "Unsupported parameter: 'logit_bias' is not supported")) as server:
        assert "logit_bias" in one(server).error and len(server.seen) == 1


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 512 tokens. However, you requested 600 tokens (344 in the messages, 256"
        " in the completion). Please reduce the length of the messages or completion.",
        "The prompt was filtered: invalid request to stop the growth of a seed at this temperature",
        "invalid prompt: too long",
    ],
)
def test_other_refusals_leave_the_parameters_alone(words):
    with BadServer(error(400, words)) as server:
        client = engine(server)
        assert client.generate(["a"], stop=["x"])[0][0].error.startswith("400: ") and not client.refused
        assert len(server.seen) == 1


def test_a_refused_value_is_not_a_refused_parameter():
    def warm(body):
        if body.get("temperature") == 0:
            return 422, {}, {"error": "Input validation error: `temperature` must be strictly positive"}
        return ok("fine")

    with BadServer(warm) as server:
        client = engine(server)
        for temperature in (0.0, 0.7, 0.0):
            client.generate(["a"], temperature=temperature)
        sent = [seen["body"].get("temperature") for seen in server.seen]
    assert sent == [0.0, None, 0.7, None]


# ---- servers by name ----

USED_UP = "up in thinking and gave no answer"
# server, last word of the prompt, text, finish reason, words of the error, requests (two tries at most)
HABITS = [
    ("vLLM", "please", OPENED, "stop", "", 1),
    ("vLLM", "think", f"<|thinking|>\n{THOUGHT}", "error", f"all 256 tokens {USED_UP}", 1),
    ("vLLM", "long", "", "error", "400: 'max_tokens' or 'max_completion_tokens' is too large: 256", 1),
    ("vLLM", "abort", "", "error", "broke off (finish reason: abort)", 2),
    ("llama.cpp", "please", OPENED, "stop", "", 1),
    ("llama.cpp", "think", f"<|thinking|>\n{THOUGHT}", "error", USED_UP, 1),
    ("llama.cpp", "long", "", "error", "400: the request exceeds the available context size", 1),
    ("llama.cpp", "loading", "", "error", "503: Loading model", 2),
    ("Ollama", "please", OPENED, "stop", "", 1),
    ("Ollama", "think", f"<|thinking|>\n{THOUGHT}", "error", USED_UP, 1),
    ("Ollama", "dead", "", "error", "500: llama runner process has terminated: exit status 2", 2),
    ("Ollama", "load", "", "error", "returned nothing (finish reason: load)", 1),
    ("TGI", "please", REPLY, "stop", "", 3),
    ("TGI", "stopped", REPLY, "stop", "", 3),
    ("TGI", "cut", REPLY, "length", "", 3),
    ("TGI", "long", "", "error", "422: Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512", 3),
    ("TGI", "crowd", "", "error", "429: Model is overloaded", 4),
    ("TGI", "crash", "", "error", "424: Request failed during generation: out of memory", 4),
    ("OpenRouter", "please", OPENED, "stop", "", 1),
    ("OpenRouter", "flagged", "", "error", "403: m requires moderation on Provider. Your input was flagged", 1),
    ("OpenRouter", "poor", "", "error", "402: This request requires more credits", 1),
    ("OpenRouter", "late", "", "error", "502: Provider returned error: upstream is overloaded", 2),
    ("OpenRouter", "half", "", "error", "502: the provider hung up", 2),
    ("OpenRouter", "parameter", OPENED, "stop", "", 2),
    ("OpenAI, reasoning", "please", REPLY, "stop", "", 4),
    ("OpenAI, reasoning", "think", "", "error", f"all 256 tokens {USED_UP}", 4),
    ("Mistral", "please", OPENED, "stop", "", 2),
    ("Mistral", "cut", "Iron ru", "length", "", 2),
    ("Anthropic", "please", REPLY, "stop", "", 2),
    ("Anthropic", "cut", REPLY, "length", "", 2),
    ("Anthropic", "no", "", "error", "filtered the answer (finish reason: refusal)", 2),
    ("Anthropic", "crowd", "", "error", "529: Overloaded", 3),
    ("Gemini", "please", REPLY, "stop", "", 2),
    ("Gemini", "cut", REPLY, "length", "", 2),
    ("Gemini", "unsafe", "", "error", "filtered the answer (finish reason: SAFETY)", 2),
    ("Gemini", "copied", "", "error", "filtered the answer (finish reason: RECITATION)", 2),
]


@pytest.mark.parametrize("name,word,text,finish,words,requests", HABITS)
def test_habits_of_servers(name, word, text, finish, words, requests):
    with BadServer(PROFILES[name]) as server:
        done = engine(server, max_retries=1).generate([f"Does iron rust? {word}"])[0][0]
        assert (done.text, done.finish_reason) == (text, finish) and words in done.error
        assert len(server.seen) == requests
        assert done.failed or done.tokens == (70 if name == "OpenAI, reasoning" else 6)


@pytest.mark.parametrize("name", ["vLLM", "Ollama"])
def test_models_that_servers_do_not_have(name):
    with BadServer(PROFILES[name]) as server, pytest.raises(EngineError, match="model's id") as caught:
        EndpointEngine(server.url, "other").generate(["a please"] * 20)
    assert "other" in str(caught.value) and "not" in str(caught.value)


# ---- a key that the server repeats ----

KEY = 'sk-"Ab/1_9+xYz'
ESCAPED = "".join(f"\\u{ord(c):04x}" for c in KEY)
LONG = "x" * 290  # so that a cut at 300 characters falls into the key
ECHOES = {
    "finish reason": ok("x", usage=None) | {"choices": [ok()["choices"][0] | {"finish_reason": KEY}]},
    "thinking": said(content="x", reasoning=f"I was given {KEY}"),
    "refusal": said(content=None, refusal=f"no {KEY}"),
    "tool": said(content=None, tool_calls=[{"function": {"name": KEY}}]),
    "content that is no text": said(content={"key": KEY}),
    "token": ok("x") | {"choices": [ok()["choices"][0] | {"logprobs": {"content": [{"token": KEY, "logprob": -1.0}]}}]},
    "letters by number": raw('{"error": {"code": 400, "message": "' + ESCAPED + '"}}'),
    "events": events(delta(content=KEY[:5]), delta(content=KEY[5:])),
    "page": raw(f"<title>{KEY}</title>"),
    "no JSON": raw(f"key {KEY}"),
    "long words": error(400, LONG + KEY),
    "refused parameter": error(400, f"Unsupported parameter: 'seed' {KEY}"),
    "encoding": raw("x", **{"Content-Encoding": KEY}),
    "redirect": ((302, {"Location": f"https://sso.example/{KEY}"}, b"")),
    "model": error(404, f"no model for {KEY}"),
}


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_is_repeated_nowhere(name, caplog):
    with BadServer(ECHOES[name]) as server:
        client = engine(server, api_key=KEY, max_retries=0, logprobs=True)
        try:
            told = repr(client.generate(["x"])[0][0])
        except EngineError as e:
            told = str(e)
        assert server.seen[0]["headers"]["authorization"] == f"Bearer {KEY}"
    told += caplog.text + repr(client.said) + repr(client.calls)
    assert not [part for part in (KEY, KEY[:6], KEY[-6:], json.dumps(KEY)[1:-1]) if part in told], told


def test_a_key_is_not_among_the_models():
    with BadServer() as server:
        server.models = {"data": [{"id": "a"}, {"id": KEY}]}
        with pytest.raises(EngineError, match=r"one with model=: a, \*\*\*"):
            EndpointEngine(server.url, api_key=KEY)


def test_a_key_does_not_follow_a_redirect():
    with BadServer() as other, BadServer((307, {"Location": f"{other.url}/chat/completions"}, b"")) as server:
        with pytest.raises(EngineError, match="redirects to"):
            one(server, api_key=KEY)
        assert len(server.seen) == 1 and not other.seen


# ---- what becomes of a failed answer ----

# last word of a question → what the server sends, words of the row
TROUBLES = {
    "flagged": ((403, {}, {"error": {"message": "Your input was flagged"}}), "403: Your input was flagged"),
    "poor": (error(402, "Insufficient credits"), "402: Insufficient credits"),
    "wordy": ({"error": {"code": 400, "message": "too many words"}}, "400: too many words"),
    "shy": (said(content=None, refusal="I will not"), "the model refused: I will not"),
    "handy": (
        said(content=None, tool_calls=[{"function": {"name": "search"}}]),
        "the model called the tool 'search' instead of answering",
    ),
    "odd": (said(content={"x": 1}), 'the message is no text ({"x": 1})'),
}


def test_a_failed_answer_is_one_row_of_the_ledger(tmp_path):
    from preflexor_lab.runs.ledger import CachedEngine, Ledger

    def answer(body):
        return TROUBLES.get(body["messages"][0]["content"], ("fine", ""))[0]

    prompts = ["good", *TROUBLES, "well"]
    with BadServer(answer) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
        client = engine(server)
        client.generate(["good"])  # the key and the path are right: what follows concerns one prompt
        cached = CachedEngine(client, ledger, whole_batches=False)
        first, again = cached.generate(prompts), cached.generate(prompts)
        assert first == again and len(server.seen) == 1 + len(prompts), "a failed row is kept, and not asked again"
        assert [row[0].error for row in first] == ["", *(words for _, words in TROUBLES.values()), ""]
        rows = [dict(kind="completion", reason=words, n=1) for _, words in TROUBLES.values()]
        assert sorted(ledger.failures(), key=str) == sorted(rows, key=str)
        assert ledger.forget_failures() == len(TROUBLES)
        assert len(cached.generate(prompts)) == len(prompts) and len(server.seen) == 1 + len(prompts) + len(TROUBLES)


def test_a_teacher_keeps_its_failed_answers(tmp_path):
    from preflexor_lab.data.drafts import Excerpt
    from preflexor_lab.data.teachers import LLMTeacher
    from preflexor_lab.runs.ledger import CachedEngine, Ledger

    def answer(body):
        text = body["messages"][-1]["content"]
        if "Write one challenging question" in text:
            return said(content="What makes iron rust?", reasoning="An easy one.")
        if "hypothesis" in text:
            return TROUBLES["flagged"][0]
        return said(content=REPLY, reasoning=THOUGHT)

    with BadServer(answer) as server, Ledger(tmp_path / "ledger.sqlite") as ledger:
        made = LLMTeacher(CachedEngine(engine(server, concurrency=1), ledger), categories=["mechanism", "hypothesis"])
        (draft,) = made.make([Excerpt("Iron oxidises in air.", "iron")])
        assert not draft.error and "section missing: teacher failed: 403: Your input was flagged" in draft.notes
        assert draft.question.text == "What makes iron rust?" and draft.question.answer == REPLY
        assert THOUGHT not in draft.chosen, "the teacher's own thinking is not what the model shall think"
        assert ledger.failures() == [dict(kind="thinking", reason="403: Your input was flagged", n=1)]


def test_a_run_goes_on_and_reports_what_failed(root, tmp_path):
    "Every third answer of the teacher is none; the run ends well, and its report has the server's words."
    from preflexor_lab.runs.ledger import Ledger

    numbers, sent, troubles = itertools.count(1), [], list(TROUBLES.values())

    def answer(body):
        number = next(numbers)
        step, words = (
            troubles[number // 3 % len(troubles)] if number % 3 == 0 else (f"Why does iron {number} rust?", "")
        )
        sent.append(words)
        return step

    with BadServer(answer) as server:
        done = preflexor(
            root,
            "run",
            "tests/recipes/mini.yaml",
            *("--run-dir", str(tmp_path / "run"), f"teacher.url={server.url}", "teacher.model=m"),
            "stages=[{kind: orpo, questions: 8, batch_size: 2, max_new_tokens: 8}]",
            *("controls=[]", "reflect.rounds=0", "eval.items=2", "eval.max_new_tokens=8", "eval.direct=false"),
            "threads=1",
        )
    assert done.returncode == 0, done.stderr
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        failed = Counter()
        for f in ledger.failures():
            failed[f["reason"]] += f["n"]
    wanted = Counter(words for words in sent if words)
    assert len(sent) >= 30 and len(wanted) == len(TROUBLES)
    assert {words: failed[words] for words in wanted} == wanted, "each failed answer is one row"
    page = html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert all(words in page for words in wanted)


# ---- the list of models ----


@pytest.mark.parametrize(
    "models",
    [{"data": [{"id": "m"}]}, {"models": [{"name": "m", "model": "m"}]}, ["m"], [{"id": "m"}, {"id": "m"}]],
    ids=str,
)
def test_lists_of_models(models):
    with BadServer() as server:
        server.models = models
        assert EndpointEngine(server.url).model == "m"


@pytest.mark.parametrize(
    "models,say",
    [
        ({"data": None}, "lists 0 models"),
        ({"data": {}}, "lists 0 models"),
        ({"data": [None, 5, {}]}, "lists 0 models"),
        ([], "lists 0 models"),
        (raw(HTML, "text/html"), "a web page came instead of an answer: 'Sign in to WiFi'"),
        (raw("oops"), "not JSON"),
        (raw("null"), "lists 0 models"),
        (error(401, "who are you"), "refused the key with 401"),
        (error(404, "no list"), "answered 404"),
        ({"data": [{"id": "a"}, {"id": "b\x1b[31m"}]}, r"lists 2 models; choose one with model=: a, b \[31m"),
    ],
    ids=str,
)
def test_lists_without_one_model(models, say):
    with BadServer() as server:
        server.models = models
        with pytest.raises(EngineError, match=say) as caught:
            EndpointEngine(server.url)
    assert "\n" not in str(caught.value)


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
