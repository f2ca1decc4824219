"""Rollouts over HTTP: a server that speaks OpenAI's protocol with log-probabilities, as vLLM does, samples for LaTRO.

The server is a thread around `http.server` and a packaged model; the trainer asks it through `EndpointEngine`.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from preflexor_lab.methods.latro import LaTROConfig, LaTROTrainer
from preflexor_lab.models.endpoint import EndpointEngine
from preflexor_lab.models.engine import EngineError
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.text.markers import THINK_END
from preflexor_lab.training.callbacks import make_arguments
from preflexor_lab.training.policy_gradient import PolicyConfig, PolicyTrainer

NAME = str(nano_path("novice"))


class Server:
    "A context manager; `logprobs=False` answers as `transformers serve` does, without any. `seen` keeps the requests."

    def __init__(self, model, tokenizer, logprobs=True):
        self.engine, self.logprobs, self.seen, self.lock = (
            LocalEngine(model, tokenizer, weights="served"),
            logprobs,
            [],
            threading.Lock(),
        )
        self.tokenizer = tokenizer

    def __enter__(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner.lock:
                    owner.seen.append(asked)
                data = json.dumps(owner.answer(self.path, asked)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, asked):
        """One completion of a text, as vLLM answers `/v1/completions`: the stop string is cut off the text, its tokens
        stay in the log-probabilities."""
        assert path == "/v1/completions", path
        with self.lock:
            ((done,),) = self.engine.generate(
                [asked["prompt"]],
                max_new_tokens=asked["max_tokens"],
                temperature=asked["temperature"],
                seed=asked["seed"],
                stop=asked.get("stop"),
            )
        choice = {"index": 0, "text": done.text, "finish_reason": done.finish_reason, "logprobs": None}
        if self.logprobs and asked.get("logprobs") is not None:
            named = [
                f"token_id:{i}" if asked.get("return_tokens_as_token_ids") else self.tokenizer.decode([i])
                for i in done.ids
            ]
            choice["logprobs"] = {
                "tokens": named,
                "token_logprobs": list(done.logps),
                "top_logprobs": None,
                "text_offset": [],
            }
        if asked.get("return_token_ids"):
            choice["token_ids"] = list(done.ids)
        return {
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": asked["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": len(done.ids),
                "total_tokens": done.prompt_tokens + len(done.ids),
            },
        }


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(NAME)


def weights(noise=0.0):
    "The packaged novice, with Gaussian noise on every weight."
    model, draw = load_model(NAME, dtype=torch.float32), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(noise * torch.randn(p.shape, generator=draw))
    return model


def latro(folder, model, tokenizer, server, **options):
    """A trainer of two steps whose rationales come from the server; `ratios` keeps what `importance` saw: log π - log
    μ, and the weight."""
    items = world.items(4, seed=5, hops=(3, 4), split="train")
    rows = [dict(queries=i.prompt, responses=f" {i.answer}", groundtruth=i.answer) for i in items]
    args = make_arguments(
        LaTROConfig,
        folder,
        rloo_k=4,
        per_device_train_batch_size=8,
        response_length=80,
        learning_rate=1e-4,
        max_steps=2,
        optim="sgd",
        logging_steps=1,
    )
    asks = dict(api="completions", logprobs=True, extra=dict(return_token_ids=True), max_retries=0) | options
    trainer = LaTROTrainer(model, args, rows, tokenizer, engine=EndpointEngine(server.url, "novice", **asks))
    trainer.ratios, importance = [], trainer.importance

    def watched(total, batch):
        weight = importance(total, batch)
        trainer.ratios.append((total.detach() - batch["sampled_logp"], weight, batch["finished"]))
        return weight

    trainer.importance = watched
    return trainer


def test_the_same_weights_have_a_ratio_of_one(tmp_path, tokenizer):
    """The server has the weights that are trained, at every step: each log-ratio is within 1e-4 of 0, the token that
    ends a rationale included."""
    model = weights()
    with Server(model, tokenizer) as server:
        trainer = latro(tmp_path, model, tokenizer, server)
        before = [p.detach().clone() for p in model.parameters()]
        trainer.train()
    assert trainer.state.global_step == 2 and len(trainer.ratios) == 2
    for log, weight, _ in trainer.ratios:
        assert len(log) == 8 and log.abs().max() < 1e-4
        assert (weight - 1).abs().max() < 1e-4
    assert any(finished.any() for *_, finished in trainer.ratios), "rationales that ended are known as such"
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert len(server.seen) == 16
    for asked in server.seen:
        assert (
            asked["logprobs"],
            asked["return_token_ids"],
            asked["temperature"],
            asked["max_tokens"],
            asked["stop"],
        ) == (1, True, 1.0, 80, [THINK_END])


def test_yesterdays_weights_and_others_have_not(tmp_path, tokenizer):
    """A server that keeps the first weights is off after a step; one with noise on its weights is off at once, and no
    weight exceeds the cap."""
    with Server(weights(), tokenizer) as server:
        trainer = latro(tmp_path / "old", weights(), tokenizer, server)
        trainer.train()
    first, second = (log.abs().max() for log, *_ in trainer.ratios)
    assert first < 1e-4 < 1e-3 < second
    with Server(weights(noise=0.01), tokenizer) as server:
        trainer = latro(tmp_path / "noisy", weights(), tokenizer, server)
        trainer.train()
    logs, weight = (torch.cat(x) for x in list(zip(*trainer.ratios))[:2])
    assert logs.abs().median() > 0.1
    torch.testing.assert_close(weight, logs.exp().clamp(max=2.0))
    assert (logs.exp() > 2).any() and weight.max() == 2.0


def test_ids_as_texts_of_tokens(tmp_path, tokenizer):
    "The older way in which vLLM tells ids."
    model = weights()
    with Server(model, tokenizer) as server:
        trainer = latro(tmp_path, model, tokenizer, server, extra=dict(return_tokens_as_token_ids=True))
        trainer.train()
    assert max(log.abs().max() for log, *_ in trainer.ratios) < 1e-4


def test_without_log_probabilities_or_ids_it_is_refused(tmp_path, tokenizer):
    """A server that sends no log-probabilities, a client that does not ask for them, and one that does not ask for ids:
    one line each."""
    model = weights()
    for served, asks, said in (
        (False, {}, "returned no log-probabilities"),
        (True, dict(logprobs=False), "returned no log-probabilities"),
        (True, dict(extra={}), "told no token ids"),
    ):
        with Server(model, tokenizer, logprobs=served) as server, pytest.raises(EngineError, match=said) as refused:
            latro(tmp_path, model, tokenizer, server, **asks).train()
        assert "\n" not in str(refused.value) and server.seen


class Words(Server):
    "Tells the texts of tokens, and not their ids; `change` may falsify what it says."

    def __init__(self, model, tokenizer, change=lambda choice, usage: None):
        super().__init__(model, tokenizer)
        self.change = change

    def answer(self, path, asked):
        said = super().answer(path, dict(asked, return_token_ids=False))
        self.change(said["choices"][0], said["usage"])
        return said


def other_tokens(choice, usage):
    "As many tokens, cut elsewhere."
    names = choice["logprobs"]["tokens"]
    at = next(i for i, n in enumerate(names[:-1]) if len(n) > 1 and not n.startswith("<") and len(names[i + 1]) > 1)
    names[at : at + 2] = [names[at][:-1], names[at][-1] + names[at + 1]]


def one_more_token(choice, usage):
    "A token that the text does not have."
    choice["logprobs"]["tokens"].append("!")
    choice["logprobs"]["token_logprobs"].append(-1.0)
    choice["logprobs"]["tokens"].append("?")
    choice["logprobs"]["token_logprobs"].append(-1.0)


def another_prompt(choice, usage):
    "The prompt inside a chat template of the server."
    usage["prompt_tokens"] += 7


def rloo(folder, model, tokenizer, server):
    "A trainer of one step whose samples come from the server as text."
    rows = [dict(prompt=i.prompt) for i in world.items(2, seed=5, hops=(3, 4), split="train")]
    args = make_arguments(
        PolicyConfig, folder, rloo_k=2, per_device_train_batch_size=4, response_length=40, max_steps=1, optim="sgd"
    )
    engine = EndpointEngine(server.url, "novice", api="completions", logprobs=True, max_retries=0)
    return PolicyTrainer(model, args, rows, tokenizer, tool=lambda p, r, row: float(len(r)), engine=engine)


def test_a_sample_told_as_text_is_trained_when_it_reads_as_the_same_tokens(tmp_path, tokenizer):
    model = weights()
    with Words(model, tokenizer) as server:
        trainer = rloo(tmp_path, model, tokenizer, server)
        groups = trainer.sample(trainer.train_dataset.rows)
    sampled = [r for g in groups for r in g if not r.error]
    assert len(sampled) >= 2
    for r in sampled:
        assert tokenizer.decode(r.ids).startswith(r.completion.text) and len(r.ids) == len(r.completion.logps)


@pytest.mark.parametrize(
    "change, said",
    [
        (other_tokens, "reads as other tokens than the endpoint sampled"),
        (one_more_token, "reads as other tokens than the endpoint sampled"),
        (another_prompt, "the endpoint read the prompt as"),
    ],
)
def test_a_sample_of_other_tokens_is_refused(change, said, tmp_path, tokenizer):
    model = weights()
    with Words(model, tokenizer, change) as server, pytest.raises(ValueError, match=said) as refused:
        rloo(tmp_path, model, tokenizer, server).train()
    assert "\n" not in str(refused.value)
