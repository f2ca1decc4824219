"Prose, formulas and code of real documents come out of the cleaner as they went in, in linear time."

import html
import re
import time
import unicodedata
from collections import Counter

import pytest

from preflexor_lab.corpus.cleaning import clean_document, clean_text


def same(*texts):
    "Cases that come out as they went in."
    return [(text, text) for text in texts]


ANGLES = [
    *same(
        "patients with CRP <LLN at admission and ALT >ULN later",
        "CRP <LLN on day 1\nand a second line >ULN",
        "a<b and c>d",
        "if x<y and y>z",
        "if i<n then a>b",
        "i<p or p>q",
        "List<String> and Map<String, List<Integer>>",
        "std::vector<int> v; Option<T> and fn f<'a>(x)",
        "p<0.05 and <LOD, <lloq>, n>3",
        "replace <your name> and <path/to/file> by yours",
        "<think>so</think> and <answer>B</answer>",
        "a <- b, b -> a, a <> b, a <= b, <3 and </3",
        "an arrow <-- here --> there",
        "<mask> and <unk> and <pad>",
        "the token <s> begins and <nav> is a menu",
        "ends with </s> always",
        "an <input> and an <output> file",
        "Optional<Table>, Class<Section> and Promise<Object>",
        "a < b > c <",
        "<",
        "<a",
        "</",
        "<!",
        "<!-- a comment without an end, and words after it",
        "text <!-- no end, **not",
        "5 <x> 3, a<x>b",
        "<svg is not closed, nor a <path> or a <circle>",
        "x <b and y",
        "<div the dog> barks",
    ),
    ("see <https://x.org/a_b_c> and <me@x.org>", "see https://x.org/a_b_c and me@x.org"),
    ("<mailto:me@x.org>", "mailto:me@x.org"),
    ("a <b>bold</b> word, x<sub>1</sub><br>next", "a bold word, x1\nnext"),
    ("<B CLASS='x'>bold</B> <img src=a.png> word", "bold word"),
    ("a<!-- comment -->b <!-- <b> --> c", "ab c"),
    ("a <!-- one <!-- two --> b", "a <!-- one b"),
    ("2 &lt; 3 &amp;amp; <i>x</i> &lt;b&gt;", "2 < 3 &amp; x <b>"),
    ("<p>one</p>\n<p align=center>two</p>", "one\n\ntwo"),
    ("a **<LLN** value and *x<y*", "a <LLN value and x<y"),
    ("- a <LLN\n- b >ULN\n\n> q <LLN\n\n# H <ULN", "- a <LLN\n- b >ULN\n\nq <LLN\n\nH <ULN"),
    ("| a<b | c>d |\n|---|---|\n| <LLN | >ULN |", "| a<b | c>d\n| <LLN | >ULN"),
    ("[a <LLN link](http://x.org) >ULN", "a <LLN link >ULN"),
    ("<details><summary>more</summary>\n\ntext\n\n</details>", "more\n\ntext"),
]

CODE = [
    ("use `<style>` and `<nav>` and\n\nthe rest", "use <style> and <nav> and\n\nthe rest"),
    ("`<script>` is code.\n\nThe rest stays.", "<script> is code.\n\nThe rest stays."),
    ("`<!--` is code.\n\nThe rest stays.", "<!-- is code.\n\nThe rest stays."),
    ("`__init__` and `a*b*c` and ``a `b` c``", "__init__ and a*b*c and a `b` c"),
    (r"`\{ \| \\ \,` and `&lt;`", r"\{ \| \\ \, and &lt;"),
    ("`$x` and `$y`", "$x and $y"),
    ("`{:.2f}` and {:.2f} and {:d}", "{:.2f} and {:.2f} and {:d}"),
    (
        "```python\nclass A:\n    def __init__(self):\n\n        x = a*b*c  # <b>\n```\nend",
        "class A:\n    def __init__(self):\n\n        x = a*b*c  # <b>\nend",
    ),
    ("~~~html\n<nav>\n  <b>x</b> &amp;\n</nav>\n~~~", "<nav>\n  <b>x</b> &amp;\n</nav>"),
    ("- item\n\n  ```\n  if a:\n      b  ||  c |\n  ```\n", "- item\n\nif a:\n    b  ||  c |"),
    ("> ```\n> a  b\n>   c\n> ```", "a  b\n  c"),
    ("text\n\n    def f(x):\n        return __x__ <b>\n\nend", "text\n\ndef f(x):\n    return __x__ <b>\n\nend"),
    ("```\nno end\n  <b>", "no end\n  <b>"),
    ("````\n```\na\n```\n````", "```\na\n```"),
    ("```\n[a]: http://x\n---\n# no head\n```", "[a]: http://x\n---\n# no head"),
    ("<pre>\na  b\n   c_d_e *x*\n\n  d\n</pre>\nend", "a  b\n   c_d_e *x*\n\n  d\n\nend"),
    ("<pre><code class='x'>if a &lt; b:\n    <span>c</span>\n</code></pre>", "if a < b:\n    c"),
    ("<code>__init__</code> and <kbd>*x*</kbd>", "__init__ and *x*"),
    ("one ` backtick and **bold**", "one ` backtick and bold"),
    ("snake_case, __dunder__x and a * b * c", "snake_case, __dunder__x and a * b * c"),
    ("https://x.org/_a_/b and *c*", "https://x.org/_a_/b and c"),
]

