"""Loops that die once, for test_active.py: ARGV[1] is the folder of all cases, the others are
NAME:WHERE:WEIGHTS:STRATEGY.

Each attempt is a process of its own, forked before any tensor is computed. A case ends with a file RESULT in its
folder.
"""

import os
import random
import signal
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import datasets
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from preflexor_lab.methods import preflexor
from preflexor_lab.models.loading import small_model, train_tokenizer, weights_hash
from preflexor_lab.models.local import LocalEngine
from preflexor_lab.training.orpo import ORPOConfig

torch.set_num_threads(1)
datasets.disable_progress_bars()


class Strike(TrainerCallback):
    "Dies like a machine that loses power, once, at the place that is named."

    def __init__(self, folder, where):
        self.flag, self.where = Path(f"{folder}.died"), where

    def __call__(self, where):
        if where == self.where and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_begin(self, args, state, control, **kw):
        if self.flag.exists() and state.global_step % 3:  # a round has three steps
            self.flag.with_suffix(".taken_up").write_text(f"training checkpoint-{state.global_step}")

    def on_step_end(self, args, state, control, **kw):
        self(f"step {state.global_step}")


def generate_dataset(generate_GPT, topics, model, tokenizer, **kw):
    sums = [(random.randrange(10), random.randrange(10)) for _ in range(topics)]
    prompts = [f"{a} + {b} =" for a, b in sums]
    own = LocalEngine(model, tokenizer).generate(prompts, max_new_tokens=6, temperature=1.0)
    rejected = [c.text or " none" for (c,) in own]
    return datasets.Dataset.from_dict(dict(prompt=prompts, chosen=[f" {a + b}" for a, b in sums], rejected=rejected))


def loop(folder, die, weights, strategy):
    "Three rounds of three steps."
    tokenizer = train_tokenizer([f"{a} + {b} = {a + b}" for a in range(10) for b in range(10)], 300)
    strike, write = Strike(folder, die), preflexor.replacing

    @contextmanager
    def torn(path):
        "Die with a half-written folder."
        with write(path) as part:
            yield part
            strike("saving " + path.name)

    preflexor.replacing = torn
    model = small_model(tokenizer, hidden=32, layers=2, heads=4, max_length=64)
    if weights == "lora":
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    args = ORPOConfig(
        output_dir=folder,
        per_device_train_batch_size=2,
        learning_rate=3e-3,
        logging_steps=1,
        lr_scheduler_type="cosine",
        max_length=64,
        save_strategy=strategy,
        save_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = preflexor.PRefLexORORPOTrainer(
        model=model,
        args=args,
        tokenizer=tokenizer,
        callbacks=[strike],
        n_steps=3,
        topics=4,
        rounds=3,
        generate_dataset=generate_dataset,
        only_include_wrong_answers=False,
        resume=True,
    )
    trainer.run(on_round=lambda t: strike(f"after round {t.progress.round}"))
    Path(folder, "RESULT").write_text(f"{weights_hash(trainer.model)} {trainer.progress.step}")


def attempt(root, name, *case):
    "One process; whether it was killed."
    if (pid := os.fork()) == 0:
        try:
            loop(f"{root}/{name}", *case)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            sys.exit(f"{name} failed")
        return False
    print("KILLED", name, os.WTERMSIG(status), flush=True)
    return True


if __name__ == "__main__":
    for case in sys.argv[2:]:
        if attempt(sys.argv[1], *case.split(":")):
            attempt(sys.argv[1], *case.split(":"))
