"Tasks and pairs from anyone's data: forms of files, columns, answers and splits, each with its right value."

import csv
import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from preflexor_lab.data.tasks import TASK_NAMES, load_task
from preflexor_lab.tasks.answers import GRADERS, answer_extract, answer_grader, answer_kind, needs_expressions
from preflexor_lab.tasks.datasets import read_splits
from preflexor_lab.tasks.graders import SPLITS, Item
from preflexor_lab.tasks.preferences import read_pairs
from preflexor_lab.text.records import Pair, from_jsonl, to_jsonl

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="needs pip install 'preflexor_lab[tasks]'"
)
ROWS = [dict(question=f"What is {i}+{i}?", answer=str(2 * i)) for i in range(40)]


def item(answer, **meta):
    return Item("q", "what is it?", answer, "what is it?\n", meta=meta)


def write(path, rows):
    "Rows as a file of the form that its name says."
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as f:
            table = csv.DictWriter(f, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


# --- where the rows are


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("task", ["jsonl", "gsm8k"])
def test_every_form_of_file(tmp_path, task, form):
    made = load_task(task, write(tmp_path / f"qa.{form}", ROWS))
    assert [(i.question, i.answer) for i in made] == [(r["question"], r["answer"]) for r in ROWS]
    assert made.grade(made[3], "It is 6.").passed and not made.grade(made[3], "It is 7.").passed
    assert sum(len(made.split(s)) for s in SPLITS) == 40


@pytest.mark.parametrize(
    "names, splits",
    [
        (("train", "test"), {"train", "valid", "test"}),
        (("train", "validation", "test"), {"train", "valid", "test"}),
        (("train-00000-of-00001", "test-00000-of-00001"), {"train", "valid", "test"}),
        (("test",), {"test"}),
        (("valid", "test"), {"valid", "test"}),
        (("answers",), {"train", "valid", "test"}),
    ],
)
def test_a_folder_with_splits(tmp_path, names, splits):
    "The data's own splits are kept, missing ones are taken from the training rows, and no question is in two."
    folder = tmp_path / "data"
    for k, name in enumerate(names):
        write(folder / f"{name}.csv", ROWS[k * 10 :])
    (folder / "README.md").write_text("about")
    made = load_task("jsonl", folder)
    assert {i.split for i in made} == splits and len({i.question for i in made}) == len(made) == 40
    if names[-1].startswith("test") and len(names) > 1:
        own = {r["question"] for r in ROWS[(len(names) - 1) * 10 :]}
        assert {i.question for i in made.split("test")} == own


def test_the_split_does_not_depend_on_the_order(tmp_path):
    one = load_task("jsonl", write(tmp_path / "a.jsonl", ROWS))
    two = load_task("jsonl", write(tmp_path / "b.csv", ROWS[::-1]))
    assert {i.question: i.split for i in one} == {i.question: i.split for i in two}


@pytest.mark.parametrize("hub_id, config", [("owner/name", None), ("owner/name:main", "main")])
def test_a_data_set_of_the_hub(monkeypatch, hub_id, config):
    import datasets

    asked = []

    def load(name, config=None):
        asked.append((name, config))
        parts = dict(train=ROWS[:30], validation=ROWS[30:35], test=ROWS[35:])
        return datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in parts.items()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    made = load_task("jsonl", hub_id)
    assert asked == [("owner/name", config)]
    assert [len(made.split(s)) for s in SPLITS] == [30, 5, 5]


@pytest.mark.parametrize("task, hub_id", [("gsm8k", "openai/gsm8k:main"), ("arc", "allenai/ai2_arc:ARC-Challenge")])
def test_published_data_sets_by_default(monkeypatch, task, hub_id):
    import datasets

    asked = []

    def load(name, config=None):
        asked.append(f"{name}:{config}")
        row = dict(question="Which?", answer="#### 4", choices=dict(text=["a", "b"], label=["A", "B"]), answerKey="B")
        return datasets.DatasetDict(test=datasets.Dataset.from_list([row]))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_task(task)[0].answer == {"gsm8k": "#### 4", "arc": "B"}[task] and asked == [hub_id]


def test_a_hub_id_offline_is_one_line(monkeypatch):
    import datasets

    def load(name, config=None):
        raise ConnectionError("Couldn't reach the hub\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match="data=owner/name is neither a file, a folder of .* can be loaded") as e:
        load_task("jsonl", "owner/name")
    assert "ConnectionError: Couldn't reach the hub" in str(e.value) and "\n" not in str(e.value)


# --- columns


@pytest.mark.parametrize(
    "columns",
    [
        "question answer",
        "prompt completion",
        "query response",
        "queries responses",
        "problem solution",
        "instruction output",
        "input target",
        "question answer rationale",
        "question answer thinking",
        "problem answer reasoning",
    ],
)
def test_columns_under_their_usual_names(tmp_path, columns):
    names = columns.split()
    made = load_task("jsonl", write(tmp_path / "qa.csv", [dict(zip(names, ("2+2?", "4", "two and two")))]))
    gold = "two and two" if len(names) == 3 else ""
    assert (made[0].question, made[0].answer, made[0].gold) == ("2+2?", "4", gold)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_are_named(tmp_path, form):
    path = write(tmp_path / f"qa.{form}", [dict(task="2+2?", key="4", why="two and two", answer="no")])
    made = load_task("jsonl", path, question="task", answer="key", thinking="why")
    assert (made[0].question, made[0].answer, made[0].gold) == ("2+2?", "4", "two and two")


USER, SYSTEM = dict(role="user", content="2+2?"), dict(role="system", content="Be brief.")
TOLD = dict(role="assistant", content="<think>two twos</think>4")


@pytest.mark.parametrize(
    "row, question",
    [
        (dict(messages=[USER, TOLD]), "2+2?"),
        (dict(messages=[SYSTEM, USER, TOLD]), "Be brief.\n\n2+2?"),
        (dict(prompt=[USER], completion=[TOLD]), "2+2?"),
        (dict(prompt=[SYSTEM, USER], completion=TOLD["content"]), "Be brief.\n\n2+2?"),
        (dict(instruction="Add.", input="2+2?", output=TOLD["content"]), "Add.\n\n2+2?"),
        (dict(question="2+2?", answer="<|thinking|>two twos<|/thinking|>4"), "2+2?"),
    ],
)
def test_conversations_and_completions(tmp_path, row, question):
    "The answer is graded, its thinking is the reference thinking."
    made = load_task("jsonl", write(tmp_path / "rows.jsonl", [row]))
    assert (made[0].question, made[0].answer, made[0].gold) == (question, "4", "two twos")


@pytest.mark.parametrize(
    "answer, gold, short",
    [
        ("2+2 = <<2+2=4>>4\n#### 4", "2+2 = 4", "4"),
        (r"Since $2+2=4$, it is $\boxed{4}$.", r"Since $2+2=4$, it is $\boxed{4}$.", "4"),
        ("[T]two twos[/T]4", "two twos", "4"),
        ("4", "", "4"),
    ],
)
def test_worked_solutions(tmp_path, answer, gold, short):
    path = write(tmp_path / "rows.jsonl", [dict(question="2+2?", answer=answer)])
    made = load_task("jsonl", path, markers=dict(thinking=("[T]", "[/T]")))
    assert (made[0].gold, made[0].answer) == (gold, short)
    assert made.grade(made[0], "[T]5[/T]4").passed and not made.grade(made[0], "[T]4[/T]5").passed


@pytest.mark.parametrize(
    "rows",
    [
        [dict(question="Rusts?", choices=["gold", "iron"], answer="B")],
        [dict(question="Rusts?", choices=["gold", "iron"], answer="iron")],
        [dict(question="Rusts?", options=["gold", "iron"], answer="b")],
        [dict(question="Rusts?", choices=["gold", "iron"], answer=2)],
        [dict(question="Rusts?", choices=["gold", "iron"], answer=1), dict(question="?", choices=["x", "y"], answer=0)],
        [dict(question="Rusts?", choices=dict(text=["gold", "iron"], label=["1", "2"]), answerKey="2")],
        [
            dict(
                question=dict(stem="Rusts?", choices=[dict(text="gold", label="A"), dict(text="iron", label="B")]),
                answerKey="B",
            )
        ],
    ],
    ids=["letter", "text", "options", "from 1", "from 0", "labels", "published ARC"],
)
@pytest.mark.parametrize("task", ["jsonl", "arc"])
def test_options(tmp_path, task, rows):
    made = load_task(task, write(tmp_path / "quiz.jsonl", rows))
    first = next(i for i in made if "Rusts?" in i.question)
    assert (first.question, first.answer, first.gold) == ("Rusts?\nA) gold\nB) iron", "B", "")
    assert made.grade(first, "It is iron (B).").passed and not made.grade(first, "The answer is A.").passed
    assert made.extract("The answer is (B).") == "B"


def test_options_in_a_table(tmp_path):
    path = write(tmp_path / "quiz.csv", [dict(question="Rusts?", choices='["gold", "iron"]', answer="iron")])
    assert load_task("jsonl", path)[0].answer == "B"


# --- mistakes


TURNS = [dict(role=r, content=r) for r in ("user", "assistant", "user", "assistant")]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "text,label\na,b\n", "a.csv, row 0: no column for the question .*it has 'text', 'label'"),
        ("a.csv", "question,label\na,b\n", "a.csv, row 0: no column for the answer .*it has 'question', 'label'"),
        ("a.csv", "question,answer\na,\n", "a.csv, row 0: 'answer' is empty"),
        ("a.csv", "question,answer\n", "a.csv is empty"),
        ("a.csv", "", "a.csv: not a table"),
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.jsonl", "{oops\n", "a.jsonl, line 1: not JSON"),
        ("a.json", "[]", "a.json is empty"),
        ("a.json", '{"a": 1, "b": 2}', "no column for the question .*it has 'a', 'b'"),
        ("a.parquet", "no", "a.parquet: not a Parquet file"),
        ("a.xlsx", "no", r"a.xlsx: the format .xlsx is unknown; use .jsonl"),
        (
            "a.jsonl",
            json.dumps(dict(messages=TURNS)),
            "row 0: turns of user, assistant, user, assistant; a task takes one",
        ),
        ("a.jsonl", json.dumps(dict(question="a", choices=["x"], answer="A")), "row 0: needs 2 to 26 options"),
        ("a.jsonl", json.dumps(dict(question="a", choices=["x", "y"], answer="z")), "row 0: the key 'z' names none"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as e:
        load_task("jsonl", tmp_path / name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("riddles", {}, "there is no task 'riddles'; choose " + ", ".join(TASK_NAMES)),
        ("reasoning_gym:", {}, "there is no task"),
        pytest.param(
            "reasoning_gym:chain_sums",
            {},
            "no data set 'chain_sums'; it has 1.., among them chain_sum",
            marks=needs_gym,
        ),
        pytest.param("reasoning_gym:chain_sum", dict(terms=3), "no option 'terms'; it has min_terms", marks=needs_gym),
        ("reasoning_gym:chain_sum", dict(path="x"), "makes its own items and reads no path"),
        ("countdown", dict(hops=2), "countdown has no option 'hops'; it has numbers"),
        ("gsm8k", dict(path="gone.jsonl"), "data=gone.jsonl is neither a file, a folder"),
        ("jsonl", {}, "needs path="),
        ("jsonl", dict(column="q"), "no option 'column'; it has question, answer"),
        ("jsonl", dict(path=ROWS, grader="best"), "there is no grader 'best'; use auto, number"),
        ("jsonl", dict(path=ROWS, grader="choice"), "there are no options"),
        ("jsonl", dict(path=[dict(question="a", answer="b")], grader="number"), "'b' has no number"),
        ("jsonl", dict(path=ROWS, question="q"), "no column 'q'; it has 'question', 'answer'"),
        ("jsonl", dict(path=ROWS, split="dev"), "there is no split 'dev'"),
        ("jsonl", dict(path=ROWS, n=0), "n must be at least 1"),
        ("sentiment", dict(path=[dict(rating=1)]), "no column for the text"),
    ],
)
def test_a_wrong_call_is_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as e:
        load_task(name, **options)
    assert "\n" not in str(e.value)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="the folder holds no .jsonl"):
        read_splits(tmp_path)


# --- answers of any kind


@pytest.mark.parametrize(
    "answer, kind, right, wrong",
    [
        ("1000000", "number", r"\boxed{10^6}", r"\boxed{10^5}"),
        (r"\$18.90", "number", r"\boxed{18.90}", r"\boxed{\$18.09}"),
        ("18", "number", "That makes $18.00.", "It is 81."),
        ("10{,}000", "number", r"\boxed{10000}", r"\boxed{9999}"),
        (r"3,\!250", "number", r"\boxed{3250}", r"\boxed{325}"),
        (r"\frac{1}{2}", "number", "0.5", r"\frac{1}{3}"),
        ("4\n#### 4", "number", "<think>5</think>4", "<think>4</think>5"),
        (r"\frac{\sqrt{3}}{2}", "expression", r"\boxed{\frac{3}{2\sqrt{3}}}", r"\boxed{\frac{\sqrt{3}}{3}}"),
        ("4a-2", "expression", "The answer is 2(2a-1).", "The answer is 4a+2."),
        ("4a-2", "expression", "<|thinking|>4a<|/thinking|>4a - 2", "<|thinking|>4a-2<|/thinking|>4a"),
        (r"12\frac{3}{5}", "expression", r"\boxed{\frac{63}{5}}", r"\boxed{12}"),
        (r"48^\circ", "expression", r"\boxed{48^\circ}", r"\boxed{84^\circ}"),
        (r"25\%", "expression", r"It is $\boxed{25\%}$.", r"\boxed{75\%}"),
        ("(3, 4)", "expression", r"\boxed{(3,4)}", r"\boxed{(4,3)}"),
        (r"(-\infty, 2]", "expression", r"\boxed{(-\infty,2]}", r"\boxed{(-\infty,2)}"),
        (r"100\text{ square units}", "expression", r"\boxed{100}", r"\boxed{10}"),
        ("Paris", "words", "I know it. The answer is Paris.", "Paris? The answer is Lyon."),
        (r"\text{east}", "words", r"\boxed{\text{East}}", r"\boxed{\text{west}}"),
        ("10:30", "words", "10:30.", "10:31"),
        ("A+", "words", "**Answer:** A+", "A"),
        ("H2O", "words", "The answer is H2O.", "The answer is H2."),
    ],
)
def test_one_grader_for_every_kind(answer, kind, right, wrong):
    asked = item(answer)
    assert answer_kind(asked) == kind
    assert answer_grader(asked, right).passed, answer_grader(asked, right)
    assert not answer_grader(asked, wrong).passed and not answer_grader(asked, wrong).failed
    asked = replace(asked, prompt="what is it? <think>\n")  # the prompt opened the thinking
    assert answer_grader(asked, f"{wrong}</think>{right.rpartition('>')[2] or right}").passed


@pytest.mark.parametrize(
    "response",
    [
        "",
        "9^{9^{9}}",
        r"\boxed{" + "(" * 5000,
        r"\frac{" * 900,
        "99999999!",
        "[" * 3000,
        r"\boxed{\frac{1}{0}}",
        "\x00",
        "$" * 99,
        "9" * 60,
    ],
    ids=["empty", "tower", "parentheses", "fractions", "factorial", "brackets", "zero", "null", "dollars", "digits"],
)
@pytest.mark.parametrize("answer", ["4a-2", "18", "Paris"])
def test_what_a_response_causes_is_a_zero(answer, response):
    cert = answer_grader(item(answer), response)
    assert (cert.score, cert.passed, cert.failed) == (0.0, False, False)


def test_expressions_outside_the_main_thread():
    "An alarm may be set in the main thread alone."
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda r: answer_grader(item("4a-2"), r).passed, [r"\boxed{2(2a-1)}", r"\boxed{4a}"] * 4))
    assert got == [True, False] * 4


