"A key goes only to the address that it was given for, and to no file, message or stream, whoever repeats it."

import json
from urllib.parse import quote

import pytest
from badserver import BadServer, ok
from typer.testing import CliRunner

from preflexor_lab.models.endpoint import EndpointEngine, EngineError, _key_for
from preflexor_lab.recipes.cli import app

KEYS = ["sk-proj-Ab1_9xYz", "a/b+c=d==w3", 'quo"te\\back9', "%41&key?x#y", "tok'en:with@signs"]


def echoing(server, form):
    "An answer that repeats the key that the server was sent, in some form."

    def key():
        return server[0].seen[-1]["headers"]["authorization"].removeprefix("Bearer ")

    return {
        "text": lambda body: ok(f"you sent {key()} and {quote(key(), safe='')}"),
        "json": lambda body: ok(f"you sent {json.dumps({'key': key()})}"),
        "refused": lambda body: (401, {}, {"error": {"message": f"bad key {key()}"}}),
        "item": lambda body: (400, {}, {"error": {"message": f"filtered, key {key()!r}"}}),
        "page": lambda body: (400, {}, {"detail": f"<p>{quote(key(), safe='')}</p>"}),
    }[form]


def forms_of(key):
    "The key as it is, in JSON, in an address, and as Python shows it."
    return {key, json.dumps(key)[1:-1], quote(key, safe=""), repr(key)[1:-1]}


@pytest.mark.parametrize("form", ["text", "json", "refused", "item", "page"])
@pytest.mark.parametrize("key", KEYS)
def test_what_a_server_repeats(key, form):
    box = []
    with BadServer(echoing(box, form)) as server:
        box.append(server)
        engine = EndpointEngine(server.url, "m", api_key=key, max_retries=0)
        try:
            ((done,),) = engine.generate(["x"])
            said = done.text + done.error
        except EngineError as e:
            said = str(e)
        assert server.seen[0]["headers"]["authorization"] == f"Bearer {key}"
    assert "***" in said and not [f for f in forms_of(key) if f in said], said


@pytest.mark.parametrize("key", KEYS)
def test_no_file_of_a_run_holds_it(key, root, monkeypatch, tmp_path):
    monkeypatch.chdir(root)
    monkeypatch.setenv("MY_KEY", key)
    box = []
    settings = ["stages=[{kind: orpo, questions: 3, batch_size: 2, max_new_tokens: 8}]", "controls=[]"]
    settings += ["reflect.rounds=0", "eval.items=2", "eval.max_new_tokens=8", "eval.direct=false", "threads=1"]
    with BadServer(echoing(box, "text")) as server:
        box.append(server)
        words = ["run", "tests/recipes/mini.yaml", f"teacher.url={server.url}", "teacher.model=m", *settings]
        done = CliRunner().invoke(app, [*words, "--api-key-env", "MY_KEY", "--run-dir", str(tmp_path / "run")])
        assert {seen["headers"]["authorization"] for seen in server.seen} == {f"Bearer {key}"}
    assert "***" in (tmp_path / "run" / "ledger.sqlite").read_bytes().decode("utf-8", "replace"), done.output
    found = [done.stdout, done.stderr, repr(done.exception)]
    found += [p.read_bytes().decode("utf-8", "replace") for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not [f for f in forms_of(key) for text in found if f in text]


def test_who_gets_the_key_of_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    assert _key_for("https://api.openai.com/v1", None) == "sk-mine"
    for other in ("https://evil-openai.com/v1", "https://api.openai.com.evil.org/v1", "http://api.openai.com/v1"):
        assert _key_for(other, None) == "none"
    for url in ("https://user:pass@host/v1", "https://user@host/v1"):
        with pytest.raises(ValueError, match="holds a name or a password") as told:
            EndpointEngine(url, "m")
        assert "pass@" not in str(told.value)


def test_a_recipe_cannot_choose_a_key(root, monkeypatch):
    monkeypatch.chdir(root)
    for words, says in (
        (["teacher.api_key_env=AWS_SECRET_ACCESS_KEY"], "--api-key-env NAME"),
        (["--api-key-env", "NOT_SET_ANYWHERE"], "no environment variable of this name"),
    ):
        done = CliRunner().invoke(app, ["run", "tests/recipes/mini.yaml", *words])
        assert done.exit_code == 2 and says in done.stderr
