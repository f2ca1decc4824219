"""The documentation site, from the notebooks: `python docs/make_site.py [FOLDER]` (default: site/).

Every notebook in `nbs/` and every `docs/*.md` becomes a Markdown page in build/docs, the order of the pages follows
from the names of folders and files, and Material for MkDocs makes the site from them. Nothing is executed, and of the
package nothing is imported but its list of public names.
"""

import argparse
import html
import importlib
import json
import os
import re
import shutil
import string
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import yaml
from fontTools import subset
from markup import PageError, Renderer, raw, strip_tags
from pages import Page, PageWriter, plain_text, read_markdown, read_notebook, signature
from signatures import Symbol

ROOT = Path(__file__).resolve().parent.parent
FIRST = ["walkthroughs", "coming_from"]  # folders that come before the rooms
LABELS = {"walkthroughs": "Walkthroughs", "coming_from": "Coming from", "": "Notebooks"}


def settings() -> dict[str, str]:
    "The project's metadata."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def order(name: str) -> tuple[int, str]:
    "Sort key of a folder or file: its number, then its name."
    found = re.match(r"(\d+)_", name)
    return (int(found[1]) if found else 999, name)


def plain_name(name: str) -> str:
    "`01_text` -> `text`."
    return re.sub(r"^\d+_", "", name)


