"docs/results.md from the measurements in nbs/results: every number of the page is read or computed here."

import json
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "nbs" / "results"
T95 = {2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 % quantile of Student's t by degrees of freedom


def load(name: str):
    "One file of measurements."
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def with_interval(value: float, low: float, high: float) -> str:
    "Percent with its interval."
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def signed(points: float) -> str:
    "A difference with its sign; what rounds to zero is +0.0."
    return f"{round(points, 1) + 0.0:+.1f}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    "A table whose first column is text."
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


class Runs:
    "Rows of one recipe's runs: `(stage, metric)` to one row per seed, and the differences that it wrote itself."

    def __init__(self, file: str):
        self.rows = {}
        for row in load(file):
            self.rows.setdefault((row["stage"], row["metric"]), []).append(row)

    def values(self, stage: str, metric: str = "strict") -> list[float]:
        "One value per seed, in percent."
        return [100 * row["value"] for row in self.rows.get((stage, metric), [])]

    def cell(self, stage: str, metric: str, intervals: bool = False) -> str:
        "All seeds in one cell of a table."
        rows = self.rows.get((stage, metric), [])
        if intervals:
            found = [with_interval(r["value"], r["low"], r["high"]) for r in rows]
        else:
            found = [f"{100 * r['value']:.1f}" for r in rows]
        return " / ".join(found) or "–"

    def table(self, stages: dict[str, str], metrics: dict[str, str], intervals: bool = False) -> str:
        "Stages down, metrics across."
        rows = [[name, *(self.cell(stage, m, intervals) for m in metrics)] for stage, name in stages.items()]
        return markdown(["%", *metrics.values()], rows)

    def by_seed(self, one: str, other: str, metric: str = "strict") -> list[float]:
        "Difference of two stages, one per training seed, in points."
        return [a - b for a, b in zip(self.values(one, metric), self.values(other, metric), strict=True)]

    def over_seeds(self, one: str, other: str, metric: str = "strict") -> str:
        "Mean difference and its 95 % interval over training seeds (Student's t); not given below three seeds."
        found = self.by_seed(one, other, metric)
        if len(found) < 3:
            return "–"
        half = T95[len(found) - 1] * statistics.stdev(found) / len(found) ** 0.5
        mean = statistics.mean(found)
        return f"{signed(mean)} [{signed(mean - half)}, {signed(mean + half)}]"

    def over_items(self, one: str, other: str, metric: str = "strict") -> str:
        "The difference's interval over items, with the seeds pooled, as the run wrote it."
        rows = self.rows.get((f"{one} minus {other}", f"gain in {metric}"), [])
        return f"[{100 * rows[0]['low']:+.1f}, {100 * rows[0]['high']:+.1f}]" if rows else "–"

    def differences(self, wanted: list[tuple], names: dict[str, str]) -> str:
        "Table of differences: each seed, over seeds, over items."
        rows = []
        for one, other, *metric in wanted:
            metric = metric[0] if metric else "strict"
            label = f"{names[one]} minus {names[other]}" + (", sampled" if metric.startswith("sampled") else "")
            label += ", own judgement" if metric.startswith("judge") else ""
            each = " / ".join(signed(d) for d in self.by_seed(one, other, metric))
            means = [self.over_seeds(one, other, metric)] if len(self.by_seed(one, other, metric)) > 2 else []
            rows.append([label, each, *means, self.over_items(one, other, metric)])
        means = ["mean, 95 % over seeds"] if len(rows[0]) == 4 else []
        return markdown(["difference, points", "each seed", *means, "95 % over items, seeds pooled"], rows)


def demo() -> str:
    "The main job, and what reflection's gain is made of."
    runs = Runs("demo_two_seeds.json")
    names = {
        "base": "base",
        "orpo": "Phase I (ORPO)",
        "exo": "Phase II (EXO)",
        "sft": "SFT on the same chosen texts (control)",
        "rft": "rejection-sampling fine-tuning (control)",
        "reflect.2": "Phase II, two rounds of reflection with the critic",
        "resample": "Phase II, asked again as often (control)",
    }
    short = {"base": "base", "orpo": "Phase I", "exo": "Phase II", "sft": "SFT", "rft": "rejection sampling"}
    table = runs.table(names, {"strict": "strict accuracy, seed 0 / seed 1"}, intervals=True)
    wanted = [("orpo", "base"), ("exo", "base"), ("exo", "sft"), ("exo", "rft")]
    found = load("reflection_controls.json")
    rows = found["rows"]
    arms = [
        [name, with_interval(*r["strict"]), f"{r['tokens']:,}" if "tokens" in r else ""] for name, r in rows.items()
    ]
    alone, told = rows["critic alone"], rows["critic corrects: critique"]
    return f"""## The main job: `preflexor run demo seeds=0,1`

The packaged reasoner, Phase I and Phase II on its own answers, then reflection; 300 held-out items of the materials \
lab, two
training seeds. *Strict* counts an answer as right only when every line of its reasoning is right too.

{table}

{runs.differences(wanted, short)}

Both phases raise the reasoner in both seeds. **Where gold answers or an exact grader exist, plain fine-tuning on \
right texts
does better here**, at equal trained tokens, in both seeds: the two phases are for the case without them, and this table
does not show that case.

- *The base.* The reasoner's weights began with one hand-set induction circuit, without which lookups
  stayed at chance for one to five million tokens, and its headroom is a habit that it was given on purpose: on long \
chains it stops thinking halfway. That is
  easy to unlearn, and one prompt is enough to switch it off ([how it was made](../nbs/09_nano/02_training.ipynb)).
- *The settings* were chosen among three on validation items; these test items were measured once.

### Reflection: what it does not show

Two rounds with the critic end at {runs.cell("reflect.2", "strict")} %. **That is no evidence for the critique**: \
here are the packaged reasoner
and critic without any training, {found["items"]} questions, of which the critic's verdict has {found["revised"]} \
revised, and controls in which
the critique says nothing about the question (`benchmarks/experiments/reflection_controls.py`).

{markdown(["arm", "strict accuracy, %", "tokens sampled"], arms)}

The critic alone, asked once, is right on {100 * alone["strict"][0]:.0f} % with {alone["tokens"]:,} tokens, against \
{told["tokens"]:,} for reflection
with it. With the same constant sentence for every question reflection ends where it ends with the critic's words. So \
on these
models a second attempt in the correcting frame helps, more than asking again does, and what the critique *says* is \
not shown to
add anything. Intervals are over questions, for one pair of models.
"""


def texts() -> str:
    "Corpus and scored answers."
    corpus, pairs = Runs("corpus.json"), Runs("pairs_two_seeds.json")
    one = corpus.table(
        {"base": "base", "orpo": "Phase I (ORPO)", "exo": "Phase II (EXO)", "sft": "SFT, equal tokens (control)"},
        {
            "accuracy": "cloze accuracy",
            "preference_accuracy": "preference (mean log-probability)",
            "reward_accuracy": "preference (implicit reward)",
        },
        intervals=True,
    )
    two = pairs.table(
        {
            "base": "base",
            "orpo": "Phase I (ORPO)",
            "exo": "Phase II (EXO)",
            "exo-answers-only": "Phase II comparing answers only",
        },
        {
            "preference_accuracy": "mean log-probability",
            "reward_accuracy": "implicit reward",
            "longer_wins": "choosing the longer text",
            "balanced/preference_accuracy": "mean, length-balanced pairs",
            "balanced/reward_accuracy": "reward, length-balanced pairs",
        },
        intervals=True,
    )
    gain = " / ".join(f"{d:+.1f}" for d in pairs.by_seed("exo", "base", "preference_accuracy"))
    return f"""## Real text

Two recipes make a small base (a few million parameters, a tokenizer of its own) from the texts themselves and \
nothing else: a
demonstration, not a useful model. Measured on sections and questions that were never trained on.

A chemistry textbook, 100 sections, **one seed** (`preflexor run corpus corpus=FOLDER`): a hidden key term named \
exactly, and the
right evidence preferred to that of another term.

{one}

The base names none of the hidden terms and Phase I two in a hundred, which is little, and plain SFT at equal tokens \
names as many.
Phase II adds nothing. One seed says nothing of another.

Scored answers of five language models to questions in materials science, seeds 0 / 1 (`preflexor run pairs \
data=FOLDER seeds=0,1`):
how often the better answer is preferred.

{two}

Both phases together change the mean log-probability's preference by {gain} points in the two seeds. **Choosing the \
longer
text is better than any of them**, and on the 22 pairs where length does not help nothing is clear of chance. Texts \
are cut at
1,536 tokens, about half of a typical answer. Comparing answers only makes no difference that two seeds show.
"""


def self_rewarding() -> str:
    "Self-Rewarding and SPIN."
    runs, spin = Runs("self_reward_three_seeds.json"), Runs("spin_three_seeds.json")
    names = {
        "base": "M0, the novice",
        "M1": "M1, taught to judge",
        "M2": "M2, first round",
        "M3": "M3, second round",
        "exact.M3": "two rounds, exact grader as judge",
        "random.M3": "two rounds, random pairs",
        "rft": "rejection-sampling fine-tuning from M1, equal tokens",
    }
    metrics = {
        "judge/right": "own right above own wrong",
        "strict": "strict accuracy, greedy",
        "sampled/strict": "strict accuracy, sampled",
    }
    short = {"base": "M0", "M1": "M1", "M2": "M2", "M3": "M3"}
    short |= {"exact.M3": "exact grader", "random.M3": "random pairs", "rft": "rejection sampling"}
    wanted = [
        ("M1", "base"),
        ("M2", "M1"),
        ("M3", "M1"),
        ("M3", "M1", "sampled/strict"),
        ("M3", "exact.M3"),
        ("M3", "exact.M3", "sampled/strict"),
        ("M3", "random.M3"),
        ("M3", "rft"),
        ("M3", "rft", "sampled/strict"),
        ("M1", "base", "judge/right"),
        ("M3", "M1", "judge/right"),
    ]
    longer = runs.rows["M3 minus M1", "growth of thinking_tokens"][0]["value"]
    spins = {"base": "novice", "sft": "SFT on 60 demonstrations", "spin": "SPIN, two iterations"}
    spins |= {"more_sft": "more SFT, equal tokens (control)"}
    return f"""## Self-Rewarding: `preflexor run self_reward seeds=0,1,2`

[Self-Rewarding](https://arxiv.org/abs/2401.10020) teaches a model to judge (M1) and then trains it on pairs of its \
own answers that
it has ranked itself (M2, M3). The packaged novice was never taught to judge and answers in a hurry; three seeds, 300 \
held-out
items greedily and 100 in samples.

{runs.table(names, metrics)}

{runs.differences(wanted, short)}

Two rounds on the model's own votes raise it far above M1, and above random pairs. Beside that:

- It is not as good as the exact grader in the judge's place: {runs.over_seeds("M3", "exact.M3", "sampled/strict")} \
points of sampled accuracy over
  seeds. Greedily both are nearly perfect, which leaves nothing to compare.
- Rejection sampling at equal trained tokens is far better in samples; greedily three seeds do not separate them. It \
needs a grader.
- Learning to judge costs answering (M1 below M0), so a part of what is gained over M1 was lost before.
- Random pairs also gain in their second round: moving away from the start is worth something here.
- Judging gets worse as answering gets better, because nothing in a round teaches it.
- The gain comes with {longer:.0f} more tokens of thinking, which is what the novice lacked.

## SPIN: `preflexor run spin seeds=0,1,2`

[SPIN](https://arxiv.org/abs/2401.01335) needs demonstrations only: supervised fine-tuning on 60 of them, two \
iterations of self-play on
the same 60, and more of the same fine-tuning at equal tokens.

{spin.table(spins, {"strict": "strict accuracy, greedy"})}

{spin.differences([("spin", "sft"), ("spin", "more_sft")], {"spin": "SPIN", "sft": "SFT", "more_sft": "more SFT"})}

Self-play gains much over its start and *less than more supervised fine-tuning on the same demonstrations*.
"""


def latro() -> str:
    "LaTRO, its ablations and the methods that know more."
    runs = Runs("latro_three_seeds.json")
    names = {
        "base": "novice",
        "latro": "LaTRO",
        "without_answer_term": "LaTRO without the answer's own gradient",
        "exact_reward": "policy gradient on the exact grade",
        "rft": "rejection-sampling fine-tuning (knows the grade)",
        "gold_rationales": "SFT on gold rationales",
        "answers_only": "SFT on answers alone",
    }
    metrics = {
        "strict": "strict accuracy, greedy",
        "accuracy": "right answer, greedy",
        "sampled/strict": "strict accuracy, sampled",
    }
    short = {"base": "novice", "latro": "LaTRO", "without_answer_term": "without the answer's gradient"}
    short |= {"exact_reward": "exact grade", "rft": "rejection sampling", "gold_rationales": "gold rationales"}
    others = ("base", "exact_reward", "without_answer_term", "rft", "gold_rationales")
    wanted = [("latro", other) for other in others]
    wanted += [("latro", other, "sampled/strict") for other in ("exact_reward", "rft", "gold_rationales")]
    curve = load("latro_curve.json")["mixes"]
    rows = []
    for mix, found in curve.items():
        for name, row in found["rows"].items():
            rows.append(
                [
                    mix.replace("-", ", "),
                    name.replace("_", " "),
                    with_interval(*row["greedy"]),
                    f"{100 * row['sampled']:.1f}",
                ]
            )
    each = " / ".join(f"{d:+.1f}" for d in runs.by_seed("latro", "exact_reward"))
    return f"""## LaTRO: `preflexor run latro seeds=0,1,2`

[LaTRO](https://arxiv.org/abs/2411.04282) has questions and answers, no rationales and no grader: a rationale is \
worth what it adds to
the likelihood of the answer. About 75 questions with eight rationales each, from the novice; three seeds.

{runs.table(names, metrics)}

{runs.differences(wanted, short)}

Reasoning is learnt from answers alone, in all three seeds; the same answers without thinking teach nothing. The \
difference to a
policy gradient on the exact grade is {each} by seed, {runs.over_seeds("latro", "exact_reward")} over seeds: far too \
wide to call the two equal
(the interval over items, with the seeds pooled, hid that). Rejection sampling, which is told which rationales were \
right, and SFT on
gold rationales are ahead in samples; greedily three seeds do not separate them from LaTRO. The answer's own gradient \
makes no difference that three seeds show.

Two mixes of chain lengths, two seeds pooled, intervals over items (`benchmarks/experiments/latro_curve.py`):

{markdown(["hops", "arm", "strict accuracy, greedy, %", "sampled, %"], rows)}

On chains of 6 and 7 hops it learns every chain of six and hardly one of seven: what is never sampled cannot be \
reinforced.
"""


def views(file: str, metrics: dict[str, str]) -> str:
    "The table of one feedback experiment."
    found = load(file)
    rows = [["before", *(with_interval(*found["before"][m]) for m in metrics), "", ""]]
    for name, arm in found["arms"].items():
        reached = ", ".join("never" if n is None else str(n) for n in arm["samples_to_midpoint"])
        heights = " / ".join(f"{100 * a:.0f}" for a in arm["area"])
        rows.append([name.replace("_", ", "), *(with_interval(*arm["test"][m]) for m in metrics), heights, reached])
    return markdown(
        ["arm", *metrics.values(), "mean height of the curve, each seed", "samples to the midpoint, each seed"], rows
    )


def rlsf() -> str:
    "Symbolic feedback in three views."
    reviews = load("rlsf_sentiment.json")
    before, token = reviews["before"], reviews["arms"]["token"]["test"]
    lab = views("rlsf_feedback.json", {"greedy": "strict accuracy, greedy, %", "sampled": "sampled, %"})
    film = views("rlsf_sentiment.json", {"score": "mean sentiment, −100 to 100", "positive": "positive, %"})
    return f"""## RLSF

[RLSF](https://arxiv.org/abs/2405.16661) has a symbolic tool mark stretches of a response; their values become \
rewards of those tokens.
The same certificates can be collapsed to one score or to pass and fail. Rate and discount of each arm were chosen on \
validation prompts
with the first seed. Intervals are over items with the seeds pooled; the last two columns show the seeds apart.

A novice that calculates badly, judged step by step, two seeds (`benchmarks/experiments/rlsf_feedback.py`):

{lab}

A small model of film reviews, moved towards positive continuations, three seeds \
(`benchmarks/experiments/rlsf_sentiment.py`):

{film}

Rewards at the tokens train both models. **No order of token, scalar and boolean feedback follows from these \
tables.** Every arm with
PPO ran at GAE λ = 0.95, which was not tuned; with a fresh value head a reward on the last token hardly reaches the \
tokens before it
at that λ, so the other two views were handicapped by something that is not information. In a run with λ = 1, of \
which no file
is kept here, they reached or passed the tokens in one seed of two, and iterated rejection sampling on as many \
samples passed both. Under
REINFORCE the verdict beats the score on the first task in these very tables.

Positive reviews come at a price that the score does not see: perplexity under the frozen base rises from \
{before["perplexity"]:.0f} to
{token["perplexity"]:.0f}, and distinct pairs of words fall from {100 * before["distinct_pairs"]:.0f} to \
{100 * token["distinct_pairs"]:.0f} %.
"""


def page() -> str:
    "The whole page."
    parts = [demo(), texts(), self_rewarding(), latro(), rlsf()]
    return """# Results

> What each method did here, with its controls, seed by seed.

Written by `python .github/make_results.py` from the files in `nbs/results`, which the commands below wrote. How to \
read it:

- *Seeds* are training seeds, shown one by one. With three, a difference has a 95 % interval over seeds (Student's t \
on the paired
  differences). With two, both are shown and nothing small is claimed.
- Intervals *over items* treat the trained models as given; with the seeds pooled they are much too narrow for a \
statement
  about a method, and are given only because the runs recorded them.
- Everything on the materials lab is measured on the packaged models of one million parameters. They are an example \
and a test
  fixture: their weights began with a hand-set induction circuit, and their headroom was put there. Nothing here is \
evidence
  about language models of a useful size.
- What was tried and did not work is in [decisions](decisions.md).

""" + "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