def test_a_missing_library_is_said_when_the_task_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    rows = [dict(question="Simplify.", answer="4a-2")]
    for make in (lambda: load_task("jsonl", rows), lambda: load_task("jsonl", rows, grader="expression")):
        with pytest.raises(ImportError, match=r'pip install "preflexor_lab\[tools\]"'):
            make()
    assert not needs_expressions([item("18"), item("Paris")])
    assert load_task("jsonl", ROWS).grade(item("18"), "18").passed


def test_graders_by_name():
    assert set(GRADERS) == {"auto", "number", "exact", "choice", "expression"}
    rows = [dict(question="where?", answer="Paris"), dict(question="who?", answer="4")]
    exact = load_task("jsonl", rows, grader="exact")
    assert exact.grade(exact[0], "Paris").passed and not exact.grade(exact[0], "So it is Paris, the capital.").passed
    assert load_task("jsonl", rows, plural=True).grade(item("cat"), "cats").passed
    own = load_task("jsonl", rows, grader=lambda i, r: GRADERS["number"](item("7"), r))
    assert own.grade(own[0], "7").passed


@pytest.mark.parametrize(
    "responses, vote",
    [
        (["#### 1,200", "It costs 5. The answer is 1200.", r"\boxed{1200.0}"], "1200"),
        (["Paris", "The answer is Paris.", "**Answer:** paris", "<think>Lyon</think>Paris."], "paris"),
        ([r"\boxed{\frac{1}{2}}", "0.5", "1/2"], "0.5"),
        (["$4a - 2$", r"\boxed{4a-2}"], "4a-2"),
    ],
)
def test_votes_have_one_form(responses, vote):
    assert {answer_extract(r) for r in responses} == {vote}


