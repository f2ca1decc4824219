"A small server that speaks OpenAI's protocol and misbehaves on request."

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def ok(text="fine", **message):
    "A proper answer of the chat API."
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


class BadServer:
    """A context manager around a threaded server; `url` is its base URL.

    `script` is a list of steps, one per request, the last one for all that follow. A step is a dict (sent as JSON),
    a string (the text of a proper answer), (status, headers, body), or one of the words "hang" (sleeps past any
    time-out), "cut" (half a body, then the connection is closed), "reset" (half a body, then it is reset), "slam"
    (closed before anything is sent), "garbage" (not JSON, though the header says so), "html" (a page), "drip" (a
    proper answer, a byte at a time for twenty seconds), "endless" (a body that never ends). `seen` keeps the requests,
    `busiest` the most requests under way at one time, `sent` the bytes of an endless body, `models` is what a list of
    models answers.
    """

    def __init__(self, *script, latency=0.0):
        self.script, self.latency, self.seen, self.busiest = list(script) or ["fine"], latency, [], 0
        self.models, self.sent = {"object": "list", "data": [{"id": "m", "object": "model"}]}, 0
        self.lock, self.busy, self.over = threading.Lock(), 0, threading.Event()

    def __enter__(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                owner.answer(self)

            def do_GET(self):
                owner.perform(self, owner.models)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 256

            def handle_error(self, request, client_address):
                pass  # clients hang up here on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler):
        "One request: note it, wait, and do what the script says."
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.busy += 1
            self.busiest = max(self.busy, self.busiest)
            step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            self.seen.append(
                {
                    "at": time.monotonic(),
                    "path": handler.path,
                    "body": body,
                    "headers": {k.lower(): v for k, v in handler.headers.items()},
                }
            )
        try:
            self.over.wait(self.latency)
            self.perform(handler, step(body) if callable(step) else step)
        finally:
            with self.lock:
                self.busy -= 1

    def perform(self, handler, step):
        "Send one step."
        if step == "hang":
            self.over.wait(30)
        if step in ("hang", "slam"):
            handler.close_connection = True
            return
        if step == "endless":
            self.pour(handler)
            return
        status, headers, data = 200, {}, step
        if isinstance(step, tuple):
            status, headers, data = step
        if step == "garbage":
            data = b'{"choices": [{"index'
        elif step == "html":
            headers, data = {"Content-Type": "text/html"}, b"<html>a proxy says hello</html>"
        elif step in ("cut", "reset", "drip"):
            data = json.dumps(ok()).encode()
        elif isinstance(data, str):
            data = ok(data)
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        handler.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if step == "drip":
            for byte in data:
                handler.wfile.write(bytes([byte]))
                if self.over.wait(20 / len(data)):
                    return
            return
        handler.wfile.write(data[: len(data) // 2] if step in ("cut", "reset") else data)
        if step == "reset":  # close at once and drop what is not sent yet
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if step in ("cut", "reset"):
            handler.wfile.flush()
            handler.close_connection = True

    def pour(self, handler):
        "A body without a length and without an end."
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while not self.over.is_set():
            handler.wfile.write(b" " * 2**16)
            self.sent += 2**16


# ---- servers by name: what each answers to the same request, written from their documentation and from issues ----

REPLY, THOUGHT = "Iron rusts.", "Iron oxidises."


def usage(prompt=9, completion=6, **more):
    "The usage block."
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion} | more


def chat(body, message, finish="stop", used=None, **more):
    "An answer in the shape that all of them share."
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant"} | message} | more
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": usage() if used is None else used,
    }


def wish(body):
    "What a test asks the server to do: the last word of the last message."
    return body["messages"][-1]["content"].split()[-1]


def vllm(body):
    "vLLM: thinking in `reasoning`, and in `reasoning_content` for older clients; nulls for all that is not used."

    def refuse(code, kind, message, param=None):
        return code, {}, {"error": {"message": message, "type": kind, "param": param, "code": code}}

    if body["model"] != "m":
        return refuse(404, "NotFoundError", f"The model `{body['model']}` does not exist.", "model")
    if wish(body) == "long":
        said = (
            "'max_tokens' or 'max_completion_tokens' is too large: 256. This model's maximum context length is 512"
            " tokens and your request has 400 input tokens (256 > 512 - 400). (parameter=max_tokens, value=256)"
        )
        return refuse(400, "BadRequestError", said)
    nulls = dict.fromkeys(["refusal", "annotations", "audio", "function_call"]) | {"tool_calls": []}
    if wish(body) == "abort":
        return chat(body, {"content": "Iron", **nulls}, "abort", stop_reason=None)
    if wish(body) == "think":
        said = {"reasoning": THOUGHT, "reasoning_content": THOUGHT}
        return chat(body, {"content": None, **said, **nulls}, "length", usage(9, body["max_tokens"]))
    said = {"content": f"\n\n{REPLY}", "reasoning": f"\n{THOUGHT}\n", "reasoning_content": f"\n{THOUGHT}\n"}
    answer = chat(body, said | nulls, stop_reason=None, logprobs=None, token_ids=None)
    return answer | {"prompt_logprobs": None, "kv_transfer_params": None, "service_tier": None}


def llamacpp(body):
    "llama.cpp's server: errors with a code in the body, under status 200 too; 503 while the model loads."

    def refuse(status, code, kind, message, **more):
        return status, {}, {"error": {"code": code, "message": message, "type": kind} | more}

    if wish(body) == "loading":
        return refuse(503, 503, "unavailable_error", "Loading model")
    if wish(body) == "long":
        said = "the request exceeds the available context size. try increasing the context size"
        return refuse(200, 400, "exceed_context_size_error", said, n_prompt_tokens=1407, n_ctx=256)
    if wish(body) == "think":
        return chat(body, {"content": "", "reasoning_content": THOUGHT}, "length", usage(9, body["max_tokens"]))
    answer = chat(body, {"content": REPLY, "reasoning_content": THOUGHT}) | {"timings": {"prompt_ms": 1.5}}
    return answer | {"model": "gpt-3.5-turbo", "system_fingerprint": "b5000-abc"}


def ollama(body):
    "Ollama: thinking in `reasoning`, errors of every kind called api_error."

    def refuse(code, message):
        return code, {}, {"error": {"message": message, "type": "api_error", "param": None, "code": None}}

    if body["model"] != "m":
        return refuse(404, f'model "{body["model"]}" not found, try pulling it first')
    if wish(body) == "dead":
        return refuse(500, "llama runner process has terminated: exit status 2")
    if wish(body) == "think":
        return chat(body, {"content": "", "reasoning": THOUGHT}, "length", usage(9, body["max_tokens"]))
    if wish(body) == "load":  # a prompt that only loads the model
        return chat(body, {"content": ""}, "load", usage(0, 0))
    return chat(body, {"content": REPLY, "reasoning": THOUGHT}) | {"system_fingerprint": "fp_ollama"}


def tgi(body):
    "text-generation-inference: `error` is a string, temperature 0 and top_p 1 are refused, ends have their own names."
    if body.get("temperature") == 0:
        said = "Input validation error: `temperature` must be strictly positive"
        return 422, {}, {"error": said, "error_type": "validation"}
    if body.get("top_p") in (0, 1):
        said = "Input validation error: `top_p` must be > 0.0 and < 1.0"
        return 422, {}, {"error": said, "error_type": "validation"}
    if wish(body) == "long":
        said = "`inputs` tokens + `max_new_tokens` must be <= 512. Given: 400 `inputs` tokens and 256 `max_new_tokens`"
        return 422, {}, {"error": f"Input validation error: {said}", "error_type": "validation"}
    if wish(body) == "crowd":
        return 429, {}, {"error": "Model is overloaded", "error_type": "overloaded"}
    if wish(body) == "crash":
        return 424, {}, {"error": "Request failed during generation: out of memory", "error_type": "generation"}
    return chat(body, {"content": REPLY}, {"cut": "length", "stopped": "stop_sequence"}.get(wish(body), "eos_token"))


def openrouter(body):
    "OpenRouter: blank lines before the answer, errors of the provider inside an answer, moderation, credit."

    def refuse(status, code, message, **metadata):
        return status, {}, {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "u"}

    what = wish(body)
    if what == "flagged":
        said = "m requires moderation on Provider. Your input was flagged for violence"
        return refuse(403, 403, said, reasons=["violence"], flagged_input="how to", provider_name="Provider")
    if what == "poor":
        return refuse(402, 402, "This request requires more credits, or fewer max_tokens. You can only afford 12")
    if what == "late":
        return refuse(200, 502, "Provider returned error", raw="upstream is overloaded", provider_name="Provider")
    if what == "parameter" and "seed" in body:
        raw = json.dumps({"error": {"message": "Unsupported parameter: 'seed'", "param": "seed"}})
        return refuse(400, 400, "Provider returned error", raw=raw, provider_name="Provider")
    if what == "half":
        empty = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": 0}
        broken = {"code": 502, "message": "the provider hung up"}
        return chat(body, {"content": "Iron ru"}, "error", empty, native_finish_reason="error", error=broken)
    details = [{"type": "reasoning.text", "text": THOUGHT, "format": "unknown", "index": 0}]
    said = {"content": REPLY, "refusal": None, "reasoning": THOUGHT, "reasoning_details": details}
    answer = chat(body, said, logprobs=None, native_finish_reason="STOP", used=usage(cost=0.001))
    return 200, {}, b"\n         \n" * 3 + json.dumps(answer | {"provider": "Provider"}).encode()


def openai_reasoning(body):
    "OpenAI's reasoning models: another name for max_tokens, no temperature, thinking that is counted and not sent."

    def refuse(message, param, code):
        return 400, {}, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}

    if "max_tokens" in body:
        said = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return refuse(f"Unsupported parameter: {said}", "max_tokens", "unsupported_parameter")
    if body.get("temperature", 1) != 1:
        said = f"'temperature' does not support {body['temperature']:g} with this model. Only the default (1) value"
        return refuse(f"Unsupported value: {said} is supported.", "temperature", "unsupported_value")
    for name in ("top_p", "stop", "logprobs"):
        if name in body:
            said = f"Unsupported parameter: '{name}' is not supported with this model."
            return refuse(said, name, "unsupported_parameter")
    if wish(body) == "think":
        most = body["max_completion_tokens"]
        hidden = usage(9, most, completion_tokens_details={"reasoning_tokens": most})
        return chat(body, {"content": "", "refusal": None}, "length", hidden)
    hidden = usage(9, 70, completion_tokens_details={"reasoning_tokens": 64})
    return chat(body, {"content": REPLY, "refusal": None, "annotations": []}, used=hidden)


