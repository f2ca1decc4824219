"""How code reads, in numbers: cells, long lines, prose, names and lint of an nbdev or a plain repository.

    python .github/measure_form.py preflexor_lab=. claudette=../claudette nanochat=../nanochat:nanochat,scripts,tasks

Each argument is NAME=FOLDER[:PACKAGE,...]; the packages are NAME unless they are given. It prints a Markdown table, one
column per repository; `--write docs/decisions.md` puts it between the markers of that page. Needs ruff.
"""

import argparse
import ast
import json
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- form: begin -->", "<!-- form: end -->"
DIRECTIVE = re.compile(r"^\s*#\s*\|")
EXPORT = re.compile(r"^\s*#\s*\|\s*(?:exports?|exporti)\b(.*)$", re.MULTILINE)
HIDDEN = re.compile(r"^\s*#\s*\|\s*(?:hide|include:\s*false)\b", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    "One cell of a notebook, as a reader or the exporter sees it."

    kind: str  # "prose", "export", "code" or "hidden"
    source: str
    shows: bool = False  # it has an output that a reader sees

    @property
    def lines(self) -> int:
        "Lines of source, without directives and without blank lines at either end."
        body = [line for line in self.source.splitlines() if not DIRECTIVE.match(line)]
        return len("\n".join(body).strip().splitlines())


def only_imports(source: str) -> bool:
    "A cell of imports (and of module-level settings such as a logger) defines nothing to read about."
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic
        return False
    return all(
        isinstance(node, (ast.Import, ast.ImportFrom)) or (isinstance(node, ast.Assign) and is_setting(node.targets[0]))
        for node in body
    )


def is_setting(target: ast.expr) -> bool:
    "True for `__all__` and the like, and for a logger."
    return isinstance(target, ast.Name) and (target.id.startswith("__") or target.id in ("log", "logger"))


def read_cells(path: Path) -> list[Cell]:
    "The cells of one notebook. Exported cells that only import are hidden ones: they define nothing."
    cells = []
    for raw in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(raw["source"])
        if raw["cell_type"] == "markdown":
            cells.append(Cell("prose", source))
        elif raw["cell_type"] == "code":
            if EXPORT.search(source):
                kind = "hidden" if only_imports(source) else "export"
            else:
                kind = "hidden" if HIDDEN.search(source) else "code"
            cells.append(Cell(kind, source, bool(raw.get("outputs"))))
    return cells


def exported(cells: list[Cell]) -> list[int]:
    "Positions of the cells that put a symbol into the library."
    return [i for i, cell in enumerate(cells) if cell.kind == "export"]


def without_prose(cells: list[Cell]) -> list[int]:
    "Exported cells with no prose between them and the exported cell before them."
    found, previous = [], -1
    for i in exported(cells):
        if not any(cell.kind == "prose" for cell in cells[previous + 1 : i]):
            found.append(i)
        previous = i
    return found


def without_output(cells: list[Cell], within: int = 2) -> list[int]:
    "Exported cells that show nothing, and that no output follows among the next `within` cells that a reader sees."
    found = []
    for i in exported(cells):
        near = [cell for cell in cells[i + 1 :] if cell.kind != "hidden"][:within]
        if not cells[i].shows and not any(cell.shows for cell in near):
            found.append(i)
    return found


def longer_than(cells: list[Cell], limit: int) -> list[int]:
    "Exported cells of more than `limit` lines."
    return [i for i in exported(cells) if cells[i].lines > limit]


def library_notebooks(folder: Path) -> dict[Path, list[Cell]]:
    "Notebooks of a repository that export at least one cell."
    found = {}
    for path in sorted(folder.rglob("*.ipynb")):
        inside = path.relative_to(folder)
        if any(part.startswith((".", "_")) for part in inside.parts) or {"build", "dist", "site"} & set(inside.parts):
            continue
        cells = read_cells(path)
        if exported(cells):
            found[path] = cells
    return found


def library_files(folder: Path, packages: list[str]) -> list[Path]:
    "Python files of the named packages; nbdev's index of names is no code."
    return [f for p in packages for f in sorted((folder / p).rglob("*.py")) if f.name != "_modidx.py"]


def listed(tree: ast.Module) -> set[str] | None:
    "What `__all__` lists, or None when the file has no `__all__` that can be read without running it."
    for node in tree.body:
        literal = isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.Tuple))
        if literal and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return {e.value for e in node.value.elts if isinstance(e, ast.Constant)}
    return None


def public_names(path: Path) -> set[str]:
    "Names of one module: its `__all__`, else its classes and functions without an underscore."
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = listed(tree)
    if names is None:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        names = {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}
    return names