def test_labelled_solutions_of_competition_problems(shared_data):
    "At least 98 % agreement with the labels; the one difference is a right answer that the labels call wrong."
    rows = [json.loads(line) for line in (shared_data / "math_answers" / "answers.jsonl").open(encoding="utf-8")]
    judged = [
        (answer_grader(item(r["answer"]), a["text"]).passed, a["correct"], r["answer"])
        for r in rows
        for a in r["responses"]
    ]
    assert len(judged) == 480
    assert sum(got == label for got, label, _ in judged) / 480 >= 0.98
    assert [(answer, got) for got, label, answer in judged if got != label] == [("10{,}000", True)]


# --- procedural tasks


@pytest.mark.parametrize(
    "name", ["countdown", pytest.param("reasoning_gym:chain_sum", marks=needs_gym), "materials_lab"]
)
def test_procedural_tasks(name):
    "Splits share no question whatever the seed, the reference passes, and the same call makes the same items."
    made = {s: load_task(name, split=s, n=30, seed=k) for k, s in enumerate(SPLITS)}
    asked = {s: {i.question for i in t} for s, t in made.items()}
    assert (
        not asked["train"] & asked["test"]
        and not asked["train"] & asked["valid"]
        and not asked["valid"] & asked["test"]
    )
    for split, task in made.items():
        assert len(task) == 30 and {i.split for i in task} == {split}
        first = task[0]
        assert task.grade(first, f"<think>{first.gold}</think>{first.answer}").passed
        assert not task.grade(first, "<think>1</think>no idea").passed
        assert bool(first.gold) != name.startswith("reasoning_gym")
    assert [i.id for i in load_task(name, split="test", n=30, seed=2)] == [i.id for i in made["test"]]


