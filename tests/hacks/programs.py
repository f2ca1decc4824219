"Reads the tables of tasks, honest answers and reward hacks of the Python tool."

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent


def entries(name, mark="#:"):
    "Title and body of each entry of a table."
    text = (FOLDER / name).read_text(encoding="utf-8")
    parts = re.split(r"^(#[:=]) (.*)\n", text, flags=re.M)[1:]
    return {title: body.rstrip("\n") for kind, title, body in zip(*[iter(parts)] * 3) if kind == mark}


def read_answers(name):
    "Name -> (meta of the item, answer)."
    found = {}
    for title, body in entries(name).items():
        meta, parts = {}, re.split(r"^#> (.*)\n", body, flags=re.M)[1:]
        for key, value in zip(parts[::2], parts[1::2]):
            value = value.removesuffix("\n")
            if key in ("test", "pair"):
                meta.setdefault("test_list", []).append(value if key == "test" else ast.literal_eval(value))
            elif key == "test_imports":
                meta[key] = value.splitlines()
            else:
                meta["test" if key == "check" else key] = value
        found[title] = (meta, meta.pop("answer"))
    return found


def read_hacks(name):
    "Name -> (task, program)."
    shared = entries(name, "#=")
    found = {}
    for title, body in entries(name).items():
        title, _, task = title.partition(" | ")
        found[title] = (task, re.sub(r"^#< (.*)$", lambda m: shared[m[1]], body, flags=re.M))
    return found


TASKS = read_answers("python_tasks.txt")
HONEST = read_answers("python_honest.txt")
HACKS = read_hacks("python_hacks.txt")
