"A notebook imports only notebooks with a lower number, so the list reads from top to bottom."

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").glob("[0-9]*.ipynb"))
# The other loops are siblings: only self_reward may build on spin.
SIBLINGS = {"spin", "self_reward", "latro", "rlsf"}
ALLOWED = {("self_reward", "spin")}


def module_of(path):
    for cell in json.loads(path.read_text())["cells"]:
        found = re.search(r"^#\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M)
        if found:
            return found.group(1)
    return None


ORDER = {module_of(p): p.name for p in NOTEBOOKS}


def imports_of(module):
    "Modules of this package that an exported module imports, at any depth of its code."
    tree = ast.parse((ROOT / "preflexor_lab" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level == 1 and node.module:
                yield node.module.split(".")[0]
            elif node.level == 1 or node.module == "preflexor_lab":
                yield from (a.name for a in node.names)
            elif node.module and node.module.startswith("preflexor_lab."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("preflexor_lab."))


def test_every_module_has_one_notebook():
    modules = {p.stem for p in (ROOT / "preflexor_lab").glob("*.py")} - {"__init__", "_modidx"}
    assert modules == set(ORDER) - {None}


@pytest.mark.parametrize("module", [m for m in ORDER if m])
def test_imports_point_down(module):
    for other in imports_of(module):
        if other not in ORDER or other == module:
            continue
        assert ORDER[other] < ORDER[module], (
            f"{ORDER[module]} imports {other}, which is {ORDER[other]}: a notebook imports only lower numbers"
        )
        if module in SIBLINGS and other in SIBLINGS:
            assert (module, other) in ALLOWED, f"{module} and {other} are siblings and must not import each other"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_reads_well(path):
    cells = json.loads(path.read_text())["cells"]
    first = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown" and first.startswith("# ") and "\n> " in first, (
        "begin with '# title' and '> one line'"
    )
    code = [c for c in cells if c["cell_type"] == "code"]
    assert any(c["outputs"] for c in code), "run the notebook in place: no output is committed"
    exported = [c for c in code if re.search(r"^#\|\s*exports?\b", "".join(c["source"]), re.M)]
    for cell in exported:
        lines = "".join(cell["source"]).count("\n") + 1
        assert lines <= 80, f"an exported cell of {lines} lines"