@needs_gym
def test_gym_never_evaluates_an_answer(tmp_path):
    "Verifiers that call eval or a parser that does get literals and arithmetic only."
    for name in (
        "n_queens",
        "countdown",
        "puzzle24",
        "simple_integration",
        "polynomial_multiplication",
        "spiral_matrix",
    ):
        task, mark = load_task(f"reasoning_gym:{name}", split="test", n=1), tmp_path / name
        for said in (f"open('{mark}', 'w').write('x')", f"__import__('os').mkdir('{mark}')", f"[open('{mark}', 'w')]"):
            assert not task.grade(task[0], said).passed
            assert not task.grade(task[0], f"<answer>{said}</answer>").passed
        assert not mark.exists()
        assert task.grade(task[0], task[0].answer).passed


@needs_gym
@pytest.mark.parametrize(
    "name", "chain_sum n_queens countdown propositional_logic simple_integration string_insertion codeio".split()
)
def test_gym_verifies_by_its_own_rules(name):
    task = load_task(f"reasoning_gym:{name}", split="test", n=2, size=4)
    assert len(task) == 2
    for i in task:
        right = i.answer or i.meta["entry"]["metadata"]["example_answer"]
        for said in (right, f"<think>0</think>{right}", f"It follows.\n<answer>{right}</answer>"):
            assert task.grade(i, said).passed, said
        assert not task.grade(i, "").passed and not task.grade(i, "no idea").passed