def names_at(path: Path) -> set[str]:
    """Names that a package's `__init__` (or a module such as `all`) offers, read without importing it.

    They are its `__all__`, or what it imports from its own package, also where such imports stand for a type checker
    only, beside a lazy loader. A star brings the public names of its module.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = listed(tree)
    if names is not None:
        return names
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            given = {alias.asname or alias.name for alias in node.names}
            names |= public_of(path.parent, node.module) if given == {"*"} else given
    return {name for name in names if not name.startswith("_")}


def public_of(folder: Path, module: str | None) -> set[str]:
    "What a star import brings from a module or a sub-package."
    base = folder.joinpath(*(module or "").split("."))
    if base.is_dir():
        return names_at(base / "__init__.py")
    file = base.with_suffix(".py")
    return names_at(file) | public_names(file)


def computed(path: Path) -> bool:
    "Whether a file has an `__all__` that only running it can tell, as a lazy package does."
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return listed(tree) is None and any(getattr(t, "id", "") == "__all__" for node in assigned for t in node.targets)


def front_door(folder: Path, packages: list[str]) -> int:
    "Number of names at the top of the first package: in its `__init__`, or in its module `all` if that has more."
    package = folder / packages[0]
    if computed(package / "__init__.py"):
        program = f"import {packages[0]}; print(len({packages[0]}.__all__))"
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
        return int(done.stdout)
    found = [names_at(f) for f in (package / "__init__.py", package / "all.py") if f.exists()]
    return max(map(len, found), default=0)


def lint(files: list[Path], config: Path) -> int:
    "Findings of `ruff check` under one configuration, for every repository alike."
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        raise SystemExit("ruff is not installed: pip install ruff")
    command = [ruff, "check", "--config", str(config), "--no-cache", "--output-format=json", "--exit-zero", "--quiet"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return len(json.loads(done.stdout))


def measure(folder: Path, packages: list[str], config: Path) -> dict[str, str]:
    "One column of the table."
    files = library_files(folder, packages)
    if not files:
        raise SystemExit(
            f"no Python files in {', '.join(packages)} of {folder}: name the packages, as in NAME={folder}:PACKAGE"
        )
    lines = [line for f in files for line in f.read_text(encoding="utf-8").splitlines()]
    notebooks = list(library_notebooks(folder).values())
    sizes = [cells[i].lines for cells in notebooks for i in exported(cells)]
    column = {
        "library lines": f"{len(lines):,}",
        "lines over 120 columns, %": f"{100 * sum(len(line) > 120 for line in lines) / len(lines):.1f}",
        "exported cells": f"{len(sizes):,}",
        "median exported cell, lines": f"{statistics.median(sizes):g}" if sizes else "–",
        "exported cells over 60 lines": f"{sum(s > 60 for s in sizes)}",
        "prose cells per export": "–",
        "exports with prose before them, %": "–",
        "exports with an output within two cells, %": "–",
        "names at the top": f"{front_door(folder, packages)}",
        "public names of all modules": f"{sum(len(public_names(f)) for f in files if f.name != '__init__.py'):,}",
        "ruff findings per 1,000 lines": f"{1000 * lint(files, config) / len(lines):.1f}",
    }
    if sizes:
        prose = sum(cell.kind == "prose" for cells in notebooks for cell in cells)
        silent = sum(len(without_prose(cells)) for cells in notebooks)
        unseen = sum(len(without_output(cells)) for cells in notebooks)
        column["prose cells per export"] = f"{prose / len(sizes):.1f}"
        column["exports with prose before them, %"] = f"{100 - 100 * silent / len(sizes):.0f}"
        column["exports with an output within two cells, %"] = f"{100 - 100 * unseen / len(sizes):.0f}"
    else:
        column["exported cells"] = column["exported cells over 60 lines"] = "–"
    return column


def table(columns: dict[str, dict[str, str]]) -> str:
    "Markdown, one column per repository."
    head = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    rows = next(iter(columns.values()))
    return "\n".join(head + [f"| {row} | " + " | ".join(c[row] for c in columns.values()) + " |" for row in rows])


def write(page: Path, text: str) -> None:
    "Put the table between the two markers of a page."
    before, found, rest = page.read_text(encoding="utf-8").partition(START)
    if not found or END not in rest:
        raise SystemExit(f"{page} has no lines '{START}' and '{END}' for the table to go between")
    page.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repositories", nargs="+", metavar="NAME=FOLDER[:PACKAGE,...]")
    parser.add_argument("--config", type=Path, default=ROOT / "ruff.toml", help="configuration of ruff, used for all")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page as well")
    args = parser.parse_args()
    columns = {}
    for argument in args.repositories:
        name, _, place = argument.partition("=")
        folder, _, packages = place.partition(":")
        columns[name] = measure(Path(folder).resolve(), packages.split(",") if packages else [name], args.config)
    text = table(columns)
    print(text)
    if args.write:
        write(args.write, text)


if __name__ == "__main__":
    main()
