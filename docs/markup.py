"CommonMark, formulas and code to HTML; headings stay Markdown, so that the site generator sees them."

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

FUNCTIONS = {"log", "ln", "exp", "min", "max", "sup", "inf", "arg", "det", "sin", "cos", "tan", "tanh", "lim", "Pr"}
LIMITS = set("∑∏⋃⋂") | {"min", "max", "lim", "sup", "inf"}
OPENING = set("([{|,;:=<>≤≥≈∼≠⋅×")
SCRIPTS = {"msub", "msup", "msubsup", "munder", "mover", "munderover"}
PLAIN = HtmlFormatter(nowrap=True)
BADGE = re.compile(r"\[!\[Open In Colab\]\([^)]*\)\]\([^)]*\)\s*")


class PageError(ValueError):
    "A page that cannot be built: says where and why."


@cache
def formula(tex: str, block: bool) -> str:
    "MathML of a LaTeX formula; raises PageError for a command that it does not know."
    root = ElementTree.fromstring(convert(tex, display="block" if block else "inline"))
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        if node.text and re.fullmatch(r"\\[{}|#%&_ ]", node.text):
            node.text = node.text[1:]
        if node.text and "\\" in node.text:
            raise PageError(f"formula with a command that cannot be shown: {tex}")
        # in a formula of its own, the limits of a sum stand below and above
        if block and node.tag in ("msub", "msup", "msubsup") and node[0].text in LIMITS:
            node.tag = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}[node.tag]
    for parent in list(root.iter()):
        before = None
        for child in parent:
            if child.text == "∞":
                child.tag = "mi"
            # a sign at the beginning, after a bracket, a comma or a relation is no subtraction
            is_sign = child.tag == "mo" and child.text in ("-", "−", "+", "±")
            if is_sign and (before is None or (before.tag == "mo" and before.text in OPENING)):
                child.set("form", "prefix")
            before = child
        # a function that is written as a word needs thin spaces around it
        for i, child in reversed(list(enumerate(parent[:-1]))):
            core = child[0] if child.tag in SCRIPTS else child
            is_row = parent.tag in ("math", "mrow", "mstyle", "mtd")
            if is_row and core.text in FUNCTIONS and (parent[i + 1].tag != "mo" or parent[i + 1].text in LIMITS):
                parent.insert(i + 1, ElementTree.Element("mspace", width="0.17em"))
            if is_row and core.text in FUNCTIONS and i and parent[i - 1].tag != "mo":
                parent.insert(i, ElementTree.Element("mspace", width="0.17em"))
    return ElementTree.tostring(root, encoding="unicode")


@cache
def _lexer(language: str) -> Lexer:
    try:
        return get_lexer_by_name({"sh": "bash", "": "text"}.get(language, language))
    except ClassNotFound:
        return get_lexer_by_name("text")


@cache
def code_block(text: str, language: str = "") -> str:
    "Highlighted code, in the form that the theme's copy button expects."
    inner = highlight(text.strip("\n") + "\n", _lexer(language), PLAIN)
    inner = re.sub(
        r'<span class="(?:n|p|w)">([^<]*)</span>', r"\1", inner
    )  # names and commas have no colour of their own
    return f'<div class="highlight"><pre><code>{inner}</code></pre></div>'


def raw(markup: str) -> str:
    "HTML as one line, which no Markdown parser looks into; only the text keeps its line ends."
    pieces = re.split(r"(<style.*?</style>|<[^>]*>)", markup.strip(), flags=re.DOTALL)
    kept = [p.replace("\n", " " if p.startswith("<") else "&#10;") for p in pieces]
    return "\n\n" + "".join(kept) + "\n\n"


def slug(text: str) -> str:
    "Anchor of a heading."
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", html.unescape(text)).strip().lower()) or "section"


def strip_tags(markup: str) -> str:
    "Text of a piece of HTML."
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


