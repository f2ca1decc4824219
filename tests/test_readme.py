"The README is made from its notebook, is short, links to what exists, and its snippets run as they stand."

import importlib.util
import re
import shutil
from xml.etree import ElementTree

import pytest


def made_by(root, name):
    "A script of .github as a module."
    spec = importlib.util.spec_from_file_location(name, root / ".github" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def snippet(readme, first_words):
    "The code block that follows a sentence."
    return re.search(rf"{first_words}.*?```python\n(.*?)```", readme, re.DOTALL)[1]


def test_readme_equals_its_notebook(root, readme):
    assert readme == made_by(root, "make_readme").readme(), "run 'make readme'"
    assert len(readme.splitlines()) <= 130


def test_results_equal_their_measurements(root):
    page = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == made_by(root, "make_results").page(), "run 'python .github/make_results.py'"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/decisions.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(root, page):
    text = re.sub(r"```.*?```", "", (root / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    missing = [link for link in links if not (root / page).parent.joinpath(link.split("#")[0]).exists()]
    assert not missing, f"{page} links to {missing}"


def test_picture_is_small_and_shows_the_trace(root):
    file = root / "nbs" / "images" / "flow.svg"
    words = " ".join(ElementTree.parse(file).getroot().itertext())
    assert file.stat().st_size < 20_000
    for expected in ("documents", "Phase I", "Phase II", "reflect", "report", "differs", "answer 1", "answer 2"):
        assert expected in words


def test_interval_over_seeds_by_hand(root):
    runs = object.__new__(made_by(root, "make_results").Runs)
    runs.rows = {("a", "m"): [{"value": v} for v in (0.5, 0.6, 0.7)], ("b", "m"): [{"value": 0.5}] * 3}
    assert [round(d, 6) for d in runs.by_seed("a", "b", "m")] == [0, 10, 20]
    assert runs.over_seeds("a", "b", "m") == "+10.0 [-14.8, +34.8]"  # 4.303 · 10 / √3 = 24.84
    runs.rows = {("a", "m"): [{"value": 0.5}] * 2, ("b", "m"): [{"value": 0.4}] * 2}
    assert runs.over_seeds("a", "b", "m") == "–"  # two seeds: both are shown, no interval is claimed


def test_pairs_of_your_own(readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet(readme, "Train on pairs of your own"), names)  # noqa: S102
    assert names["phase_1"].state.global_step == names["phase_2"].state.global_step == 6
    from preflexor_lab import load_model

    trained, loaded = names["model"].state_dict(), load_model("runs/thinker").state_dict()
    start = load_model(names["nano_path"]("reasoner")).state_dict()
    assert all((loaded[k] == v).all() for k, v in trained.items())
    assert any((start[k] != v).any() for k, v in trained.items())


def test_active_loop_on_a_folder(root, readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").mkdir()
    for page in ("results.md", "decisions.md"):
        shutil.copy(root / "docs" / page, "papers")
    names = {}
    exec(snippet(readme, "Run the active loop on a folder"), names)  # noqa: S102
    generated = [row for row in names["loop"].log_history if "data/pairs" in row]
    assert [row["round"] for row in generated] == [0, 1] and all(row["data/pairs"] for row in generated)
    assert names["loop"].progress.step == 4


def test_reflection_on_a_question(readme, capsys):
    code = snippet(readme, "Let a model reflect on a question")
    exec(code, {})  # noqa: S102
    assert capsys.readouterr().out.strip() == re.search(r"print\(.*\)  # (\[.*\])", code)[1]
