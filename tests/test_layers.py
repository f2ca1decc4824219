"Rooms in reading order: each imports only rooms before it, and in its own room only notebooks with a lower number."

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "preflexor_lab"
ROOMS = ["text", "models", "corpus", "runs", "tasks", "tools", "data", "training", "nano", "methods", "recipes"]
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9]*/[0-9]*.ipynb"))
# Methods are siblings: only self_reward may build on another one, spin.
SIBLING_IMPORTS = {("methods.self_reward", "methods.spin")}


def module_of(path):
    for cell in json.loads(path.read_text())["cells"]:
        found = re.search(r"^#\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M)
        if found:
            return found.group(1)
    return None


ORDER = {module_of(p): p.relative_to(ROOT / "nbs").as_posix() for p in NOTEBOOKS}


def file_of(module):
    return PACKAGE / (module.replace(".", "/") + ".py")


def modules_named(text):
    "Modules of this package named in a text, such as the argument of import_module or a program for a worker."
    for found in re.finditer(r"preflexor_lab\.(\w+)\.(\w+)", text):
        yield f"{found[1]}.{found[2]}"


def imports_of(source, room):
    "Modules of this package that a module's code imports, at any depth; a room as a whole when no module is named."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [room, ""][node.level - 1]
                path = ".".join(p for p in (base, node.module or "") if p)
            elif node.module and node.module.split(".")[0] == "preflexor_lab":
                path = node.module.removeprefix("preflexor_lab").removeprefix(".")
            else:
                continue
            for alias in node.names:
                deeper = f"{path}.{alias.name}" if path else alias.name
                yield deeper if deeper in ORDER else path or alias.name
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("preflexor_lab.") for a in node.names if a.name.startswith("preflexor_lab"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\bimport ", node.value):
            yield from modules_named(node.value)  # a program for another process
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield from modules_named(first.value)
            if isinstance(first, ast.JoinedStr) or (isinstance(first, ast.Constant) and first.value.startswith(".")):
                yield f"computed at line {node.lineno}"


def problems(module, source):
    "Sentences about imports that point to a later room or notebook."
    room = module.split(".")[0]
    for other in imports_of(source, room):
        target = other.split(".")[0]
        if target not in ROOMS:
            yield f"{module} imports {other!r}, which is no room: name room and module"
        elif target != room and ROOMS.index(target) > ROOMS.index(room):
            yield f"{module} imports {other}: room {target} comes after room {room}"
        elif target == room and other != module and ORDER.get(other, "") > ORDER[module]:
            yield f"{module} ({ORDER[module]}) imports {other} ({ORDER[other]}): a notebook imports only lower numbers"
        elif room == target == "methods" and other != module and (module, other) not in SIBLING_IMPORTS:
            yield f"{module} and {other} are siblings and must not import each other"


def test_rooms_are_numbered_folders():
    folders = sorted(p.name for p in (ROOT / "nbs").glob("[0-9]*") if p.is_dir())
    assert folders == [f"{i + 1:02d}_{room}" for i, room in enumerate(ROOMS)]
    for path in NOTEBOOKS:
        assert module_of(path).split(".")[0] == path.parent.name[3:], f"{path} exports into another room"


def test_every_module_has_one_notebook():
    modules = [
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.glob("*/*.py") if p.stem != "__init__"
    ]
    assert sorted(modules) == sorted(ORDER) and len(ORDER) == len(NOTEBOOKS)
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "_modidx.py"}


def test_every_module_is_in_the_repository():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so nothing to compare the modules with")
    kept = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    )
    missing = [f for m in ORDER if (f := file_of(m).relative_to(ROOT).as_posix()) not in kept]
    assert not missing, f"not in git, perhaps swallowed by .gitignore: {missing}"


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_down(module):
    assert not list(problems(module, file_of(module).read_text()))


@pytest.mark.parametrize(
    "code",
    [
        "from ..methods.latro import LaTROTrainer",
        "def f():\n    from preflexor_lab.recipes.run import run_recipe",
        "import preflexor_lab.methods.spin as spin",
        "from ..methods import spin",
        "from preflexor_lab import recipes",
        "import importlib\nimportlib.import_module('preflexor_lab.recipes.run')",
        "from importlib import import_module\nimport_module(f'preflexor_lab.{room}.run')",
        "from importlib import import_module\nimport_module('.run', package='x')",
        "PROGRAM = 'from preflexor_lab.recipes.run import run_recipe'",
        "from . import policy_gradient",
    ],
)
def test_an_import_that_points_up_is_found(code):
    assert list(problems("training.losses", code)), code


def test_imports_that_point_down_pass():
    assert not list(
        problems(
            "training.losses",
            "from ..models.scoring import token_logps\nimport importlib\nimportlib.import_module('torch')",
        )
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").as_posix())
def test_notebook_reads_well(path):
    cells = json.loads(path.read_text())["cells"]
    first = "".join(cells[0]["source"])
    assert cells[0]["cell_type"] == "markdown" and first.startswith("# ") and "\n> " in first, (
        "begin with '# title' and '> one line'"
    )
    assert any(c["outputs"] for c in cells if c["cell_type"] == "code"), (
        "run the notebook in place: no output is committed"
    )