@pytest.mark.parametrize(
    "name, module, extra",
    [("reasoning_gym:chain_sum", "reasoning_gym", "tasks"), ("sentiment", "vaderSentiment.vaderSentiment", "tools")],
)
def test_a_missing_library_of_a_task(monkeypatch, name, module, extra):
    from preflexor_lab.tools.sentiment import _analyzer

    _analyzer.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "preflexor_lab\[{extra}\]"'):
        load_task(name)


@pytest.mark.parametrize("form", ["tsv", "jsonl", "none"])
def test_sentiment(tmp_path, form):
    rows = [dict(text=f"The plot number {i} is thin, but the cast is not.", rating=1) for i in range(60)]
    path = None if form == "none" else write(tmp_path / f"reviews.{form}", rows)
    made = load_task("sentiment", path)
    assert all(i.answer == "" and i.prompt == i.question for i in made) and len(made) > 40 * (form == "none")
    assert made.grade(made[0], " a joy from start to end.").passed and not made.grade(made[0], " a bore.").passed
    if path:
        assert [i.prompt for i in load_task("sentiment", path, words=5)][:1] == ["The plot number 0 is"]


def test_sentiment_on_real_reviews(shared_data):
    made = load_task("sentiment", shared_data / "movie_reviews")
    assert len(made) > 7000 and all(len(i.prompt.split()) == 4 for i in made)
    asked = {s: {i.prompt.lower() for i in made.split(s)} for s in SPLITS}
    assert not asked["train"] & asked["test"] and len(asked["test"]) > 1000