class Site:
    "All pages, and what can be linked to."

    def __init__(self, root: Path = ROOT):
        self.root, self.cfg = root, settings()
        self.package = self.cfg["lib_path"]
        self.blob = f"{self.cfg['git_url']}/blob/{self.cfg['branch']}/"
        self.problems = []
        self.pages = self.read()
        self.by_source = {p.source.as_posix(): p for p in self.pages}
        self.by_module = {p.module: p for p in self.pages if p.module}
        self.owners: dict[str, list[Page]] = {}
        for page in self.pages:
            for name in page.symbols:
                self.owners.setdefault(name, []).append(page)
        self.home = self.public_names()

    def read(self) -> list[Page]:
        "Pages in reading order; raises PageError when two have one address."
        folder = self.root / self.cfg["nbs_path"]
        notebooks = [f for f in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts]

        def key(file: Path):
            room = file.relative_to(folder).parent.as_posix()
            first = FIRST.index(room) - len(FIRST) if room in FIRST else 0
            return (file.stem != "index" or room != ".", first, order(room), order(file.name))

        pages = []
        for file in sorted(notebooks, key=key):
            *rooms, name = file.relative_to(folder).with_suffix("").parts
            name = name if rooms and plain_name(name) == "index" else plain_name(name)  # index.html lists the room
            path = "/".join([*map(plain_name, rooms), name])
            pages.append(read_notebook(file, file.relative_to(self.root), path))
        for file in sorted((self.root / "docs").glob("*.md"), key=lambda f: order(f.name)):
            pages.append(read_markdown(file, file.relative_to(self.root), plain_name(file.stem)))
        seen = {}
        for page in pages:
            if page.path in seen:
                raise PageError(f"{page.source} and {seen[page.path]} would both be {page.path}.html: rename one")
            seen[page.path] = page.source
        return pages

    def public_names(self) -> dict[str, tuple[Page, Symbol]]:
        "Public names by room, each with the page and the symbol that it stands for."
        sys.path.insert(0, str(self.root))
        package = importlib.import_module(self.package)
        sys.path.remove(str(self.root))
        names = {}
        for name, (module, attribute) in package._HOME.items():
            page = self.by_module.get(module.removeprefix(self.package + "."))
            if page is None or attribute not in page.symbols:
                owners = self.owners.get(attribute, [])
                page = owners[0] if len(owners) == 1 else None
            if page is None:
                self.problems.append(f"{self.package}.__all__: no notebook exports {name!r}")
                continue
            symbol, inside = page.symbols[attribute], {m.name for m in page.symbols[attribute].methods}
            patched = [s for n, s in page.symbols.items() if n.startswith(attribute + ".") and n not in inside]
            names[name] = (page, replace(symbol, methods=(*symbol.methods, *patched)))
        return names

    # -- links ------------------------------------------------------------------------------------------------------

    def to(self, page: Page | str, other: Page | str, anchor: str = "") -> str:
        "Relative address of `other` as written on `page`."
        here, there = (p if isinstance(p, str) else p.path for p in (page, other))
        if here == there:
            return f"#{anchor}" if anchor else f"{there.split('/')[-1]}.html"
        link = os.path.relpath(there, os.path.dirname(here) or ".").replace(os.sep, "/") + ".html"
        return link + (f"#{anchor}" if anchor else "")

    def link(self, page: Page, href: str) -> str:
        "Address on the site of a link as it is written in a source; collects those that lead nowhere."
        if re.match(r"[a-z][a-z0-9+.-]*:", href):
            return href
        path, _, fragment = href.partition("#")
        target = page
        if path:
            bases = [page.source.parent, Path("."), Path(self.cfg["nbs_path"])]
            found = [os.path.normpath(base / path).replace(os.sep, "/") for base in bases]
            wanted = [re.sub(r"\.html$", end, f) for f in found for end in (".html", ".ipynb", ".md")]
            target = next((self.by_source[w] for w in wanted if w in self.by_source), None)
            if target is None:
                file = next((f for f in found if not f.startswith("..") and (self.root / f).exists()), None)
                if file is None:
                    self.problems.append(f"{page.source}: {href} leads nowhere")
                    return href
                return self.blob + file + (f"#{fragment}" if fragment else "")
        if fragment and target.anchors:
            same = [a for a in target.anchors if a == fragment] or [
                a for a in target.anchors if a.lower() == fragment.lower()
            ]
            if not same:
                self.problems.append(f"{page.source}: {href}: no such heading or symbol on that page")
                return href
            fragment = same[0]
        return self.to(page, target, fragment)

    def image(self, page: Page, src: str) -> str:
        "Address of an image, which is copied beside the page."
        if re.match(r"[a-z][a-z0-9+.-]*:", src):
            self.problems.append(
                f"{page.source}: image {src} would be fetched from elsewhere: keep it in the repository"
            )
            return src
        file = self.root / page.source.parent / src
        if not file.is_file():
            self.problems.append(f"{page.source}: no image {src}")
            return src
        page.files[file.name] = file.read_bytes()
        return file.name

    def symbol(self, page: Page, code: str) -> str | None:
        "Where the notebook or symbol is that `code` names, if it can be only one."
        notebook = re.fullmatch(r"(?:nbs/)?((?:\w+/)?\d\d_\w+)(?:\.ipynb)?", code)
        if notebook:
            paths = [
                f"{self.cfg['nbs_path']}/{notebook[1]}.ipynb",
                f"{page.source.parent.as_posix()}/{notebook[1]}.ipynb",
            ]
            return next((self.to(page, self.by_source[p]) for p in paths if p in self.by_source), None)
        found = re.fullmatch(r"([A-Za-z_][\w.]*)(\(.*\))?", code, re.DOTALL)
        if not found:
            return None
        name, called = found[1].removeprefix(self.package + "."), bool(found[2])
        if name in self.by_module and ("." in name or found[1] != name):
            return self.to(page, self.by_module[name])
        module, _, last = name.rpartition(".")
        if module in self.by_module and last in self.by_module[module].symbols:
            return self.to(page, self.by_module[module], last)
        word = re.fullmatch(r"[a-z]+", name)  # could as well be an argument or a field
        if word and not called:
            return None
        if name in page.symbols:
            return self.to(page, page, name)
        if name in self.home:
            owner, symbol = self.home[name]
            return self.to(page, owner, symbol.name)
        owners = self.owners.get(name, [])
        return self.to(page, owners[0], name) if len(owners) == 1 else None

    def renderer(self, page: Page) -> Renderer:
        return Renderer(lambda h: self.link(page, h), lambda s: self.image(page, s), lambda c: self.symbol(page, c))

    # -- pages ------------------------------------------------------------------------------------------------------

    def about(self, page: Page) -> list[tuple[str, str]]:
        "Links below the title of a page."
        if page.source.suffix != ".ipynb":
            return []
        notebook = page.source.as_posix()
        links = [("Notebook on GitHub", self.blob + notebook)]
        if page.module:
            file = f"{self.package}/{page.module.replace('.', '/')}.py"
            links.insert(0, (f"<code>{self.package}.{page.module}</code>", self.blob + file))
        else:
            project = self.cfg["git_url"].removeprefix("https://github.com/")
            branch = self.cfg["branch"]
            links.append(
                ("Open in Colab", f"https://colab.research.google.com/github/{project}/blob/{branch}/{notebook}")
            )
        return links

    def render(self) -> None:
        "Text of every page. The first pass finds the anchors, the second links to them."
        for _ in range(2):
            self.problems = [p for p in self.problems if "__all__" in p]
            for page in self.pages:
                page.text = PageWriter(page, self.renderer(page)).write(self.about(page))

    def rooms(self) -> dict[str, list[Page]]:
        "Folder -> its notebooks, in order."
        rooms = {}
        nbs = Path(self.cfg["nbs_path"])
        for page in self.pages:
            if page.source.suffix == ".ipynb" and page.path != "index":
                room = page.source.parent.relative_to(nbs).as_posix()
                rooms.setdefault("" if room == "." else room, []).append(page)
        return rooms

    def label(self, room: str) -> str:
        return LABELS.get(room) or plain_name(room).replace("_", " ").capitalize()

    def overview(self, room: str, pages: list[Page]) -> tuple[str, str]:
        "Path and text of a page that lists a room's notebooks and what each exports."
        path = f"{plain_name(room) or 'notebooks'}/index"
        stub = Page(Path(self.cfg["nbs_path"]) / room / "index", path, [])
        renderer = self.renderer(stub)
        rows = []
        for page in pages:
            names = [n for n, s in page.symbols.items() if "." not in n and s.kind in ("function", "class")]
            names = [f'<a href="{self.to(path, page, n)}"><code>{n}</code></a>' for n in names]
            rows.append(
                f'<li><p><a class="title" href="{self.to(path, page)}">{html.escape(page.title)}</a> '
                f'<span class="brief">{renderer.inline(page.lead)}</span></p>'
                f'<p class="names">{" ".join(names)}</p></li>'
            )
        text = renderer.heading(1, self.label(room), "top") + raw(f'<ul class="overview">{"".join(rows)}</ul>')
        return path, text.strip() + "\n"

    def reference(self) -> str:
        "The page of the public names."
        page = Page(Path("docs/reference"), "reference", [])
        renderer = self.renderer(page)
        lead = (
            f"The names that <code>import {self.package}</code> gives, by room. Each is explained, with its code and "
            "its tests, in the notebook that its name links to."
        )
        parts = [renderer.heading(1, "API reference", "api-reference"), raw(f'<p class="lead">{lead}</p>')]
        groups: dict[str, list[str]] = {}
        for other in self.pages:
            for name, (owner, _) in self.home.items():
                if owner is other:
                    groups.setdefault(owner.module.split(".")[0] if "." in owner.module else "", []).append(name)
        for room, names in groups.items():
            if room:
                parts.append(renderer.heading(2, self.label(room), renderer.anchor(f"room-{room}")))
            for name in names:
                owner, symbol = self.home[name]
                markup = f'<a href="{self.to(page, owner, symbol.name)}"><code>{name}</code></a>'
                parts.append(renderer.heading(3, markup, renderer.anchor(name), f"symbol {symbol.kind}"))
                where = f'<a href="{self.to(page, owner, symbol.name)}">{html.escape(owner.title)}</a>'
                parts.append(raw(f'<p class="where"><code>{self.package}.{owner.module}</code>, notebook {where}</p>'))
                parts.append(raw(signature(symbol, renderer, False)))
        return re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip() + "\n"

    def nav(self) -> list:
        "Navigation: home, walkthroughs, coming_from, the rooms, the reference, and the other pages."
        rooms = self.rooms()
        entries: list = [{"Home": "index.md"}] if any(p.path == "index" for p in self.pages) else []
        library = []
        for room, pages in rooms.items():
            listed = [{p.title: f"{p.path}.md"} for p in pages]
            group = {self.label(room): [f"{plain_name(room) or 'notebooks'}/index.md", *listed]}
            if room in FIRST or room == "":
                entries.append(group)
            else:
                library.append(group)
        if library:
            entries.append({"Rooms": library})
        entries.append({"API reference": "reference.md"})
        entries += [{p.title: f"{p.path}.md"} for p in self.pages if p.source.suffix == ".md"]
        return entries

    def write(self, folder: Path) -> None:
        "Markdown pages, images and style sheets into `folder`."
        self.render()
        for page in self.pages:
            self.put(folder, page.path, page.text, page.title, plain_text(self.renderer(page).inline(page.lead)))
            for name, content in page.files.items():
                (folder / page.path).parent.joinpath(name).write_bytes(content)
        for room, pages in self.rooms().items():
            path, text = self.overview(room, pages)
            self.put(folder, path, text, self.label(room), "")
        self.put(folder, "reference", self.reference(), "API reference", "Public names, with their arguments")
        shutil.copytree(ROOT / "docs" / "assets", folder / "assets")
        math_font([p.text for p in self.pages], folder / "assets" / "math.woff2")
        if self.problems:
            raise PageError("\n".join(dict.fromkeys(self.problems)))

    def put(self, folder: Path, path: str, text: str, title: str, description: str) -> None:
        file = folder / f"{path}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        meta = {"title": title, **({"description": description} if description else {})}
        head = "".join(f"{k}: {json.dumps(v, ensure_ascii=False)}\n" for k, v in meta.items())
        file.write_text(f"---\n{head}---\n{text}", encoding="utf-8")


