"What the experiments share: their arguments, and how they tell what they found."

import argparse
import json
import os
import warnings

os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
warnings.filterwarnings("ignore")


def arguments(doc, seeds, *positional, **options):
    """Parsed arguments: --seeds, --out, names that must be given, and options with their defaults (a list: its choices,
    all by default)."""
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in positional:
        ap.add_argument(name)
    ap.add_argument("--seeds", type=int, nargs="+", default=seeds)
    for name, default in options.items():
        many = dict(nargs="+", choices=default) if isinstance(default, list) else dict(type=type(default))
        ap.add_argument("--" + name.replace("_", "-"), default=default, **many)
    ap.add_argument("--out", help="write the JSON there as well")
    import torch

    torch.set_num_threads(1)
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return ap.parse_args()


def joined(runs, name):
    "One list of the values of all runs."
    return [v for r in runs for v in r[name]]


def rounded(row):
    "A mean with its interval, four digits."
    return [round(x, 4) for x in row]


def midpoint(arms, samples_to):
    """Half-way between the start and the best end of all curves; adds to every arm the samples that its curves need to
    get there."""
    curves = [c for r in arms.values() for c in r["curves"]]
    height = round((curves[0][0][1] + max(h for c in curves for _, h in c)) / 2, 4)
    for r in arms.values():
        r["samples_to_midpoint"] = [None if (n := samples_to(c, height)) is None else round(n) for c in r["curves"]]
    return height


def tell(out, file):
    "Print one JSON line, and write it where that was asked for."
    line = json.dumps(out)
    if file:
        with open(file, "w") as f:
            f.write(line + "\n")
    print(line)
