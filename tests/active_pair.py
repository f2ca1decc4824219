"A loop of two processes, for test_active.py: ARGV[1] is the output folder."

import os
import random
import sys

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import datasets
import torch
import torch.distributed as dist

from preflexor_lab.methods.preflexor import PRefLexORORPOTrainer
from preflexor_lab.models.loading import small_model, train_tokenizer, weights_hash
from preflexor_lab.training.orpo import ORPOConfig

torch.set_num_threads(1)
datasets.disable_progress_bars()
tokenizer = train_tokenizer([f"{a} + {b} = {a + b}" for a in range(10) for b in range(10)], 300)
made = []


def generate_dataset(topics, **kw):
    made.append(1)
    sums = [(random.randrange(10), random.randrange(10)) for _ in range(topics)]
    columns = dict(prompt=[f"{a} + {b} =" for a, b in sums], chosen=[f" {a + b}" for a, b in sums])
    return datasets.Dataset.from_dict(columns | dict(rejected=[" none"] * topics))


args = ORPOConfig(
    output_dir=sys.argv[1],
    per_device_train_batch_size=2,
    learning_rate=3e-3,
    logging_steps=1,
    lr_scheduler_type="constant",
    max_length=64,
    save_strategy="epoch",
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
    disable_tqdm=True,
)
trainer = PRefLexORORPOTrainer(
    model=small_model(tokenizer, hidden=32, layers=2, heads=4, max_length=64),
    args=args,
    tokenizer=tokenizer,
    n_steps=2,
    topics=8,
    rounds=2,
    generate_dataset=generate_dataset,
    only_include_wrong_answers=False,
)
trainer.run()
first = trainer.train_dataset["prompt"][0].replace(" ", "")
print("RESULT", dist.get_world_size(), dist.get_rank(), len(made), first, weights_hash(trainer.model), flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive the group, and a normal exit then aborts now and then
