"Notebooks and Markdown files to pages of the site."

import ast
import base64
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import signatures
from markup import PageError, Renderer, code_block, raw, slug, strip_tags
from signatures import Param, Symbol

DIRECTIVE = re.compile(r"^\s*#\|\s*(.*?)\s*$", re.MULTILINE)
LEAD = re.compile(r"\s*#\s+.+\n\s*((?:>[ \t]*\S.*\n?)+)")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FOLD = 30  # lines of code that are shown without a click
NEEDS = {"gpu": "Runs on a GPU only.", "api": "Asks a server: not run by the tests."}


@dataclass
class Cell:
    "A cell that a reader may see."

    kind: str  # "markdown" or "code"
    source: str  # without directive lines
    directives: frozenset[str] = frozenset()
    outputs: tuple[dict, ...] = ()

    @property
    def exported(self) -> bool:
        return any(re.match(r"exports?\b", d) for d in self.directives)


@dataclass
class Page:
    "One page: a notebook or a Markdown file, and where it is shown."

    source: Path  # relative to the repository
    path: str  # on the site, without a suffix
    cells: list[Cell]
    module: str = ""  # `text.records`, of a notebook that exports
    symbols: dict[str, Symbol] = field(default_factory=dict)
    anchors: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)  # name beside the page -> content
    text: str = ""

    @property
    def opening(self) -> str:
        "First Markdown of the page."
        return next((c.source for c in self.cells if c.kind == "markdown"), "")

    @property
    def title(self) -> str:
        "Text of the first heading, or the name of the file."
        found = re.search(r"^#\s+(.+?)\s*#*$", self.opening, re.MULTILINE)
        return re.sub(r"[`*]", "", found[1]) if found else self.source.stem

    @property
    def lead(self) -> str:
        "The line below the title, as Markdown."
        found = LEAD.match(self.opening)
        return re.sub(r"^>\s?", "", found[1], flags=re.MULTILINE).replace("\n", " ").strip() if found else ""


def read_notebook(file: Path, source: Path, path: str) -> Page:
    "A notebook without its hidden cells; raises PageError when exported code does not parse."
    page = Page(source, path, [])
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            page.cells.append(Cell("markdown", text))
        if cell["cell_type"] != "code":
            continue
        directives = frozenset(DIRECTIVE.findall(text))
        module = next((d.split()[1] for d in directives if d.startswith("default_exp ")), "")
        page.module = module or page.module
        text = DIRECTIVE.sub("", text).strip("\n")
        if directives & {"hide", "include: false"} or not (text or cell.get("outputs")):
            continue
        page.cells.append(Cell("code", text, directives, tuple(cell.get("outputs", []))))
        if page.cells[-1].exported:
            try:
                found = signatures.symbols(text)
            except SyntaxError as error:
                raise PageError(f"{source}: exported code does not parse: {error}") from None
            page.symbols.update({m.name: m for s in found for m in s.members})
    return page


def read_markdown(file: Path, source: Path, path: str) -> Page:
    "A Markdown file as a page."
    return Page(source, path, [Cell("markdown", file.read_text(encoding="utf-8"))])


def only_imports(text: str) -> bool:
    "Whether code does nothing but import and list names for export."
    tree = ast.parse(text)
    special = {"_all_"}
    return all(
        isinstance(n, (ast.Import, ast.ImportFrom))
        or (isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and n.targets[0].id in special)
        for n in tree.body
    )


def breakable(code: str) -> str:
    "Code that may be broken after a bar, a comma or a bracket."
    return re.sub(r"(?<=[|,\[(])", "<wbr>", html.escape(code))


def table(params: tuple[Param, ...], returns: Param | None, inline: Callable[[str], str]) -> str:
    "Signature table: name, type, default, meaning; the last row says what is returned."
    rows = []
    for p in [*params, *([returns] if returns else [])]:
        name = "<em>returns</em>" if p is returns else f"<code>{html.escape(p.name)}</code>"
        cells = [f"<code>{breakable(c)}</code>" if c else "" for c in (p.type, p.default)]
        label = '<tr class="returns"><th scope="row">' if p is returns else '<tr><th scope="row">'
        rows.append(f"{label}{name}</th><td>{cells[0]}</td><td>{cells[1]}</td><td>{inline(p.meaning)}</td></tr>")
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{c}</th>' for c in ("name", "type", "default", "meaning"))
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="params"><table class="params-table">{body}</table></div>'


def call_of(symbol: Symbol) -> str:
    "The call and what it returns, as highlighted code."
    returns = f" -> {symbol.returns.type}" if symbol.returns else ""
    return code_block(symbol.call + returns, "python").replace('class="highlight"', 'class="highlight call"')


def signature(symbol: Symbol, renderer: Renderer, anchors: bool) -> str:
    "Signature, docstring and tables of a symbol; with `anchors`, its methods can be linked to."
    parts = ['<div class="signature">']
    if symbol.kind != "property":
        parts.append(call_of(symbol))
    if symbol.bases:
        parts.append(f'<p class="bases">Bases: {", ".join(f"<code>{html.escape(b)}</code>" for b in symbol.bases)}</p>')
    if symbol.doc:
        parts.append(f'<div class="doc">{renderer.html(symbol.doc)}</div>')
    parts.append(table(symbol.params, symbol.returns, renderer.inline))
    for method in symbol.methods:
        first = method.doc.strip().split("\n")[0]
        name = html.escape(method.call.split(".", 1)[1] if "." in method.call else method.call)
        mark = f' id="{method.name}"' if anchors else ""
        body = (f'<div class="doc">{renderer.html(method.doc)}</div>' if "\n" in method.doc.strip() else "") + table(
            method.params, method.returns, renderer.inline
        )
        head = f'<code>{name}</code> <span class="brief">{renderer.inline(first)}</span>'
        kind = "details" if body else "div"
        inner = f"<summary>{head}</summary>{body}" if body else head
        parts.append(f'<{kind} class="method"{mark}>{inner}</{kind}>')
    return "".join(parts) + "</div>"


