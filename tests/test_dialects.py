"Answers of servers as bytes, without a server: whatever comes is a completion, or a failure with one line."

import json
import random
import time
from email.utils import formatdate

import pytest

from preflexor_lab.models.dialects import (
    FINISH_WORDS,
    RequestFailed,
    adapt,
    clean_strings,
    decode,
    error_code,
    finish_kind,
    inflate,
    names_parameter,
    parse_body,
    read_answer,
    read_error,
    refused_parameters,
    server_words,
    short,
)
from preflexor_lab.models.endpoint import model_names, wait_seconds
from preflexor_lab.models.engine import GenerationParams
from preflexor_lab.text.records import Completion

# ---- any body ----

FIELDS = (
    "choices message content text index finish_reason logprobs token_logprobs tokens token logprob token_ids usage"
    " prompt_tokens completion_tokens completion_tokens_details reasoning_tokens reasoning_content reasoning thinking"
    " reasoning_details refusal tool_calls function_call function name type error code param detail loc msg metadata "
    " raw delta object data id models status"
).split()
WORDS = [
    "",
    " ",
    "stop",
    "length",
    "SAFETY",
    "error",
    "tool_calls",
    "eos",
    "thinking",
    "text",
    "refusal",
    "429",
    "<think>",
]
WORDS += [
    "</think>",
    "<|thinking|>",
    "\ud800",
    "\x00\x1b[2J",
    "\u2028",
    "x" * 3000,
    "seed",
    "not found m",
    "token_id:7",
]
NUMBERS = [0, 1, -1, 7, 2.5, 401, 403, 404, 500, 10**9, 10**400, -(10**30), 1e308, float("nan"), float("-inf")]


def anything(rng, depth=0):
    "A random JSON value, made of the names that servers use."
    kind = rng.random()
    if depth > 5 or kind < 0.15:
        return rng.choice(WORDS)
    if kind < 0.3:
        return rng.choice([*NUMBERS, None, True, False])
    if kind < 0.5:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(FIELDS): anything(rng, depth + 1) for _ in range(rng.randrange(1, 5))}


def spoiled(rng):
    "A proper answer with some of its values replaced at random."
    message = {"role": "assistant", "content": "gold", "reasoning_content": "so"}
    tokens = {"content": [{"token": "token_id:5", "logprob": -0.5}]}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": tokens, "token_ids": [5]}
    body = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    places = [body, choice, message, tokens, tokens["content"][0], body["usage"]]
    for _ in range(rng.randrange(4)):
        place = rng.choice(places)
        place[rng.choice([*place, rng.choice(FIELDS)])] = anything(rng, 3)
    return body


def stream(rng):
    "A stream of random events."
    events = [json.dumps(rng.choice([spoiled, anything])(rng)) for _ in range(rng.randrange(4))]
    return "".join(f"data: {e}\n\n" for e in rng.choice([events, [*events, "[DONE]"]]))


def read(text, kind, params):
    "What an engine does with a text."
    return read_answer(clean_strings(parse_body(text, kind), str), params, 50, model="m").completion


def check(function):
    "Run it; the completion, or the failure, which must be one line of a bearable length."
    try:
        done = function()
    except RequestFailed as failure:
        done = failure
    if isinstance(done, RequestFailed):
        assert done.kind in ("fatal", "retry", "item") and done.reason and len(done.reason) < 600
        assert done.reason.isprintable(), done.reason
        return None
    assert isinstance(done, Completion) and done.tokens < 50_000
    (done.text + done.error).encode()
    assert not done.failed or (done.error.isprintable() and len(done.error) < 600)
    return done


def test_random_bodies():
    rng, params, read_well, failed = random.Random(0), GenerationParams(max_new_tokens=40, stop=("o",)), 0, 0
    for i in range(20_000):
        body = rng.choice([spoiled, spoiled, anything])(rng)
        text = json.dumps(body) if i % 5 else stream(rng)
        done = check(lambda text=text: read(text, "", params))
        read_well += done is not None and not done.failed
        failed += done is None or done.failed
    assert read_well > 3000 and failed > 3000, "both ways must be taken"


def test_random_errors():
    rng, sent = random.Random(1), {"model": "m", "seed": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 4}
    for _ in range(10_000):
        text = json.dumps(anything(rng)) if rng.random() < 0.8 else rng.choice(WORDS)
        failure = read_error(
            rng.choice([400, 401, 403, 404, 422, 429, 500, 529, 600]), text, "", str, "m", rng.random() < 0.5
        )
        check(lambda failure=failure: failure)
        changed = adapt(sent, refused_parameters(failure, sent))
        assert {"model"} <= set(changed) <= {*sent, "max_completion_tokens"}


