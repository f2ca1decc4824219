"The counts behind the table of docs/decisions.md, on a notebook and packages written out here."

import importlib.util
import json
import re
import statistics

import pytest


@pytest.fixture(scope="module")
def form(root):
    spec = importlib.util.spec_from_file_location("measure_form", root / ".github" / "measure_form.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(path, *cells):
    "Writes a notebook; a cell is `(kind, source)` or `(kind, source, True)` for one with an output."
    raw = []
    for kind, source, *shows in cells:
        cell = {"cell_type": kind, "source": source.splitlines(True), "metadata": {}}
        if kind == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}] if shows else []
        raw.append(cell)
    path.write_text(json.dumps({"cells": raw, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def test_cells_of_a_notebook(form, tmp_path):
    cells = form.read_cells(
        notebook(
            tmp_path / "n.ipynb",
            ("code", "#| export\nimport os\nfrom json import loads\n__all__ = ['f']"),  # 0: imports are no symbol
            ("markdown", "What f is for."),
            ("code", "#| export\ndef f():\n    return 1\n\n"),  # 2: prose before, output after a sentence
            ("markdown", "A call."),
            ("code", "f()", True),
            ("code", "#|export\ndef g():\n    return 2"),  # 5: its output is hidden
            ("code", "#| hide\ng()", True),
            ("markdown", "Then h."),
            ("code", "x = 1"),
            ("code", "#| exporti\ndef _h(): ...\n\n\n_h()", True),  # 9: shows its own output
            ("code", "#| eval: false\n#| exports\nPROMPT = 'a'\n"),  # 10: no prose since, and the last cell
        )
    )
    assert " ".join(c.kind for c in cells) == ("hidden prose export prose code export hidden prose code export export")
    assert form.exported(cells) == [2, 5, 9, 10]
    assert form.without_prose(cells) == [10]
    assert form.without_output(cells) == [5, 10]
    assert form.without_output(cells, within=1) == [2, 5, 10]
    assert [cells[i].lines for i in form.exported(cells)] == [2, 2, 4, 1]  # directives and outer blank lines left out
    assert form.longer_than(cells, 3) == [9] and form.longer_than(cells, 4) == []


def test_only_notebooks_of_the_library_count(form, tmp_path):
    (tmp_path / "nbs" / "_hidden").mkdir(parents=True)
    export = ("code", "#| export\ndef f(): ...")
    notebook(tmp_path / "nbs" / "a.ipynb", export)
    notebook(tmp_path / "nbs" / "tutorial.ipynb", ("code", "1 + 1", True))
    notebook(tmp_path / "nbs" / "_hidden" / "b.ipynb", export)
    assert [p.name for p in form.library_notebooks(tmp_path)] == ["a.ipynb"]


def test_names_at_the_top(form, tmp_path):
    package = tmp_path / "p"
    (package / "sub").mkdir(parents=True)
    (package / "core.py").write_text(
        "import os\nfrom .plain import z\n__all__ = ['f', 'G']\ndef f(): ...\ndef _f(): ...\n"
    )
    (package / "plain.py").write_text("import os\ndef z(): ...\nclass Z: ...\ndef _z(): ...\n")
    (package / "sub" / "__init__.py").write_text("from .deep import y\n")
    (package / "__init__.py").write_text(
        "from .core import *\nfrom .plain import Z as Zed, _z\nfrom .sub import *\nfrom os import sep\n"
    )
    assert form.names_at(package / "__init__.py") == {"f", "G", "Zed", "y"}
    assert form.public_names(package / "core.py") == {"f", "G"}
    assert form.public_names(package / "plain.py") == {"z", "Z"}
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .core import f\n"
    )
    assert form.front_door(tmp_path, ["p"]) == 1
    (package / "__init__.py").write_text("__all__ = ['a', 'b', 'c']\ndef __getattr__(name): ...\n")
    assert form.front_door(tmp_path, ["p"]) == 3
    (package / "__init__.py").write_text("_HOME = {'a': 'core', 'b': 'plain'}\n__all__ = sorted(_HOME)\n")
    assert form.front_door(tmp_path, ["p"]) == 2


def test_the_table_is_put_between_its_markers(form, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{form.START}\nold\n{form.END}\nbelow\n")
    form.write(page, form.table({"a": {"rows": "1"}, "b": {"rows": "2"}}))
    assert (
        page.read_text() == f"above\n{form.START}\n| | a | b |\n|---|---:|---:|\n| rows | 1 | 2 |\n{form.END}\nbelow\n"
    )
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="has no lines"):
        form.write(page, "x")


def test_how_this_project_reads(form, root):
    cells = {path: form.read_cells(path) for path in form.library_notebooks(root)}
    too_long = [path.name for path, found in cells.items() if form.longer_than(found, 60)]
    assert not too_long, f"an exported cell of more than 60 lines: {too_long}"
    bare = [path.name for path, found in cells.items() if form.without_prose(found)]
    assert not bare, f"an exported cell without prose before it: {bare}"
    # a class whose constructor needs the methods that follow can be shown only after them
    unseen = [
        (path.name, i)
        for path, found in cells.items()
        for i in form.without_output(found)
        if re.search(r"^(def|class) ", found[i].source, re.MULTILINE)
    ]
    assert len(unseen) <= 2, f"exported cells without an output within two cells: {unseen}"
    lengths = [found[i].lines for found in cells.values() for i in form.exported(found)]
    assert statistics.median(lengths) <= 15