def math_font(pages: list[str], file: Path) -> None:
    "The glyphs of a mathematical font that the formulas of `pages` need, so that they look the same everywhere."
    text = "".join(strip_tags(m) for page in pages for m in re.findall(r"<math.*?</math>", page, re.DOTALL))
    italic = (
        range(0x1D434, 0x1D468),
        range(0x1D6E2, 0x1D71C),
    )  # what a browser draws for the single letters of a formula
    options = subset.Options(flavor="woff2", name_IDs=["*"], layout_features=["*"], notdef_outline=True)
    with subset.load_font(str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"), options) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(text=text + string.printable + "ℎ", unicodes=[c for r in italic for c in r])
        subsetter.subset(font)
        subset.save_font(font, str(file), options)


def build(out: Path, work: Path) -> None:
    "The site in `out`; pages and configuration are left in `work`, which is emptied first."
    shutil.rmtree(work, ignore_errors=True)
    site = Site()
    site.write(work / "docs")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    cfg = site.cfg
    config |= {
        "site_url": f"{cfg['doc_host']}{cfg['doc_baseurl']}/",
        "site_description": cfg["description"],
        "copyright": cfg["copyright"],
        "docs_dir": str(work / "docs"),
        "site_dir": str(out),
        "nav": site.nav(),
    }
    config["extra"] = {
        **config.get("extra", {}),
        "social": [{"icon": "fontawesome/brands/github", "link": cfg["git_url"]}],
    }
    (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--config-file",
        str(work / "mkdocs.yml"),
    ]
    subprocess.run(command, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the documentation site from the notebooks.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "site", help="where the site goes (default: site/)"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "docs", help="where the pages go that it is made from"
    )
    args = parser.parse_args()
    try:
        build(args.folder.resolve(), args.work.resolve())
    except PageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