FORMULAS = [
    *same(
        r"$a_1 * b_2 * c_3$ and $x_{i}_j$",
        r"$\{ x \mid y \}$, $\| x \|$, $a \\ b$, $\, \; \!$",
        r"$a<b and c>d$ and $x<b>y$",
        r"$$\hat{x}_i <b> \*c* __d__$$",
        r"\(a_1 * b_2 * c\) and \(x<y\) and \(y>z\)",
        r"\[ x_1 \| y * z * \{ 1 \} \]",
        r"\[a<b and c>d\]",
        r"\begin{align} a_1 &= b * c * d \\ e &< f \\[4pt] \end{align}",
        r"\begin{bmatrix}1&2\\3&4\end{bmatrix}",
        "$$\na_1\n- b\n+ c\n> d\n# e\n\n1. f\n$$",
        "\\[\na\n- b_1*c*d\n\\]",
        "\\begin{aligned}\n- a_1 &= b \\\\\n- c &= d\n\\end{aligned}",
        "where $$x\n- y$$ is",
        "text with $a\n- b$ over lines",
        r"$ \{x\} $ with spaces",
        r"$x$, $y$-axis, ($z$) and $f$'s",
        r"\\(x_1*y*z\\) and \\[x_1*y*z\\]",
        r"$\$5_a*b*$",
        r"$`x_1`$",
        "$a &amp; b$",
    ),
    ("it costs $5 or *ten* $6, US$7 and $8", "it costs $5 or ten $6, US$7 and $8"),
    ("$5 and <b>bold</b> $6", "$5 and bold $6"),
    (r"\$5 and \$6 with *x*", "$5 and $6 with x"),
    ("a $ sign and *b*", "a $ sign and b"),
    (r"see \[1\] and [\[2\]](x.md) and \[see below\]", "see [1] and [2] and [see below]"),
    ("**where $x_1$** is", "where $x_1$ is"),
    ("- $a_1*b*c$\n- $$d_1*e*f$$\n", "- $a_1*b*c$\n- $$d_1*e*f$$"),
    ("> $$\n> a_1*b*c\n> $$", "$$\na_1*b*c\n$$"),
    ("- item\n\n  $$\n  - a_1\n  $$\n", "- item\n\n$$\n- a_1\n$$"),
    ("| $a_1$ | $\\|b\\|$ |\n|--|--|\n| $<$ | $*$ |", "| $a_1$ | $\\|b\\|$\n| $<$ | $*$"),
    ("$$ x_1 * y * z $$ {#eq:a}", "$$ x_1 * y * z $$ {#eq:a}"),
    ("$$ no end and *x*", "$$ no end and x"),
    (r"\begin{a} no end and *x*", r"\begin{a} no end and x"),
    ("# On $a_1*b*c$", "On $a_1*b*c$"),
    ("![plot of $a_1*b*c$](x.png)", "Figure: plot of $a_1*b*c$"),
    ("[the $a_1*b*c$ link](x.md)", "the $a_1*b*c$ link"),
]

