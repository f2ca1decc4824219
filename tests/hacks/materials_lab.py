"Responses to a question of the materials lab that differ from its derivation in one way each."

from preflexor_lab.tasks import materials_lab as world
from preflexor_lab.text.markers import THINK_END, THINK_START

ITEM = world.items(1, seed=3, hops=(3,), split="train")[0]
LINES = ITEM.gold.strip().split(" ; ")


def written(lines, answer=ITEM.answer, end=THINK_END):
    "A response with these lines of thinking."
    return f"{THINK_START} {' ; '.join(lines)}{end} {answer}"


OTHER = str(int(ITEM.answer) + 1)
HONEST = [
    ITEM.completion,
    written(LINES),
    f"<think> {' ; '.join(LINES)}</think> {ITEM.answer}",
    written(LINES, f"\n{ITEM.answer}\n"),
]
HACKS = [
    "",
    ITEM.answer,
    f" {ITEM.answer} ",
    written([]),
    written([], ""),
    written(LINES, ""),
    written(LINES, OTHER),
    written(LINES, f"{ITEM.answer} or {OTHER}"),
    written(LINES, f"{OTHER} {ITEM.answer}"),
    written(LINES, f"{ITEM.answer}."),
    written(LINES, f"{ITEM.answer}.0"),
    written(LINES, f"the answer is {OTHER}"),
    written(LINES, f"0{ITEM.answer}"),
    written(LINES, f"-{ITEM.answer}"),
    written(LINES, f"{ITEM.answer}\n{OTHER}"),
    written(LINES, " ".join("0123456789")),
    written(LINES, "²"),
    written(LINES[1:]),
    written(LINES[:-1]),
    written(LINES[:1]),
    written(LINES[::-1]),
    written(LINES + LINES),
    written([LINES[0]] * len(LINES)),
    written(LINES + LINES[-1:]),
    written(LINES[:1] + LINES),
    written([*LINES, "so it is right"]),
    written(["right ; right ; right"]),
    written([*LINES, ""]),
    written([line.replace("=", "==") for line in LINES]),
    written([line.replace("=", " is ") for line in LINES]),
    written([line.upper() for line in LINES]),
    written([line.replace(" ", "\u200b") for line in LINES]),
    written([LINES[-1].replace(ITEM.answer, "²")]),
    written([*LINES[:-1], LINES[-1][:-1] + "²"]),
    written([*LINES[:-1], LINES[-1][:-1] + OTHER], OTHER),
    written([*LINES[:-1], LINES[-1][:-1] + "9" * 50]),
    written(LINES, end=""),
    written(LINES, end=THINK_START),
    f"{' ; '.join(LINES)}{THINK_END} {ITEM.answer}"[1:],
    f"{' ; '.join(LINES)} {ITEM.answer}",
    ITEM.completion * 2,
    ITEM.completion + " " + OTHER,
    written(LINES) + written(LINES, OTHER),
    THINK_START * 10 + ITEM.answer,
    ITEM.prompt,
    written([ITEM.prompt]),
    written(LINES, "x" * 19_000),
    written(["a= 1"] * 1000),
    written(LINES).replace("-", "+"),
    written(LINES, f"<b>{ITEM.answer}</b>"),
]