# --- preferences


FIVE, SIX = dict(role="assistant", content="5"), dict(role="assistant", content="6")
ASKED = dict(role="user", content="2 + 3?")


@pytest.mark.parametrize(
    "row, prompt, chosen, rejected",
    [
        (dict(prompt="2 + 3 =", chosen=" 5", rejected=" 6"), "2 + 3 =", " 5", " 6"),
        (dict(question="2 + 3?", chosen="5", rejected="6"), "2 + 3?", "5", "6"),
        (dict(system="Be brief.", question="2 + 3?", chosen="5", rejected="6"), "Be brief.\n\n2 + 3?", "5", "6"),
        (dict(chosen="2 + 3 = 5", rejected="2 + 3 = 6"), "2 + 3 =", " 5", " 6"),
        (
            dict(chosen="\n\nHuman: Hi\n\nAssistant: I am", rejected="\n\nHuman: Hi\n\nAssistant: It is"),
            "\n\nHuman: Hi\n\nAssistant:",
            " I am",
            " It is",
        ),
        (dict(prompt=[ASKED], chosen=[FIVE], rejected=[SIX]), [ASKED], "5", "6"),
        (dict(prompt=[SYSTEM, ASKED], chosen=[FIVE], rejected=[SIX]), [SYSTEM, ASKED], "5", "6"),
        (dict(chosen=[ASKED, FIVE], rejected=[ASKED, SIX]), [ASKED], "5", "6"),
        (dict(prompt="2 + 3?", chosen=[ASKED, FIVE], rejected=[ASKED, SIX]), [ASKED], "5", "6"),
        (dict(prompt=[ASKED], chosen="5", rejected="6"), [ASKED], "5", "6"),
        (dict(chosen=[ASKED, FIVE, ASKED, FIVE], rejected=[ASKED, FIVE, ASKED, SIX]), [ASKED, FIVE, ASKED], "5", "6"),
    ],
    ids="text question system implicit dialogue chat chat-system whole-chats prompt-beside mixed turns".split(),
)
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_every_form_of_a_preference(tmp_path, form, row, prompt, chosen, rejected):
    pairs, report = read_pairs(write(tmp_path / f"pairs.{form}", [row]))
    assert [(p.prompt, p.chosen, p.rejected) for p in pairs] == [(prompt, chosen, rejected)]
    assert report == dict(rows=1, questions=1, skipped={}, pairs=1)
    assert from_jsonl(to_jsonl(pairs, tmp_path / "kept.jsonl"), Pair) == pairs