@dataclass
class Renderer:
    "Renders the Markdown of one page; keeps the anchors that it has given, and the headings."

    link: Callable[[str], str]  # href as written -> href on the site
    image: Callable[[str], str]  # the same for the source of an image
    symbol: Callable[[str], str | None]  # code as written -> href of the symbol it names, or None
    anchors: set[str] = field(default_factory=set)
    level: int = 1  # level of the last heading

    def __post_init__(self):
        self.md = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.md.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)
        rules = self.md.renderer.rules
        rules["math_inline"] = lambda tokens, i, *_: formula(tokens[i].content, False)
        rules["math_inline_double"] = lambda tokens, i, *_: formula(tokens[i].content, True)
        rules["math_block"] = lambda tokens, i, *_: f'<div class="formula">{formula(tokens[i].content, True)}</div>'
        rules["fence"] = lambda tokens, i, *_: code_block(tokens[i].content, tokens[i].info.strip().split(" ")[0])
        rules["code_block"] = lambda tokens, i, *_: code_block(tokens[i].content)

    def _mend(self, tokens: list[Token]) -> None:
        "Links, images and names of symbols, in place."
        for token in tokens:
            if not token.children:
                continue
            inside, mended = 0, []
            for child in token.children:
                if child.type == "link_open":
                    inside += 1
                    child.attrSet("href", self.link(str(child.attrGet("href"))))
                elif child.type == "link_close":
                    inside -= 1
                elif child.type == "image":
                    child.attrSet("src", self.image(str(child.attrGet("src"))))
                elif child.type == "code_inline" and not inside:
                    target = self.symbol(child.content)
                    if target:
                        opening = Token("link_open", "a", 1)
                        opening.attrSet("href", target)
                        opening.attrSet("class", "symbol-link")
                        mended += [opening, child, Token("link_close", "a", -1)]
                        continue
                mended.append(child)
            token.children = mended

    def anchor(self, wanted: str) -> str:
        "An anchor that the page does not have yet."
        name, n = wanted, 2
        while name in self.anchors:
            name, n = f"{wanted}-{n}", n + 1
        self.anchors.add(name)
        return name

    def heading(self, level: int, markup: str, anchor: str, classes: str = "") -> str:
        "A Markdown heading whose text is HTML."
        kept = re.sub(
            r"(?<=>)[^<]+(?=<)", lambda m: re.sub(r"[*_`\[\]{}\\]", lambda c: f"&#{ord(c[0])};", m[0]), f">{markup}<"
        )
        attributes = " ".join(["#" + anchor, *("." + c for c in classes.split())])
        self.level = level
        return f"\n\n{'#' * level} {kept[1:-1]} {{ {attributes} }}\n\n"

    def blocks(self, text: str) -> str:
        "A Markdown text with several blocks."
        tokens = self.md.parse(BADGE.sub("", text))
        parts, start, i = [], 0, 0
        while i < len(tokens):
            if tokens[i].type == "heading_open" and tokens[i].level == 0:
                parts.append(self._body(tokens[start:i]))
                level, inline = int(tokens[i].tag[1]), tokens[i + 1]
                markup = self.md.renderer.renderInline(inline.children or [], self.md.options, {})
                parts.append(self.heading(level, markup, self.anchor(slug(strip_tags(markup)))))
                i, start = i + 3, i + 3
            else:
                i += 1
        return "".join(parts) + self._body(tokens[start:])

    def _body(self, tokens: list[Token]) -> str:
        if not tokens:
            return ""
        self._mend(tokens)
        return raw(f'<div class="prose">{self.md.renderer.render(tokens, self.md.options, {})}</div>')

    def html(self, text: str) -> str:
        "A Markdown text inside of something else."
        tokens = self.md.parse(text)
        self._mend(tokens)
        return self.md.renderer.render(tokens, self.md.options, {})

    def inline(self, text: str) -> str:
        "One line of Markdown, without a paragraph around it."
        tokens = self.md.parseInline(text)
        self._mend(tokens)
        return self.md.renderer.render(tokens, self.md.options, {})