def folded(code: str, label: str) -> str:
    "Code behind a click."
    return f'<details class="source"><summary>{label}</summary>{code}</details>'


class PageWriter:
    "Writes one page, cell by cell."

    def __init__(self, page: Page, renderer: Renderer):
        self.page, self.renderer = page, renderer
        self.images = 0
        page.files = {}
        renderer.anchors.update(page.symbols)
        self.given = set()  # symbols that have their anchor

    def write(self, links: list[tuple[str, str]]) -> str:
        "Markdown of the page; `links` (text, href) stand below its title."
        parts = []
        for i, cell in enumerate(self.page.cells):
            if cell.kind == "markdown":
                parts.append(self.opening(cell.source, links) if not i else self.renderer.blocks(cell.source))
            else:
                parts.append(self.code(cell))
        self.page.anchors = set(self.renderer.anchors)
        return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip() + "\n"

    def opening(self, text: str, links: list[tuple[str, str]]) -> str:
        "Title, lead and links of the page, then the rest of its first cell."
        r, page = self.renderer, self.page
        lead = LEAD.match(text)
        rest = text[lead.end() :] if lead else re.sub(r"^\s*#\s+.+\n?", "", text, count=1)
        parts = [r.heading(1, html.escape(page.title), r.anchor(slug(page.title)))]
        if page.lead:
            parts.append(raw(f'<p class="lead">{r.inline(page.lead)}</p>'))
        if links:
            parts.append(
                raw('<p class="about">' + "".join(f'<a href="{html.escape(h)}">{t}</a>' for t, h in links) + "</p>")
            )
        return "".join(parts) + r.blocks(rest)

    def code(self, cell: Cell) -> str:
        "A code cell with its outputs; exported symbols come with heading and table."
        parts, shown = [], code_block(cell.source, "python")
        lines = cell.source.count("\n") + 1
        needs = [text for key, text in NEEDS.items() if key in cell.directives]
        if needs:
            parts.append(raw(f'<p class="needs">{" ".join(needs)}</p>'))
        if "echo: false" not in cell.directives and cell.source:
            if cell.exported:
                parts += self.exported(cell)
                if only_imports(cell.source):
                    shown = folded(shown, "Imports")
                elif lines > FOLD:
                    shown = folded(shown, f"Source, {lines} lines")
            elif lines > 2 * FOLD:
                shown = folded(shown, f"Code, {lines} lines")
            parts.append(raw(f'<div class="input">{shown}</div>'))
        outputs = "".join(self.output(o) for o in cell.outputs)
        if outputs:
            parts.append(raw(f'<div class="output" data-search-exclude>{outputs}</div>'))
        return "".join(parts)

    def exported(self, cell: Cell) -> list[str]:
        "Headings and signatures of the symbols in an exported cell."
        parts, r = [], self.renderer
        level = r.level
        for symbol in signatures.symbols(cell.source):
            name = symbol.name
            anchor = name if name not in self.given else r.anchor(name)
            self.given.add(name)
            if symbol.kind == "constant":
                parts.append(raw(f'<div class="constant" id="{anchor}"></div>'))
                continue
            heading = f"<code>{html.escape(name)}</code>"
            if "__" in anchor:  # Markdown reads the underscores of an attribute as emphasis
                parts.append(raw(f'<span id="{anchor}"></span>'))
                anchor = r.anchor(anchor.replace("__", ""))
            parts.append(r.heading(min(level + 1, 5), heading, anchor, f"symbol {symbol.kind}"))
            parts.append(raw(signature(symbol, r, True)))
        r.level = level
        return parts

    def output(self, output: dict) -> str:
        "HTML of one output, in the richest form that a page without a kernel can show."
        if output["output_type"] == "stream":
            return self.plain("".join(output["text"]))
        if output["output_type"] == "error":
            return self.plain("\n".join(output["traceback"]))
        data = {k: "".join(v) if isinstance(v, list) else v for k, v in output["data"].items()}
        if "text/html" in data:
            return f'<div class="rich">{data["text/html"]}</div>'
        if "image/svg+xml" in data:
            return f'<div class="rich">{data["image/svg+xml"]}</div>'
        if "image/png" in data:
            return self.picture(data["image/png"])
        if "text/markdown" in data:
            return f'<div class="prose">{self.renderer.html(data["text/markdown"])}</div>'
        if "application/vnd.jupyter.widget-view+json" in data:
            idle = re.match(r"(Output\(\)|.*\d+/\d+ \[)", data.get("text/plain", ""))
            return "" if idle else '<p class="widget">Controls appear here when the notebook runs.</p>'
        return self.plain(data.get("text/plain", ""))

    def plain(self, text: str) -> str:
        text = ANSI.sub("", text).rstrip()
        return f"<pre><code>{html.escape(text)}</code></pre>" if text else ""

    def picture(self, encoded: str) -> str:
        self.images += 1
        name = f"{self.page.path.split('/')[-1]}-{self.images}.png"
        self.page.files[name] = base64.b64decode(encoded)
        alt = f"Figure {self.images} of {html.escape(self.page.title)}"
        return f'<p class="figure"><img src="{name}" alt="{alt}" loading="lazy"></p>'


def plain_text(markup: str) -> str:
    "Text of rendered HTML, for a page's description."
    return " ".join(strip_tags(markup).split())
