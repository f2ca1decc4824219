"nbs/images/flow.svg: what the library does, and one question of the packaged models with its reflection."

from pathlib import Path
from xml.sax.saxutils import escape

from preflexor_lab.methods.reflect import CompletionFormat, reflect
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine

ROOT = Path(__file__).resolve().parent.parent
QUESTION = (
    "stiffness : rubber= 6 . glass= iron x2 . iron= clay -1 . quartz= 4 . clay= silk x2 . silk= quartz -3 . "
    "silver= 8 . what is glass ?"
)
STEPS = [
    ("documents", "md, txt, html,", "pdf, jsonl"),
    ("data", "question, thinking,", "chosen / rejected"),
    ("Phase I", "ORPO: think", "before answering"),
    ("Phase II", "DPO or EXO: from", "its own answers"),
    ("reflect", "critique, improve,", "answer again"),
    ("report", "held-out items,", "controls, intervals"),
]
WIDTH, CARD, GAP = 960, 138, 25.6
# Cards bring their own background, so that the picture reads the same on a light and on a dark page.
CARDS = {"plain": ("#f6f8fa", "#8c959f"), "same": ("#dafbe1", "#2da44e"), "differs": ("#ffebe9", "#cf222e")}
CARDS |= {"new": ("#ddf4ff", "#0969da"), "strong": ("#ddf4ff", "#0969da")}
INK, GREY = "#1f2328", "#818b98"


def text(
    x: float, y: float, words: str, size: int = 13, weight: str = "normal", fill: str = INK, anchor: str = "middle"
):
    "One line of text."
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def card(x: float, y: float, width: float, height: float, kind: str) -> str:
    "A rounded box."
    fill, line = CARDS[kind]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" fill="{fill}" '
        f'stroke="{line}" stroke-width="1.2"/>'
    )


def flow(y: float) -> list[str]:
    "The six stations, the arrows between them, and the way back from Phase II to the data."
    parts = []
    for k, (name, *lines) in enumerate(STEPS):
        x = 1 + k * (CARD + GAP)
        parts += [card(x, y, CARD, 70, "strong" if name.startswith("Phase") else "plain")]
        parts += [text(x + CARD / 2, y + 22, name, 15, "600")]
        parts += [text(x + CARD / 2, y + 41 + 16 * i, line, 12) for i, line in enumerate(lines)]
        if k:
            parts += [f'<path d="M{x - GAP + 4:g} {y + 35} h{GAP - 8:g}" {ARROW}/>']
    left, right = 1 + 1.5 * CARD + GAP, 1 + 3.5 * CARD + 3 * GAP
    parts += [f'<path d="M{right:g} {y - 4} v-16 h{left - right:g} v16" {ARROW}/>']
    return parts + [text((left + right) / 2, y - 27, "again, with the new weights", 12, fill=GREY)]


ARROW = f'fill="none" stroke="{GREY}" stroke-width="1.6" marker-end="url(#tip)"'


def chips(lines: list[tuple[str, str]], y: float) -> tuple[list[str], float]:
    "Lines of thinking as small cards, wrapped; returns them and where they end."
    parts, x = [], 124.0
    for words, kind in lines:
        width = 7.0 * len(words) + 16
        if x + width > WIDTH - 2:
            x, y = 124.0, y + 31
        parts += [card(x, y, width, 25, kind), text(x + width / 2, y + 17, words, 12)]
        x += width + 7
    return parts, y + 31


def picture(trace) -> str:
    "The whole picture, as SVG."
    first, last = trace.rounds[0], trace.rounds[-1]
    thought = [line.strip() for line in first.thinking.split(";")]
    parts = flow(44)
    y = 142
    facts, asked = QUESTION.rsplit(" . ", 1)
    for label, words in (("page", facts), ("question", asked)):
        parts += [
            text(108, y + 17, label, 13, "600", GREY, "end"),
            text(124, y + 17, words, 13, fill=GREY, anchor="start"),
        ]
        y += 24
    y += 6
    rows = [("thinking", [(line, "plain") for line in thought] + [(f"answer {first.answer}", "differs")])]
    verdicts = [line.strip() for line in first.critique.split(";") if "score" not in line]
    rows += [("critique", [(line, "same" if line.endswith("same") else "differs") for line in verdicts])]
    again = [line.strip() for line in last.thinking.split(";")]
    rows += [
        (
            "again",
            [(line, "plain" if line in thought else "new") for line in again] + [(f"answer {last.answer}", "same")],
        )
    ]
    for label, lines in rows:
        drawn, end = chips(lines, y)
        parts += [text(108, y + 17, label, 13, "600", GREY, "end"), *drawn]
        y = end + 9
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    tip += f'<path d="M0 0 L8 4 L0 8 z" fill="{GREY}"/></marker>'
    font = 'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:g}" width="{WIDTH}" height="{y:g}" {font}>'
    title = (
        "<title>Documents become data, data train a model in two phases, the model reflects, a report follows</title>"
    )
    return "\n".join([head, title, f"<defs>{tip}</defs>", *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    folders = [str(nano_path(name)) for name in ("reasoner", "critic")]
    reasoner, critic = (LocalEngine(load_model(f, dtype="float32"), load_tokenizer(f)) for f in folders)
    (found,) = reflect(reasoner, [QUESTION], critic, rounds=1, form=CompletionFormat(), max_new_tokens=200)
    (ROOT / "nbs" / "images" / "flow.svg").write_text(picture(found), encoding="utf-8")
