"""What benchmarks of whole updates have in common: a small model that never ends a sample, the clock, turns and their
ratios.

Every sample has its full length: the rows of the two special tokens in the (tied) embedding are built such that their
logits lie more than 20 nats below those of all words, so that the end of sequence is never drawn although every side
watches for it.
"""

import gc
import json
import os
import sys
import tempfile
import time
import warnings

os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
warnings.filterwarnings("ignore")

import torch

VOCAB = 4096


def word_tokenizer():
    "Words 'w2' ... 'w4095' with those ids, after the end of sequence and the pad."
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate(["<eos>", "<pad>"] + [f"w{i}" for i in range(2, VOCAB)])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<eos>",
        pad_token="<pad>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def small_llama():
    """A Llama with 5.6M random parameters that never ends a sequence: the first channel of the residual stream tells
    words from special tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=6,
            num_attention_heads=8,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=0,
            bos_token_id=None,
            pad_token_id=1,
            initializer_range=0.05,
        )
    )
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[:, 0] = 1.0
        table[:2, 0] = -1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0], layer.mlp.down_proj.weight[0] = 0, 0
        model.model.norm.weight[0] = 100.0
        logits = model(torch.randint(2, VOCAB, (2, 64))).logits
        assert float((logits[..., 2:].amin(-1) - logits[..., :2].amax(-1)).min()) > 20, (
            "the end of sequence could be drawn"
        )
    return model.eval()


def texts(tok, count, length):
    "As many texts of `length` random words, the same in every run."
    draw = torch.Generator().manual_seed(0)
    found = [
        " ".join(f"w{i}" for i in torch.randint(2, VOCAB, (length,), generator=draw).tolist()) for _ in range(count)
    ]
    assert all(len(tok(t)["input_ids"]) == length for t in found)
    return found


def cpu(call):
    "Result of a call and the CPU seconds it took."
    gc.collect()
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


QUIET = dict(  # of every trainer that is timed, on all sides
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
    save_strategy="no",
    disable_tqdm=True,
)


def settings(args, folder, updates=1):
    "What the trainers of all sides are told alike: two batches, `updates` updates on each."
    return dict(
        output_dir=folder,
        **QUIET,
        logging_steps=1000,
        max_steps=2 * updates,
        per_device_train_batch_size=args.prompts * args.samples,
        gradient_accumulation_steps=1,
        learning_rate=5e-7,
        temperature=1.0,
    )


def second_half(trainer, updates=1):
    "CPU seconds of a trainer's second batch with its updates, from the end of the first."
    from transformers import PrinterCallback, TrainerCallback

    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.process_time())

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    gc.collect()
    trainer.train()
    assert len(ends) == 2 * updates
    return ends[-1] - ends[updates - 1]


def trl_rloo(args, model, tok, prompts, folder, kl, updates=1):
    "Seconds of `RLOOTrainer` on the same prompts, with a reward that costs nothing: the whole, and sampling alone."
    from datasets import Dataset
    from transformers import LlamaForCausalLM
    from trl import RLOOConfig, RLOOTrainer

    def distinct(completion_ids, **_):
        assert all(len(ids) == args.new for ids in completion_ids)
        return [float(len(set(ids))) for ids in completion_ids]

    parts, sampled = dict(sampling=0.0), []

    class Timed(RLOOTrainer):
        def _generate(self, *a, **kw):
            found, parts["sampling"] = cpu(lambda: super(Timed, self)._generate(*a, **kw))
            sampled.append(self.state.global_step)
            return found

    home = os.path.join(folder, "model")
    if not os.path.exists(home):
        model.save_pretrained(home), tok.save_pretrained(home)
    config = RLOOConfig(
        **settings(args, folder, updates),
        num_generations=args.samples,
        max_completion_length=args.new,
        beta=kl,
        num_iterations=updates,
        steps_per_generation=1,
    )
    trainer = Timed(
        LlamaForCausalLM.from_pretrained(home),
        distinct,
        config,
        train_dataset=Dataset.from_list([dict(prompt=p) for p in prompts]),
        processing_class=tok,
    )
    assert trainer.ref_model is not None
    total = second_half(trainer, updates)
    assert sampled == [0, updates], sampled
    return dict(total=total, **parts, update=total - parts["sampling"])


def take_turns(sides, rounds, *given):
    """Each side's turn with the least total. Sides are (args, ..., folder) -> dict of seconds, one after another,
    `rounds` times."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    found = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(side(*given, folder))
                print(
                    name,
                    {k: round(v, 2) if isinstance(v, float) else v for k, v in found[name][-1].items()},
                    file=sys.stderr,
                    flush=True,
                )
    return {name: min(turns, key=lambda t: t["total"]) for name, turns in found.items()}


def seconds(best):
    "For the JSON line: total CPU seconds of each side, and its parts."
    return dict(
        cpu_seconds={n: round(b["total"], 2) for n, b in best.items()},
        parts={
            n: {k: round(v, 2) for k, v in b.items() if isinstance(v, float) and k != "total"} for n, b in best.items()
        },
    )


def finish(line, met):
    "Print the JSON line; exit 1 when a target is missed."
    print(json.dumps(line))
    raise SystemExit(0 if all(met.values()) else 1)
