"Twelve questions of a newcomer: each row of the index names one notebook, and the notebook exports the symbol."

import ast
import json
import re

import pytest

import preflexor_lab

QUESTIONS = """the KL penalty of RLSF
how rejected answers are made
resume after a kill
DPO
PPO
the chat template
a judge's prompt
GSM8K
the tool of a recipe
pairs from scored answers
the active loop of `preflexor run`
the report of a run""".splitlines()


def rows(text, first):
    "Rows of the Markdown table whose first column has this head."
    table = text[text.index(f"| {first} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def exported(path):
    "Public names that the exported cells of a notebook define."
    names = set()
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or not re.search(r"^#\|\s*exports?\b", source, re.MULTILINE):
            continue
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_index_answers_the_twelve_questions(root, readme):
    found = rows(readme, "where is …")
    assert [row[0] for row in found] == QUESTIONS
    for question, notebook, symbol in found:
        links = re.findall(r"\]\(([^)]+)\)", notebook)
        assert len(links) == 1, f"{question}: one notebook, not {links}"
        name = symbol.strip("`")
        assert name in exported(root / links[0]), f"{question}: {links[0]} does not export {name}"


def test_methods_name_what_there_is(root, readme):
    found = rows(readme, "method")
    assert len(found) == 8
    for method, paper, names, recipe, notebook in found:
        (link,) = re.findall(r"\]\(([^)]+)\)", notebook)
        for name in re.findall(r"`(\w+)`", names):
            assert name in preflexor_lab.__all__, f"{method}: {name} is no public name"
            assert name in exported(root / link), f"{method}: {link} does not export {name}"
        assert (root / "recipes" / f"{recipe.strip('`')}.yaml").exists(), f"{method}: no recipe {recipe}"
        assert re.search(r"https://arxiv.org/abs/\d{4}\.\d{5}", paper)


def test_exported_names_are_found(tmp_path):
    cells = [
        "#| export\ndef f(): ...\nX = 1\n",
        "#| exporti\ndef _g(): ...\n",
        "def h(): ...\n",
        "#|exports\nclass C: ...\n",
    ]
    raw = [{"cell_type": "code", "source": source} for source in cells]
    raw.append({"cell_type": "markdown", "source": "#| export\ndef m(): ..."})
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": raw}), encoding="utf-8")
    assert exported(tmp_path / "n.ipynb") == {"f", "X", "C"}
