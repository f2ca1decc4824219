"""The documentation site: built once, offline, and looked at as a browser would see it.

Needs the extra `docs`; without it the tests are skipped, and the reason is printed.
"""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ["mkdocs", "material", "markdown_it", "mdit_py_plugins", "latex2mathml", "ziamath", "fontTools", "brotli"]
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"pip install -e '.[docs]' first: {', '.join(MISSING)} not found")

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADING = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class Reader(HTMLParser):
    "What one page links to, loads, and shows."

    def __init__(self):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.prose, self.code, self.math, self.styles, self.cells = [], [], 0, [], 0
        self.rows: dict[str, list[str]] = {}  # symbol -> first column of the tables below its heading
        self.stack, self.symbol = [], None

    def handle_starttag(self, tag, attrs):
        given = {k: v or "" for k, v in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for (name, key), value in (((tag, k), v) for k, v in given.items()):
            if (name, key) in LOADING and given.get("rel") not in ("canonical", "prev", "next"):
                self.loads.append(value)
        self.math += tag == "math"
        classes = given.get("class", "").split()
        if re.fullmatch(r"h[1-6]", tag):
            self.symbol = given.get("id") if "symbol" in classes else None
        if tag == "details" and "method" in classes and given.get("id"):
            self.symbol = given["id"]
        self.cells += "input" in classes
        if tag not in VOID:
            self.stack.append((tag, classes))

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tags = [tag for tag, _ in self.stack]
        classes = {c for _, names in self.stack for c in names}
        if "style" in tags:
            self.styles.append(data)
        elif "script" in tags or "article" not in tags:
            return
        elif "input" in classes:
            self.code.append(data)
        elif "output" in classes or "pre" in tags or "code" in tags or "math" in tags:
            if self.symbol and "params-table" in classes and tags[-2:] == ["th", "code"]:
                self.rows.setdefault(self.symbol, []).append(data)
        else:
            self.prose.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "Folder of the built site, and its pages as read."
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        str(ROOT / "docs" / "make_site.py"),
        str(folder / "site"),
        "--work",
        str(folder / "work"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {}
    for file in sorted((folder / "site").rglob("*.html")):
        reader = Reader()
        reader.feed(file.read_text(encoding="utf-8"))
        pages[file.relative_to(folder / "site").as_posix()] = reader
    return folder / "site", pages


def notebooks():
    "Every notebook, with the page that it becomes."
    folder = ROOT / "nbs"
    for file in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in file.parts:
            continue
        *rooms, name = file.relative_to(folder).with_suffix("").parts
        plain = [re.sub(r"^\d+_", "", part) for part in (*rooms, name)]
        if rooms and plain[-1] == "index":
            plain[-1] = name
        yield file, "/".join(plain) + ".html"


def code_cells(file):
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def resolve(page, href):
    "Path and anchor inside the site, or None for an address elsewhere."
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    base = "" if path.startswith("/") else os.path.dirname(page)
    path = re.sub(r"^/[^/]+/?", "", path) if path.startswith("/") else path  # the host's folder for this project
    target = os.path.normpath(os.path.join(base, path)) if path else (page if not parts.path else "index.html")
    return ("index.html" if target == "." else target), unquote(parts.fragment)


def test_every_notebook_and_page_is_there(site):
    _, pages = site
    wanted = {page for _, page in notebooks()} | {f"{f.stem}.html" for f in (ROOT / "docs").glob("*.md")}
    assert wanted <= set(pages), wanted - set(pages)
    assert len(wanted) > 40


def test_no_link_and_no_anchor_is_dead(site):
    folder, pages = site
    dead, checked = [], 0
    for page, reader in pages.items():
        for href in reader.links + reader.loads:
            target = resolve(page, href)
            if target is None:
                continue
            path, anchor = target
            checked += 1
            if not (folder / path).is_file():
                dead.append(f"{page}: {href}")
            elif anchor and path in pages and anchor not in pages[path].anchors | {"__top"}:
                dead.append(f"{page}: {href} (anchor)")
    assert checked > 1000
    assert not dead, "\n".join(sorted(set(dead))[:40])


def test_links_to_the_repository_name_files_that_exist(site):
    _, pages = site
    links = {h for reader in pages.values() for h in reader.links if "/preflexor-lab/preflexor_lab/blob/main/" in h}
    paths = {urlsplit(h).path.split("/blob/main/", 1)[1] for h in links}
    assert len(paths) > 40
    assert not [p for p in sorted(paths) if not (ROOT / p).exists()]


def test_nothing_is_fetched_from_elsewhere(site):
    folder, pages = site
    outside = [f"{page}: {u}" for page, r in pages.items() for u in r.loads if urlsplit(u).netloc or u.startswith("//")]
    assert not outside, outside[:20]
    sheets = {f.relative_to(folder).as_posix(): f.read_text(encoding="utf-8") for f in folder.rglob("*.css")}
    sheets |= {page: "\n".join(reader.styles) for page, reader in pages.items()}
    for name, text in sheets.items():
        for url in re.findall(r"(?:url\(|@import\s)\s*[\"']?([^\"')\s;]+)", text):
            assert not re.match(r"(?:https?:)?//", url), f"{name} loads {url}"
            if not url.startswith(("data:", "#")):
                path = os.path.normpath(os.path.join(os.path.dirname(name), url.split("#")[0]))
                assert (folder / path).is_file(), f"{name} loads {url}, which is not there"
    html = "".join((folder / page).read_text(encoding="utf-8") for page in pages)
    # what the theme's script would fetch by itself: diagrams, and facts about the repository
    assert 'class="mermaid"' not in html and 'data-md-component="source"' not in html


def test_formulas_are_rendered(site):
    _, pages = site
    raw = [
        f"{page}: {t}" for page, r in pages.items() for t in r.prose if re.search(r"\$[^$\n]*[\\^_=][^$\n]*\$|\$\$", t)
    ]
    assert not raw, raw[:10]
    commands = [f"{page}: {t}" for page, r in pages.items() for t in r.prose if re.search(r"\\[a-zA-Z]{2,}", t)]
    assert not commands, commands[:10]
    written = sum(
        len(
            re.findall(
                r"\$\$.+?\$\$|(?<![\\$\w])\$(?! )[^$\n]+?(?<! )\$(?!\d)",
                re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL),
                re.DOTALL,
            )
        )
        for file, _ in notebooks()
        for text in (
            "".join(c["source"]) for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "markdown"
        )
    )
    assert written > 100
    assert sum(r.math for r in pages.values()) >= written


def test_no_directive_shows(site):
    _, pages = site
    shown = [
        p
        for p, r in pages.items()
        for text in ("".join(r.code), "".join(r.prose))
        if re.search(r"^\s*#\|", text, re.MULTILINE)
    ]
    assert not shown, shown
    assert sum(r.cells for r in pages.values()) > 500


def test_hidden_cells_are_absent(site):
    _, pages = site
    hidden = 0
    for file, page in notebooks():
        code = "".join(pages[page].code)
        cells = list(code_cells(file))
        visible = "\n".join(c for c in cells if not re.search(r"^#\|\s*hide\b", c, re.MULTILINE))
        for cell in cells:
            if re.search(r"^#\|\s*hide\s*$", cell, re.MULTILINE):
                for line in (x.strip() for x in cell.splitlines()):
                    if len(line) > 20 and not line.startswith("#|") and line not in visible:
                        hidden += 1
                        assert line not in code, f"{page} shows a line of a hidden cell: {line}"
    assert hidden > 100


def test_visible_cells_are_there(site):
    _, pages = site
    for file, page in notebooks():
        code = "".join(pages[page].code)
        for cell in code_cells(file):
            if not re.search(r"^#\|\s*(hide|echo: false|include: false)", cell, re.MULTILINE):
                for line in cell.splitlines():
                    assert line.strip().startswith("#|") or line.strip() in code, f"{page} lacks {line!r}"


def documented(node, owner=""):
    "Names of the arguments of a function, or of the constructor of a class, as its table must have them."
    if isinstance(node, ast.ClassDef):
        init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if init:
            return documented(init[0], node.name)
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        fields = [n for n in fields if "ClassVar" not in ast.unparse(n.annotation) and n.target.id[0] != "_"]
        return [n.target.id for n in fields]
    args = node.args
    names = [a.arg for a in args.posonlyargs + args.args][bool(owner) :]
    names += ["*" + args.vararg.arg] if args.vararg else []
    names += [a.arg for a in args.kwonlyargs]
    return names + (["**" + args.kwarg.arg] if args.kwarg else [])


def exported_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def test_every_exported_symbol_has_its_table(site):
    "The library's own source says which arguments there are; the page must have a row for each."
    _, pages = site
    page_of = {}
    for file, page in notebooks():
        for cell in code_cells(file):
            found = re.search(r"^#\|\s*default_exp\s+(\S+)", cell, re.MULTILINE)
            if found:
                page_of[found[1]] = page
    tables = 0
    for module, page in page_of.items():
        tree = ast.parse((ROOT / "preflexor_lab" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        public = exported_names(tree)
        for node in tree.body:
            if getattr(node, "name", None) not in public or not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            if "patch" in {d.id for d in node.decorator_list if isinstance(d, ast.Name)}:
                continue  # a method of the same name
            assert node.name in pages[page].anchors, f"{page} has no heading for {node.name}"
            rows = pages[page].rows.get(node.name, [])
            assert rows == documented(node), f"{page}, {node.name}: table {rows}, source {documented(node)}"
            tables += bool(rows)
    assert tables > 150


def test_public_names_are_in_the_reference(site):
    import preflexor_lab

    _, pages = site
    reader = pages["reference.html"]
    assert len(preflexor_lab.__all__) > 50 and not set(preflexor_lab.__all__) - reader.anchors
    explained = {h.split(".html#")[1] for h in reader.links if ".html#" in h}
    assert not [n for n in preflexor_lab.__all__ if preflexor_lab._HOME[n][1] not in explained]


def test_order_of_the_pages(site):
    "Previous and next lead from the start page through walkthroughs, coming_from and the rooms in their order."
    folder, _ = site
    chain, page = [], "index.html"
    while page:
        chain.append(page)
        found = re.search(r'<link rel="next" href="([^"]+)"', (folder / page).read_text(encoding="utf-8"))
        page = resolve(page, found[1])[0] if found else None
        assert page not in chain
    tops = list(dict.fromkeys(p.split("/")[0] for p in chain if "/" in p))
    rooms = sorted(d.name for d in (ROOT / "nbs").iterdir() if re.match(r"\d+_", d.name) and list(d.glob("*.ipynb")))
    assert tops == ["walkthroughs", "coming_from", *(re.sub(r"^\d+_", "", r) for r in rooms)]
    assert set(chain) >= {page for _, page in notebooks()}


def test_search_finds_a_symbol(site):
    folder, _ = site
    index = json.loads((folder / "search" / "search_index.json").read_text(encoding="utf-8"))
    titles = {re.sub(r"<[^>]+>", "", d["title"]) for d in index["docs"]}
    assert {"exo_loss", "LaTROTrainer"} <= titles


def test_docments_are_read_from_source(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import signatures

    source = """
@dataclass(frozen=True)
class Box:
    "Holds things."
    size: int  # litres
    names: list[str] = field(default_factory=list)  # one per thing
    _seen: int = 0

    def __call__(
        self,
        x: "float|None" = None,  # weight, kg
        *rest: int,
        quiet=False,  # say nothing,
        # not even in the log
    ) -> bool:  # whether it fits
        "Put it in."

    def _inner(self): ...


@patch
def shut(self: Box, how: str = "é"):  # carefully
    "Close."


def plain(a, b: int = 1) -> str:  # both together
    "Join."


LIMIT = 3  # things
"""
    box, shut, plain, limit = signatures.symbols(source)
    row = signatures.Param
    assert box.params == (row("size", "int", "", "litres"), row("names", "list[str]", "list()", "one per thing"))
    (call,) = box.methods
    assert call.params == (
        row("x", '"float|None"', "None", "weight, kg"),
        row("*rest", "int", "", ""),
        row("quiet", "", "False", "say nothing, not even in the log"),
    )
    assert call.returns == row("returns", "bool", "", "whether it fits") and call.call.startswith("Box(x=None")
    assert shut.name == "Box.shut" and shut.params == (row("how", "str", '"é"', "carefully"),)
    assert plain.returns.meaning == "both together" and [p.meaning for p in plain.params] == ["", ""]
    assert (limit.kind, limit.doc) == ("constant", "things")


def test_a_dead_link_and_an_unknown_formula_stop_the_build(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_site
    import markup

    with pytest.raises(markup.PageError, match="nosuch"):
        markup.formula(r"\nosuch{x}", False)
    site = make_site.Site()
    page = site.by_source["nbs/index.ipynb"]
    assert site.link(page, "nowhere.ipynb") == "nowhere.ipynb"
    assert any("nowhere.ipynb leads nowhere" in p for p in site.problems)