def mistral(body):
    "Mistral: no `seed`, an error whose message is JSON again, thinking as a part of the content."
    if "seed" in body:
        kind = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
        return 422, {}, {"object": "error", "message": {"detail": [kind | {"input": 1}]}, "type": "invalid_request"}
    if wish(body) == "cut":
        return chat(body, {"content": "Iron ru", "tool_calls": None}, "model_length")
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    return chat(body, {"content": [thinking, {"type": "text", "text": REPLY}], "tool_calls": None})


def anthropic(body):
    "Anthropic's compatible address: temperature or top_p, not both."
    if {"temperature", "top_p"} <= body.keys():
        said = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        return 400, {}, {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    if wish(body) == "crowd":
        return 529, {}, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return chat(body, {"content": REPLY}, {"cut": "max_tokens", "no": "refusal"}.get(wish(body), "end_turn"))


def gemini(body):
    "Gemini's compatible address: an error is a list, ends are in capitals."
    if "seed" in body:
        said = 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'
        return 400, {}, [{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}]
    ends = {"cut": "MAX_TOKENS", "unsafe": "SAFETY", "copied": "RECITATION"}
    return chat(body, {"content": REPLY}, ends.get(wish(body), "STOP"))


PROFILES = {
    "vLLM": vllm,
    "llama.cpp": llamacpp,
    "Ollama": ollama,
    "TGI": tgi,
    "OpenRouter": openrouter,
    "OpenAI, reasoning": openai_reasoning,
    "Mistral": mistral,
    "Anthropic": anthropic,
    "Gemini": gemini,
}