@pytest.mark.parametrize(
    "row, reason",
    [
        (dict(prompt="p", chosen="a", rejected="a"), "equal texts"),
        (dict(prompt="p", chosen="a", rejected=""), "empty side"),
        (dict(prompt="p", chosen=None, rejected="b"), "empty side"),
        (dict(prompt=None, chosen="a", rejected="b"), "no prompt"),
        (dict(prompt=None, chosen=[FIVE], rejected=[SIX]), "no prompt"),
        (dict(chosen=[ASKED, FIVE], rejected=[SYSTEM, SIX]), "the conversations differ before the last turn"),
        (dict(prompt=[ASKED], chosen=[ASKED], rejected=[SIX]), "the last turn is not the assistant's"),
    ],
)
def test_a_row_that_is_no_pair_is_counted(row, reason):
    good = dict(prompt="2 + 3 =", chosen=" 5", rejected=" 6")
    pairs, report = read_pairs([good, row])
    assert (len(pairs), report["rows"], report["skipped"]) == (1, 2, {reason: 1})
    with pytest.raises(ValueError, match=f"no pair in 1 rows .left out: 1 x {reason}"):
        read_pairs([row])


def test_pairs_keep_a_question_in_one_split():
    rows = [dict(prompt=f"{i % 300}?", chosen=f"a{i}", rejected="b") for i in range(900)]
    parts = {s: {p.prompt for p in read_pairs(rows, s)[0]} for s in SPLITS}
    assert sum(map(len, parts.values())) == 300 and len(set.union(*parts.values())) == 300
    own, report = read_pairs(dict(train=rows[:300], test=rows[:10]))
    assert {p.prompt for p in own if p.meta["split"] == "test"} == {f"{i}?" for i in range(10)}
    assert report["skipped"] == {"its question is in a split that is held out": 10}


@pytest.mark.parametrize(
    "row, message",
    [
        (dict(question="q", raw_output="a", overall_score=3), "task=scored"),
        (dict(prompt="p", completion="c"), "no column 'chosen'; it has 'prompt', 'completion'"),
    ],
)
def test_data_that_are_no_pairs(tmp_path, row, message):
    with pytest.raises(ValueError, match=message) as e:
        read_pairs(write(tmp_path / "rows.jsonl", [row]))
    assert "\n" not in str(e.value)
