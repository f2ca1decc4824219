"Recipes: what decides how a stage trains, and what a user hears of a key that moved."

import ast
from pathlib import Path

import pytest

from preflexor_lab.recipes.schema import load_recipe, packaged_recipes
from preflexor_lab.runs.spec import LISTS, stage_kinds

FOLDER = Path(__file__).resolve().parent.parent / "preflexor_lab" / "recipes"
NEEDED = {"corpus": ["corpus=x"], "papers": ["corpus=x"], "papers_small": ["corpus=x"], "pairs": ["data=x"]}


@pytest.mark.parametrize("module", ["stages", "pair_stages", "sft_stages", "self_reward_stages", "policy_stages"])
def test_no_stage_reads_how_it_is_evaluated(module):
    "Keys of `eval` decide what is evaluated, never how a model is trained."
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node.func.attr = "called"  # model.eval() is no key
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "recipe" in read and not {"eval", "base"} & read


def test_no_module_compares_names_of_kinds():
    "What a kind is like, its spec says: no other module keeps a list of kinds."
    kinds = {kind for name in LISTS for kind in stage_kinds(name)}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and "kind" in {getattr(n, "attr", "") for n in ast.walk(node)}:
                named = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not named & kinds, f"{path.name}, line {node.lineno}: {named & kinds}"


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_packaged_recipe_says_how_long_answers_are(name):
    "A stage that samples answers has its own length, in the recipe's own lines."
    recipe = load_recipe(name, NEEDED.get(name, []))
    for spec in recipe.stages + recipe.controls:
        if "max_new_tokens" in type(spec).model_fields and recipe.task != "scored":
            assert "max_new_tokens" in spec.model_fields_set, spec.label


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["base.max_length=512"], "eval.max_length"),
        (["base.hidden=64"], "stages.0.hidden"),
        (["stages=[{kind: latro, samples: 4, beta: 0.1}]"], "'stages.0.beta' is called 'kl_coef'"),
        (["stages=[{kind: rlsf, beta: 0.1}]"], "'stages.0.beta' is called 'kl_coef'"),
        (["controls=[{kind: rloo, samples: 4, beta: 0.1}]"], "'controls.0.beta' is called 'kl_coef'"),
        (["stages=[{kind: spin, beta: 0.1}]"], "'stages.0.beta' is called 'spin_lambda'"),
        (["stages=[{kind: orpo, kl_coef: 0.1}]"], "kl_coef means nothing to stage 'orpo'"),
        (["stages=[{kind: sft, samples: 4}]"], "samples means nothing to stage 'sft'"),
    ],
)
def test_a_key_that_moved_is_answered_with_its_new_name(settings, says):
    with pytest.raises(ValueError) as error:
        load_recipe("demo", settings)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("empty", [("orpo",), ("orpo", "exo")], ids="-".join)
def test_a_run_without_a_pair_goes_on_to_its_report(empty, tmp_path, monkeypatch):
    "Every answer of a stage was right: it leaves the model as it is, and the run ends with a report."
    from preflexor_lab.models.loading import load_model, weights_hash
    from preflexor_lab.recipes.run import run_recipe
    from preflexor_lab.recipes.sources import QuestionSource
    from preflexor_lab.runs.folder import RunFolder

    made = QuestionSource.pairs

    def same(run, name):
        "Whether a stage ended with the weights of the base."
        ours, base = (weights_hash(load_model(run.checkpoint_dir(f"s0.{n}"))) for n in (name, "base"))
        return ours == base

    def pairs(self, spec, engine, n, seed):
        if spec.kind in empty:
            return [], {"dropped": {"the answer to reject is right": n}}
        return made(self, spec, engine, n, seed)

    monkeypatch.setattr(QuestionSource, "pairs", pairs)
    small = ["pages=16", "eval.items=4", "reflect.rounds=0", "stages.0.questions=8", "stages.1.questions=8"]
    controls = "controls=[{kind: sft, start: base, learning_rate: 1.0e-4}, {kind: rft, samples: 2, max_new_tokens: 96}]"
    recipe = load_recipe(str(Path(__file__).parent / "recipes" / "mini.yaml"), [*small, controls])
    folder = run_recipe(recipe, tmp_path / "run", show=False)
    with RunFolder(folder) as run:
        rows = {(r["stage"], r["metric"]): r["value"] for r in run.summary()}
        names = ("base", "orpo", "exo", "sft", "rft")
        left = {n for n in names[1:] if same(run, n)}
    trained = set() if "exo" in empty else {"exo", "sft", "rft"}
    assert left == set(names[1:]) - trained
    assert {n for n in names[1:] if rows[n, "trained_tokens"] == 0} == left
    assert [rows[n, "pairs"] > 0 for n in ("orpo", "exo")] == [False, "exo" in trained]
    assert (folder / "report.html").stat().st_size > 1000