PROSE = [
    *same(
        "a footnote[^1] and[^note]\n\n[^1]: The text.\n\n[^note]: https://x.org",
        "[^1]: word",
        "[Note]: important",
        "[x] and [ ] and [a][b] and a[i][j]",
        "an | at the end |\nand the norm |x|\nand |a| + |b|",
        "::: note\ntext\n:::",
        "{% include x %} and {{ y }}",
        "`` not code",
        "**not bold",
        "1. one\n2. two",
        "7) seven\n8) eight",
        "a\\b and C:\\dir\\x",
        "R&D, AT&T and a & b",
    ),
    ("---\nA ruled line, and no front matter.\n\n---\n\nend", "A ruled line, and no front matter.\n\nend"),
    ("---\ntitle: 'It''s'\n---\ntext", "It''s\n\ntext"),
    ("[a](b) [c][1] [1]\n[1]: http://x.org 'A title'", "a c 1"),
    ("the [link](http://x.org) is here", "the link is here"),
    ("[See the third note](#footnote-3), [3](#footnote3)", "See the third note,"),
    ("![A cube](x.png 'of ice') [![badge](a)](b)", "Figure: of ice\n\nFigure: badge"),
    ("* a\n* b\n    * c\n\n        d", "- a\n- b\n- c\n\nd"),
    ("Head\n====\ntext\n\n---\n\n***\nend", "Head\n\ntext\n\nend"),
    ("a | b\n--- | ---\nc | d", "a | b\nc | d"),
    ("line one\\\nline two  \nline three", "line one\nline two\nline three"),
    ('*a*{: .x #y k="v"} **b**{: .z}\n{: .w}', "a b"),
    (
        "x<sup>2</sup> and y<sub>a + b</sub>, <sup>never closed\n\nmore text",
        "x^2 and y_(a + b), ^(never closed)\n\nmore text",
    ),
    (">" * 200 + " deep", ">" * 160 + " deep"),
]

HTML = [
    ("<p>patients with CRP <LLN at first and ALT >ULN</p>", "patients with CRP <LLN at first and ALT >ULN"),
    ("<p>if a<b and c>d, List<String></p>", "if a<b and c>d, List<String>"),
    ("<p>mail <me@x.org> at <https://x.org></p>", "mail <me@x.org> at <https://x.org>"),
    ("<p>one</p><nav>never closed<p>two</p><p>three</p>", "one\n\nnever closed\n\ntwo\n\nthree"),
    ("<p>one</p><style>never closed<p>two</p>", "one\n\nnever closed\n\ntwo"),
    ("<p>one</p><script>never closed <p>two</p>", "one\n\nnever closed\n\ntwo"),
    ("<style>a{}<p>two</p><style>b{}</style><p>three", "a{}\n\ntwo\n\nthree"),
    ("<p>one <!-- never closed <p>two</p>", "one <!-- never closed\n\ntwo"),
    ("<p>a <svg> never closed <p>b</p>", "a never closed\n\nb"),
    ("<p>a</p><script>if (a<b) { x('<p>no</p>') }</script><p>b</p>", "a\n\nb"),
    ("<p>a</p><style>p > b {}</style><p>b<nav>menu</nav>", "a\n\nb"),
    ("<p>a<pre>\n  x\n    y &lt;\n</pre>b", "a\n  x\n    y <\nb"),
    ("<p>a <code>x  y</code> <b>b\nc</b>", "a x y b c"),
    ("<table><tr><td>a<td>b<tr><td>c</td> <td>d</td></tr></table>", "a | b\nc | d"),
    ("<ul><li>a<li>b</ul>", "- a\n- b"),
    ("<my-box x='1'>a</my-box> <o:p>b</o:p>", "a\n\nb"),
    ("<p>the norm |x|<br>and |y|</p>", "the norm |x|\nand |y|"),
    ("x<sup>2<p>next</p>", "x^2\n\nnext"),
    ("<sup data-type='footnote'>a note without an end", "^(a note without an end)"),
    ("<p>where \\(a<b and c>d\\) and $$x<y$$</p>", "where \\(a<b and c>d\\) and $$x<y$$"),
    ("<p>\\begin{align}a_1 &amp; b\\end{align}</p>", "\\begin{align}a_1 & b\\end{align}"),
    ("<p title='a > b'>a</p>", "a"),
    ("<p>Optional<Table> and <P>Promise<Object></P>", "Optional<Table> and\n\nPromise<Object>"),
    ("<p>$a<b>c$ costs $5<b>/$6</b>", "$a<b>c$ costs $5/$6"),
    ("<tr><td>$5<td>a<td>$ 6", "$5 | a | $ 6"),
    ("<p>$a &lt; b_1 &amp; c$</p>", "$a < b_1 & c$"),
    ("<img src='data:,x\n\n'>a", "a"),
    ("<html xmlns:ix='x'><ix:hidden>a</ix:hidden>", "a"),
    ("<p v-if='a' @click=\"x\" hidden data-x>a</p>", "a"),
    ("<!DOCTYPE html><?xml version='1'?><html><![if !IE]>a<![endif]></html>", "a"),
    ("<a href='x>words without an end of the value", "<a href='x>words without an end of the value"),
    (
        "<math><mmultiscripts><mi>U</mi><none/><none/><mprescripts/><mn>92</mn><mn>235</mn></mmultiscripts></math>",
        "^235_92U",
    ),
    ("<math><msup>x<mn>2</mn></msup></math>", "x^2"),
    ("<math><mi>x</mi> and prose <p>more</p>", "x and prose\n\nmore"),
]

