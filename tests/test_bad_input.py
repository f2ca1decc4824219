"Each mistake a user can make ends with status 2 and one line that says what was wrong, what was given and what to do."

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from preflexor_lab.recipes.cli import app

LAB = ["tests/recipes/mini.yaml"]


@pytest.fixture
def preflexor(root, monkeypatch):
    monkeypatch.chdir(root)

    def run(*args, says=None):
        result = CliRunner().invoke(app, ["run", *map(str, args)])
        if says is None:
            assert result.exit_code == 0, result.output
            return result.output
        assert result.exit_code == 2, f"{result.exit_code}: {result.output}\n{result.exception!r}"
        lines = result.stderr.strip().splitlines()
        line = lines[-1]
        assert line.startswith("preflexor: ") and "Traceback" not in result.output
        for word in [says] if isinstance(says, str) else says:
            assert word in line, line
        return line

    return run


@pytest.fixture(scope="module")
def endpoint():
    "A local OpenAI-compatible endpoint whose answer is set by the test: `behave` is a status code or a text."

    class Handler(BaseHTTPRequestHandler):
        def _send(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):  # a client that was refused once hangs up on the rest
                self.close_connection = True

        def do_GET(self):
            self._send(
                200,
                {"object": "list", "data": [{"id": "teacher", "object": "model", "created": 0, "owned_by": "test"}]},
            )

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            behave = self.server.behave
            if isinstance(behave, int):
                return self._send(
                    behave,
                    {"error": {"message": "refused", "type": "invalid_request_error", "code": "invalid_api_key"}},
                )
            message = {"role": "assistant", "content": behave, "refusal": None if behave else "no"}
            self._send(
                200,
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "teacher",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                },
            )

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.behave = "nothing"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()


def test_unknown_key(preflexor, tmp_path):
    preflexor("demo", "eval.itmes=3", "--run-dir", tmp_path / "r", says=["'eval.itmes'", "'eval.items'"])
    assert not (tmp_path / "r").exists()


def test_unknown_recipe(preflexor, tmp_path):
    preflexor("no_such.yaml", "--run-dir", tmp_path / "r", says=["no_such.yaml", "demo"])


def test_empty_corpus(preflexor, tmp_path):
    (tmp_path / "empty").mkdir()
    preflexor("corpus", f"corpus={tmp_path / 'empty'}", "--run-dir", tmp_path / "r", says=str(tmp_path / "empty"))


def test_missing_corpus(preflexor, tmp_path):
    preflexor("corpus", f"corpus={tmp_path / 'nowhere'}", "--run-dir", tmp_path / "r", says=str(tmp_path / "nowhere"))


def test_model_without_tokenizer(preflexor, tmp_path, nano):
    from preflexor_lab.models.loading import load_model

    load_model(str(nano)).save_pretrained(tmp_path / "bare")
    preflexor(
        *LAB, f"model={tmp_path / 'bare'}", "--run-dir", tmp_path / "r", says=["tokenizer", str(tmp_path / "bare")]
    )


def test_unreachable_endpoint(preflexor, tmp_path):
    preflexor(
        *LAB,
        "teacher.url=http://127.0.0.1:9/v1",
        "teacher.model=x",
        "--run-dir",
        tmp_path / "r",
        says="http://127.0.0.1:9/v1",
    )


def test_wrong_key(preflexor, tmp_path, endpoint):
    endpoint.behave = 401
    preflexor(
        *LAB,
        f"teacher.url={endpoint.url}",
        "teacher.model=teacher",
        "--run-dir",
        tmp_path / "r",
        says=[endpoint.url, "OPENAI_API_KEY"],
    )


@pytest.mark.parametrize("behave", ["", "I cannot help with that."])
def test_teacher_that_gives_nothing(preflexor, tmp_path, endpoint, behave):
    endpoint.behave = behave
    preflexor(*LAB, f"teacher.url={endpoint.url}", "teacher.model=teacher", "--run-dir", tmp_path / "r", says="pairs")
    with sqlite3.connect(tmp_path / "r" / "ledger.sqlite") as db:
        assert db.execute("select count(*) from rows").fetchone()[0] > 0, "what the teacher said is kept"


def test_two_runs_in_one_folder(root, tmp_path):
    "The second process is refused while the first lives."
    command = [
        sys.executable,
        "-c",
        "from preflexor_lab.recipes.cli import main; main()",
        "run",
        *LAB,
        "--run-dir",
        str(tmp_path / "r"),
    ]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while first.poll() is None and not (tmp_path / "r" / "ledger.sqlite").exists():
            pass
        second = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
        assert second.returncode == 2, second.stderr
        assert str(tmp_path / "r") in second.stderr.strip().splitlines()[-1]
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()


def test_other_recipe_in_the_same_folder(preflexor, tmp_path):
    from preflexor_lab.recipes.schema import load_recipe
    from preflexor_lab.runs.folder import RunFolder

    with RunFolder(tmp_path / "r", load_recipe("tests/recipes/mini.yaml").model_dump()) as folder:
        folder.finish("s0.base")
    says = ["eval.items", str(tmp_path / "r"), f"--run-dir {tmp_path / 'r-2'}", "--overwrite"]
    preflexor(*LAB, "eval.items=5", "--run-dir", tmp_path / "r", says=says)


def test_a_folder_of_somebody_else_is_left_as_it_is(preflexor, tmp_path):
    project = tmp_path / "project"
    for name in ("trainer/notes.txt", "checkpoints/.mine/weights.bin", "recipe.yaml", "run.lock"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("mine")
    before = sorted(p.relative_to(project) for p in project.rglob("*"))
    for extra in ([], ["--overwrite"]):
        preflexor(*LAB, *extra, "--run-dir", project, says=[str(project), "holds no run of ours"])
    assert sorted(p.relative_to(project) for p in project.rglob("*")) == before
    assert all(p.read_text() == "mine" for p in project.rglob("*") if p.is_file())


def test_a_corrected_command_is_welcome_after_a_failed_start(preflexor, tmp_path):
    where = ["--run-dir", tmp_path / "r"]
    preflexor(*LAB, "corpus=no/such/folder", *where, says="no/such/folder")
    preflexor(*LAB, "eval.items=4", "stages=[]", "controls=[]", "reflect.rounds=0", *where)


@pytest.mark.parametrize(
    "setting, says",
    [("name=../../x", "name"), ("name=/tmp/x", "name"), ("trust_remote_code=true", "--trust-remote-code")]
    + [("seeds=0,0", "each must be there once"), ("margin=.nan", "margin"), ("stages.0.learning_rate=.inf", "finite")],
)
def test_settings_that_lead_outside_or_nowhere(preflexor, setting, says):
    preflexor(*LAB, setting, says=says)
