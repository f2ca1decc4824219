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
        if "max_new_tokens" in type(spec).model_fields and recipe.task != "pairs":
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