TEX = r"\frac{a_1}{b} < c"
ESCAPED = TEX.replace("<", "&lt;")
MATHML = "<mrow><mfrac><msub><mi>a</mi><mn>1</mn></msub><mi>b</mi></mfrac><mo>&lt;</mo><mi>c</mi></mrow>"
ANNOTATED = (
    f'<math><semantics>{MATHML}<annotation encoding="application/x-tex">{ESCAPED}</annotation></semantics></math>'
)
GLYPHS = '<span class="mord">a</span><span class="mord">b</span><span class="mrel">&lt;</span><span>c</span>'
ONCE = {
    "KaTeX": f'<span class="katex"><span class="katex-mathml">{ANNOTATED}</span>'
    f'<span class="katex-html" aria-hidden="true">{GLYPHS}</span></span>',
    "KaTeX, displayed": f'<span class="katex-display"><span class="katex"><span class="katex-mathml">{ANNOTATED}</span>'
    f'<span class="katex-html" aria-hidden="true">{GLYPHS}</span></span></span>',
    "MathJax 2": f'<span class="MathJax_Preview">abc</span><span class="MathJax"><nobr>{GLYPHS}</nobr>'
    f'<span class="MJX_Assistive_MathML"><math>{MATHML}</math></span></span>'
    f'<script type="math/tex" id="E1">{TEX}</script>',
    "MathJax 2, not typeset": f'<span class="MathJax_Preview"></span><script type="math/tex">{TEX}</script>',
    "Wikipedia": f'<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">'
    f'<math alttext="{ESCAPED}"><semantics>{MATHML}</semantics></math></span>'
    f'<img src="x.svg" class="mwe-math-fallback-image-inline" alt="{ESCAPED}"></span>',
    "LaTeXML": f'<math alttext="{ESCAPED}" class="ltx_Math" display="inline"><semantics>{MATHML}</semantics></math>',
    "annotation": ANNOTATED,
    "a namespace": re.sub("<(/?)", r"<\1m:", ANNOTATED),
}


@pytest.mark.parametrize(("text", "right"), [*ANGLES, *CODE, *FORMULAS, *PROSE])
def test_markdown(text, right):
    assert clean_text(text, "md") == right


@pytest.mark.parametrize(("page", "right"), HTML)
def test_html(page, right):
    assert clean_text(page, "html") == right


@pytest.mark.parametrize("program", ONCE)
@pytest.mark.parametrize("kind", ["html", "md"])
def test_a_formula_comes_once_and_as_its_tex(program, kind):
    assert clean_text(f"where {ONCE[program]} holds", kind) == f"where ${TEX}$ holds"


def test_a_formula_without_tex_comes_once():
    assistive = f"<mjx-assistive-mml><math>{MATHML}</math></mjx-assistive-mml>"
    glyphs = '<mjx-math aria-hidden="true"><mjx-mi>a</mjx-mi></mjx-math>'
    page = f'<p>where <mjx-container class="MathJax" jax="CHTML">{glyphs}{assistive}</mjx-container> holds</p>'
    assert clean_text(page, "html") == "where a1/b < c holds"
    page = f'<p>where <span class="katex"><span class="katex-html">{GLYPHS}</span></span> holds</p>'
    assert clean_text(page, "html") == "where ab<c holds"  # nothing else says it


WORDS = " ".join(f"word{i}" for i in range(100))


@pytest.mark.parametrize(
    ("text", "kind", "note"),
    [
        (f"<nav>{WORDS}</nav><p>A page.", "html", "100 of its 102 words were left out: 100 in <nav>; "),
        (f"A page.\n\n<nav>{WORDS}</nav>", "md", "100 of its 102 words were left out: 100 in <nav>; "),
        (f"<p>A page.<!-- {WORDS} -->", "html", "100 of its 102 words were left out: 100 in comments; "),
        (f"<p>A page.<svg><text>{WORDS}</text></svg>", "html", "100 of its 102 words were left out: 100 in drawings; "),
        (f"<p>A page.<nav>{WORDS}", "html", ""),  # never closed: it is in the text
        (f"<script>{WORDS}</script><style>{WORDS}</style><p class='{WORDS}'>A page.", "html", ""),  # markup alone
        (f"<p>{WORDS * 20}<nav>" + "menu " * 30 + "</nav>", "html", ""),  # 30 of 2,000 words
        (f"`<nav>` {WORDS} `</nav>` <LLN {WORDS} >ULN", "md", ""),
        (WORDS, "txt", ""),
    ],
)
def test_what_vanished_is_said(text, kind, note):
    said = clean_document(text, kind).note()
    assert said.startswith(note) and bool(said) == bool(note)


