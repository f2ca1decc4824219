"A small server that speaks OpenAI's protocol and misbehaves on request."

import json
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
    time-out), "cut" (half a body, then the connection is closed), "slam" (closed before anything is sent), "garbage"
    (not JSON, though the header says so), "html" (a page). `seen` keeps the requests, `busiest` the most requests
    under way at one time.
    """

    def __init__(self, *script, latency=0.0):
        self.script, self.latency, self.seen, self.busiest = list(script) or ["fine"], latency, [], 0
        self.lock, self.busy, self.over = threading.Lock(), 0, threading.Event()

    def __enter__(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                owner.answer(self)

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
        status, headers, data = 200, {}, step
        if isinstance(step, tuple):
            status, headers, data = step
        if step == "garbage":
            data = b'{"choices": [{"index'
        elif step == "html":
            headers, data = {"Content-Type": "text/html"}, b"<html>a proxy says hello</html>"
        elif step == "cut":
            data = json.dumps(ok()).encode()
        elif isinstance(data, str):
            data = ok(data)
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        handler.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if step == "cut" else data)
        if step == "cut":
            handler.close_connection = True