def test_random_bytes():
    rng, params = random.Random(2), GenerationParams()
    good = json.dumps(spoiled(random.Random(5))).encode()
    for _ in range(10_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = bytes(data[: rng.randrange(len(data) + 1)])
        kind = rng.choice(["", "application/json; charset=latin-1", "text/event-stream", "x; charset=utf-7"])
        encoding = rng.choice(["", "", "gzip", "deflate", "br"])
        check(lambda d=data, k=kind, e=encoding: read(decode(inflate(d, e, 10**5), k), k, params))


def test_random_lists_of_models():
    rng = random.Random(3)
    for _ in range(5_000):
        assert all(isinstance(name, str) for name in model_names(anything(rng)))


def test_random_waits():
    rng = random.Random(4)
    for _ in range(5_000):
        words = "".join(rng.choice("0123456789 .-+eEnaifGMT:,Wed Oct") for _ in range(rng.randrange(30)))
        assert 0 <= wait_seconds(rng.randrange(6), 0.5, {"retry-after": words}) <= 60


@pytest.mark.parametrize(
    "text",
    [
        "<" * 10**6,
        "<title" + " " * 10**6,
        "<title>" * 10**5,
        "data:" * 10**6,
        "data: \n" * 10**5,
        "\r\n" * 10**6,
        " " * 4 * 10**6,
        "\x00" * 10**6,
        '"' + "\\u0041" * 10**5 + '"',
    ],
    ids=lambda text: repr(text[:12]),
)
def test_no_text_takes_long(text):
    start = time.perf_counter()
    check(lambda: read(text, "", GenerationParams()))
    check(lambda: read_error(500, text))
    assert time.perf_counter() - start < 2


def test_no_words_take_long():
    start = time.perf_counter()
    for words in ("seed " * 10**5, "parameter " * 10**5, "'seed" * 10**5, "temperature " * 10**5 + "unsupported"):
        refused_parameters(RequestFailed("item", "", 400, words), {"seed": 1, "temperature": 0.0, "top_p": 1.0})
    assert time.perf_counter() - start < 4


def test_a_wait_until_a_date():
    assert 28 < wait_seconds(0, 0.5, {"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 30


# ---- the table of ends ----


def test_no_word_has_two_ends():
    words = [w for words in FINISH_WORDS.values() for w in words.split()]
    assert len(words) == len(set(words))
    assert all(finish_kind(w.upper().replace("_", "-")) == k for k, ws in FINISH_WORDS.items() for w in ws.split())


@pytest.mark.parametrize(
    "word", ["content_filter", "safety", "error", "length", "max_tokens", "recitation", "model_length"]
)
def test_errors_limits_and_filters_are_no_stop(word):
    body = {"choices": [{"message": {"content": "gold"}, "finish_reason": word}]}
    done = check(lambda: read(json.dumps(body), "", GenerationParams()))
    assert done is None or done.finish_reason != "stop"


# ---- words of servers ----

# body, words, code
SAID = [
    ({"error": {"message": "a", "code": 429}}, "a", 429),
    ({"error": {"message": "a", "code": "invalid_api_key"}}, "a", None),
    ({"error": "a", "error_type": "validation"}, "a", None),
    (
        {"code": "Client specified an invalid argument", "error": "Argument not supported: stop"},
        "Argument not supported: stop",
        None,
    ),
    ({"detail": "a"}, "a", None),
    ({"detail": [{"loc": ["body", "n"], "msg": "a"}, {"msg": "b"}]}, "body; n: a; b", None),
    ({"object": "error", "message": "a", "code": 400}, "a", 400),
    ({"message": {"detail": [{"loc": ["body", "seed"], "msg": "a"}]}}, "body; seed: a", None),
    ([{"error": {"code": 400, "message": "a", "status": "INVALID_ARGUMENT"}}], "a", 400),
    (
        {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "a"}}},
        "Provider returned error: a",
        502,
    ),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "a"}}, "a", None),
    ({"errors": ["a", "b"]}, "a; b", None),
    ("a", "a", None),
    ({"status": "503", "error": {"message": "a"}}, "a", 503),
    ({"error": {"code": True, "message": "a"}}, "a", None),
    ({"error": {"code": 40303}}, "", None),
    (None, "", None),
    (5, "", None),
]


@pytest.mark.parametrize("body,words,code", SAID, ids=str)
def test_words_and_codes(body, words, code):
    assert (server_words(body), error_code(body)) == (words, code)


# words of a 400, name → whether they speak of it as a parameter
NAMED = [
    ("Unsupported parameter: 'seed' is not supported", "seed", True),
    ('{\\"loc\\":[\\"body\\",\\"seed\\"],\\"msg\\":\\"Extra inputs are not permitted\\"}', "seed", True),
    ("body; seed: Extra inputs are not permitted", "seed", True),
    ("Unexpected fields in the request: {'seed', 'top_k'}", "top_k", True),
    ("Argument not supported on this model: stop", "stop", True),
    ("n must be 1 for this model", "n", True),
    ("deepseek-reasoner does not support the parameter logprobs", "logprobs", True),
    ("temperature and top_p cannot both be specified", "top_p", True),
    ("Please stop sending so much", "stop", False),
    ("a seed crystal grows", "seed", False),
    ("max_tokens is too large", "tokens", False),
    ("top_p is invalid", "p", False),
    ("top_k is invalid", "top_p", False),
    ("logprobs_of is unknown", "logprobs", False),
    ("an n-type semiconductor", "n", False),
]


@pytest.mark.parametrize("words,name,speaks", NAMED, ids=str)
def test_names_of_parameters(words, name, speaks):
    assert names_parameter(words, name) == speaks


def test_short_is_one_line():
    assert short(" a\n\tb\x1b[0m ") == "a b [0m" and len(short("x" * 10**6)) == 300
