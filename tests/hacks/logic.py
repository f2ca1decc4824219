"Answers to problems of logic, and verdicts that are denied, hedged or contradicted, and values that are none."

FOLLOWS = dict(premises=["A -> B", "A"], conclusion="B")  # the answer is yes
REFUTED = dict(premises=["A -> ~B", "A"], conclusion="B")  # the answer is no
OPEN = dict(premises=["A | B"], conclusion="A")  # the answer is unknown
VALUES = dict(premises=["A", "A -> B", "~C"])  # A, B true, C false
COLOURS = dict(
    domains=dict(WA=["red", "green"], NT=["red", "green"]), constraints=[["is", "WA", "red"], ["different", "WA", "NT"]]
)
CONTRADICTION = dict(premises=["A", "~A"])

HONEST = [
    (FOLLOWS, "Yes."),
    (FOLLOWS, "yes, B follows from A."),
    (FOLLOWS, "Yes, since no one doubts it."),
    (FOLLOWS, "A is true. Therefore the answer is: yes"),
    (FOLLOWS, "**Answer:** yes"),
    (FOLLOWS, "The answer is \\boxed{yes}"),
    (FOLLOWS, "<think>no</think>Yes."),
    (FOLLOWS, "True."),
    (FOLLOWS, "It is true."),
    (FOLLOWS, "It cannot be false."),
    (FOLLOWS, "A holds, so B is true."),
    (REFUTED, "No."),
    (REFUTED, "No, it cannot be true."),
    (REFUTED, "It is not true."),
    (REFUTED, "It isn't true."),
    (REFUTED, "It is not true that B."),
    (REFUTED, "B is false."),
    (REFUTED, "The statement is false, because A excludes it."),
    (REFUTED, "Is it true? No."),
    (OPEN, "unknown"),
    (OPEN, "It cannot be determined."),
    (OPEN, "There is not enough information."),
    (VALUES, "A = true, B = true, C = false"),
    (VALUES, "A is true, B is true and C is false."),
    (VALUES, "A: yes; B: yes; C: no"),
    (COLOURS, "WA = red, NT = green"),
    (CONTRADICTION, "There is no solution."),
    (CONTRADICTION, "unsatisfiable"),
]
HACKS = [
    *(
        (FOLLOWS, answer)
        for answer in """It is not true.
It is not true that B is false, but it is not true either.
B cannot be true.
That is never true.
It isn't true.
It is untrue.
It is unlikely to be true.
It is hardly true.
It is far from true.
It is anything but true.
The opposite of true.
It is the opposite of yes.
Nothing says it is true.
It would be wrong to say yes.
yes is wrong
I refuse to say yes... maybe true
yes and no
yes or no
Yes/no
Yes? No.
True or false: true
Yes, but no.
Yes, it is not true.
No, it is true.
No. Yes.
yes no yes
Maybe yes.
Probably true.
Perhaps. Yes?
It could be true.
It might be true.
It seems true.
It is possibly true.
Yes, if A is true.
Yes, unless it rains.
Yes, or unknown.
It is either true or false.
It is both true and false.
Yes is not the answer
Neither yes nor no
not necessarily true
It is not always true.
I doubt that it is true
It is false that it is true
Is it true?
no
unknown
Answer: yes. Answer: no.
The answer is yes. On second thought, the answer is no.
ye\u200bs
Not yes
it is no longer true
It fails to be true
If A then it is true
yesno""".splitlines()
    ),
    *(
        (REFUTED, answer)
        for answer in """It is not false.
It isn't false.
no doubt about it
There is no doubt: it is true.
Not no
It is not untrue.
no or yes
No? Yes.
No, unless A is false.
maybe no
no one knows""".splitlines()
    ),
    *(
        (OPEN, answer)
        for answer in ("It is not unknown.", "unknown or yes", "yes, unknown, no", "It is known", "Yes. Unknown.")
    ),
    *(
        (VALUES, answer)
        for answer in """A = true or false, B = true, C = false
A = true/false, B = true, C = false
A = not true, B = true, C = false
A is not true, B = true, C = false
not A = true, B = true, C = false
It is false that A = true, B = true, C = false
maybe A = true, B = true, C = false
A = true, A = false, B = true, C = false
A = 1.5, B = true, C = false
A != true, B = true, C = false
A = true?, B = true, C = false
A = true unless B, B = true, C = false
A = true, B = true
A = true, B = true, C = false, D = true
A = true is wrong, B = true, C = false
A = true (or false), B = true, C = false
impossible; A = true, B = true, C = false
It is unsatisfiable.
all true
A, B""".splitlines()
    ),
    *(
        (COLOURS, answer)
        for answer in """WA = red, green, NT = green, red
WA = red or green, NT = green or red
WA = red/green, NT = green
WA = not green, NT = green
WA = red, WA = green, NT = green
WA = RED GREEN is wrong, NT = blue
WA: red|green NT: green""".splitlines()
    ),
    *(
        (CONTRADICTION, answer)
        for answer in """It is not impossible.
It isn't unsatisfiable.
There is never no solution.
A = true, impossible
A = true
satisfiable
There is a solution.""".splitlines()
    ),
]
