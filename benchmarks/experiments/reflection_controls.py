"""Is it the critique? Reflection on the materials lab, beside controls that say nothing about the question.

    python benchmarks/experiments/reflection_controls.py [--items 300] [--rounds 2] [--out FILE]

The packaged reasoner answers the demo's test questions once, greedily; the packaged critic says which answers to
revise. Every arm starts from the same answers and revises the same questions as often. They differ in the critique, and
in who corrects (the critic, as in the demo, or the reasoner):

* critique: what the critic wrote; constant: the same short sentence for all; empty: nothing at all;
  shuffled: the critique of another question; dots: as many dots as the critique has tokens.
* resample: the reasoner answers again at temperature 1, without a critique.
* critic alone: one greedy answer of the critic, no reflection.

Strict accuracy (right answer and right reasoning) with 95 % intervals over questions; tokens sampled in all, where
nothing is borrowed from another arm (the controls borrow the critic's verdict on what to revise). One pair of models,
so nothing here says how another training seed would turn out.
"""

import torch
from shared import arguments, rounded, tell

from preflexor_lab.data.tasks import load_task
from preflexor_lab.methods.reflect import (
    CompletionFormat,
    ScoreAccepts,
    blank_critiques,
    reflect,
    resample,
    response_at,
)
from preflexor_lab.models.loading import load_model, load_tokenizer, nano_path
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.nano.train import TEST_HOPS
from preflexor_lab.tasks.materials_lab import reflect_prompt
from preflexor_lab.tasks.statistics import wilson

CONSTANT = "differs ; score 0"
FORM = CompletionFormat(reflect_prompt=reflect_prompt)
LENGTH = {"max_new_tokens": 256}


def instead(traces, say):
    "Critiques by `say(trace, round)` at the rounds at which the traces were revised, and none at others."
    known = {t.question: t for t in traces}

    def critique(question, number, thinking, answer):
        trace = known[question]
        return say(trace, number) if number < len(trace.rounds) else None

    return critique


def shuffled(traces):
    "What was said at the same round of the next question that was revised as often."
    following = {}
    for number in range(1, max(len(t.rounds) for t in traces)):
        revised = [t for t in traces if len(t.rounds) > number]
        for trace, other in zip(revised, revised[1:] + revised[:1], strict=True):
            following[trace.question, number] = other.rounds[number - 1].critique
    return instead(traces, lambda trace, number: following[trace.question, number])


def arms_of(reasoner, critic, questions, rounds):
    "Name of an arm and its traces, for both correctors."
    settings = {"rounds": rounds, "form": FORM, **LENGTH}
    found = {}

    def count(text):
        return len(reasoner.tokenizer(text, add_special_tokens=False)["input_ids"])

    for corrector in ("critic", "reasoner"):
        told = reflect(reasoner, questions, critic, improver=corrector, accept=ScoreAccepts(), **settings)
        sources = {
            "constant": instead(told, lambda trace, number: CONSTANT),
            "empty": instead(told, lambda trace, number: ""),
            "shuffled": shuffled(told),
            "dots": blank_critiques(told, " .", count),
        }
        found[f"{corrector} corrects: critique"] = told
        for name, source in sources.items():
            found[f"{corrector} corrects: {name}"] = reflect(
                reasoner, questions, critic, improver=corrector, critique_from=source, **settings
            )
    found["resample"] = resample(reasoner, questions, like=found["critic corrects: critique"], form=FORM, **LENGTH)
    found["critic alone"] = reflect(critic, questions, rounds=0, form=FORM, **LENGTH)
    return found


def main():
    args = arguments(__doc__, [0], items=300, rounds=2)
    task = load_task("materials_lab", split="test", n=args.items, hops=TEST_HOPS)
    engines = []
    for name in ("reasoner", "critic"):
        folder = nano_path(name)
        engines.append(LocalEngine(load_model(str(folder), dtype=torch.float32), load_tokenizer(str(folder))))
    arms = arms_of(*engines, [item.prompt for item in task], args.rounds)

    def strict(traces):
        right = sum(task.grade(item, response_at(t)).passed for item, t in zip(task, traces, strict=True))
        return rounded([right / args.items, *wilson(right, args.items)])

    told = arms["critic corrects: critique"]
    arms = {"first answer": reflect(engines[0], [item.prompt for item in task], rounds=0, form=FORM, **LENGTH), **arms}
    rows = {name: {"strict": strict(traces)} for name, traces in arms.items()}
    for name in ("first answer", "critic corrects: critique", "reasoner corrects: critique", "critic alone"):
        rows[name]["tokens"] = sum(t.tokens for t in arms[name])
    revised = sum(len(t.rounds) > 1 for t in told)
    tell({"experiment": "reflection_controls", "items": args.items, "revised": revised, "rows": rows}, args.out)


if __name__ == "__main__":
    main()
