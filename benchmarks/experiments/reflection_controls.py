"""Is it the critique? Reflection on the materials lab, beside controls that say nothing about the question.

    python benchmarks/experiments/reflection_controls.py [--items 300] [--rounds 2] [--out FILE]

The packaged reasoner answers the demo's test questions once, greedily; the packaged critic says which answers to revise.
Every arm starts from the same answers and revises the same questions as often. They differ in the critique, and in who
corrects (the critic, as in the demo, or the reasoner):

* critique: what the critic wrote; constant: the same short sentence for all; empty: nothing at all;
  shuffled: the critique of another question; dots: as many dots as the critique has tokens.
* resample: the reasoner answers again at temperature 1, without a critique.
* critic alone: one greedy answer of the critic, no reflection.

Strict accuracy (right answer and right reasoning) with 95 % intervals over questions, and tokens sampled per question. One
pair of models, so nothing here says how another training seed would turn out.
"""

from shared import arguments, rounded, tell  # sets the environment, so before torch

import torch

from preflexor_lab.evaluate import wilson
from preflexor_lab.generate import LocalEngine
from preflexor_lab.models import load_model, load_tokenizer, nano_path
from preflexor_lab.nano import TEST_HOPS
from preflexor_lab.reflect import CompletionFormat, ScoreAccepts, blank_critiques, reflect, resample, response_at
from preflexor_lab.tasks import load_task
from preflexor_lab.world import reflect_prompt

CONSTANT = "differs ; score 0"
FORM = CompletionFormat(reflect_prompt=reflect_prompt)
LENGTH = dict(max_new_tokens=256)


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
    settings = dict(rounds=rounds, form=FORM, **LENGTH)
    found = {}
    for corrector in ("critic", "reasoner"):
        told = reflect(reasoner, questions, critic, improver=corrector, accept=ScoreAccepts(), **settings)
        count = lambda text: len(reasoner.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
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

    def strict(traces, number=-1):
        right = sum(task.grade(item, response_at(t, number)).passed for item, t in zip(task, traces, strict=True))
        return rounded([right / args.items, *wilson(right, args.items)])

    told = arms["critic corrects: critique"]
    first = dict(strict=strict(told, 0), tokens=sum(t.rounds[0].tokens for t in told))
    rows = {name: dict(strict=strict(traces), tokens=sum(t.tokens for t in traces)) for name, traces in arms.items()}
    revised = sum(len(t.rounds) > 1 for t in told)
    tell(dict(experiment="reflection_controls", items=args.items, revised=revised, rows={"first answer": first, **rows}), args.out)


if __name__ == "__main__":
    main()