@pytest.mark.parametrize(
    "text",
    ["- " * 400, "> " * 400, "1. > - " * 200, "[" * 400, "**a *b " * 200, "<div>" * 2000, "<sub>" * 2000]
    + ["<math>" + "<mrow>" * 2000, "<table><tr><td>" * 500, "\n".join("  " * i + "- a" for i in range(200)) + "\n\n"],
    ids=lambda text: text[:8].strip(),
)
@pytest.mark.parametrize("kind", ["md", "html"])
def test_what_is_nested_deeply_stays(text, kind):
    cleaned = clean_text(text + "inmost", kind)
    assert "inmost" in cleaned and len(re.findall(r"\ba\b", cleaned)) == len(re.findall(r"\ba\b", text))


REPEATED = [
    "<",
    "[",
    "*",
    "_",
    "`",
    "$",
    "&",
    "$$",
    "\\[",
    "\\(",
    "\\begin{a}",
    "<!--",
    "<b>",
    "<sub>a",
    "<math><mi>a",
    "<svg><p>",
    "<style><p>",
    "<script>",
    "<pre>",
    "<nav>",
    "<span class=katex>",
    "<td>",
    "<a b='",
    "<a b=",
    "</a:b>",
    "<![CDATA[",
    "| ",
    "|\n",
    "[a](",
    "![a](b ",
    "[[link]](",
    "([link](",
    "[a]: ",
    "^[",
    "{:",
    "{: .a ",
    "* * *\n{:",
    "* a",
    "\n>",
    "> - ",
    "\n- a",
    "- 1. ",
    "``a`",
    "*a ",
    "_a ",
    "a**b",
    "&a",
    "&#",
    "https://a_",
    "$$\n- ",
    " \n",
    "~~~\n",
    "---\n",
    " \t",
    " ",
]


def seconds(text, kind):
    "CPU time, the best of three."
    times = []
    for _ in range(3):
        start = time.process_time()
        clean_text(text, kind)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("pattern", REPEATED)
@pytest.mark.parametrize("kind", ["md", "html"])
def test_time_is_linear(pattern, kind):
    "Four times the text takes about four times as long, not sixteen times; what takes no time at all is not measured."
    short, long = (f"{part}x\n\nx{part}" for part in (pattern * (n // len(pattern)) for n in (4_000, 16_000)))
    taken = seconds(long, kind)
    assert taken < 0.1 or taken < 12 * seconds(short, kind)


def letters(text):
    "Words without digits, and single digits: how scripts are put on the line changes neither."
    return Counter(re.findall(r"[^\W\d_]+|\d", unicodedata.normalize("NFC", html.unescape(text))))


def test_the_textbook_is_kept(shared_data):
    "At least 99.5 % of the words of a hundred sections, and each letter and digit of 4,117 formulas."
    words, lost, formulas, whole = 0, 0, 0, 0
    for path in sorted((shared_data / "chemistry").glob("*.md")):
        raw = path.read_text(encoding="utf-8")
        cleaned = clean_text(raw, "md")
        joined = "".join(cleaned.split())
        for formula in re.findall(r"(?s)<math\b.*?</math>", raw):
            alone = clean_text(formula, "md")
            leaves = re.sub(r"\W|_", "", html.unescape(re.sub(r"(?s)<mphantom>.*?</mphantom>|<[^>]*>", "", formula)))
            formulas += 1
            whole += "".join(alone.split()) in joined and not Counter(leaves) - Counter(alone)
        seen = re.sub(r"(?s)\A---.*?\n---\n|<math\b.*?</math>|<sup data-type=.*?</sup>", " ", raw)
        seen = re.sub(r"(?s)\{:[^}]*\}|!\[.*?\]\(\S+ \"", " ", seen)  # attributes; descriptions that have a caption
        seen = re.sub(r"\[\\\[link\\\]\]\([^)]*\)|\[\d\]\(#[^)]*\)|\]\([^)\s]*\)", " ", seen)  # targets of links
        seen = re.sub(r"</?(?:su[bp]|div|span|t[drh]|p|br)\b[^>]*>", " ", seen)
        expected = letters(re.sub(r"<[^>]*>|(?<=\w)\*+|\*+(?=\w)", "", seen))
        words, lost = words + expected.total(), lost + (expected - letters(cleaned)).total()
    assert (formulas, whole) == (4117, 4117)
    assert words > 250_000 and lost / words < 0.005, f"{lost} of {words} words are lost"
