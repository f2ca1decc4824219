"What the notebooks of this folder train: a tokenizer of whole words, a small Llama, and pairs of sums."

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from preflexor_lab.text.markers import THINK_END, THINK_START, register_markers


def toy_tokenizer():
    "Words and the numbers 0 to 19, each one token, and the markers."
    words = "<pad> <eos> <unk> + = ; so answer".split() + [str(i) for i in range(20)]
    core = Tokenizer(tokenizer_models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    register_markers(tok)
    return tok


def toy_model(tok, seed=0, dtype=torch.float32, initializer_range=0.2):
    "Two layers of width 32, the same weights for the same seed."
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=initializer_range,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).to(dtype)


def sum_pairs():
    "Pairs of sums; the rejected side adds one to the product."

    def thought(a, b, c):
        return f"{THINK_START} {a} ; {b} so {c} {THINK_END} answer {c}"

    return [
        {"prompt": f"{a} + {b} =", "chosen": thought(a, b, a + b), "rejected": thought(a, b, (a * b + 1) % 20)}
        for a in range(8)
        for b in range(6)
        if a * b + 1 != a + b
    ]


def uneven_pairs():
    "Ten pairs whose completions have different lengths."
    return [
        {"prompt": f"{i} =", "chosen": " ".join("1" * (1 + i * i % 9)), "rejected": " ".join("2" * (1 + i * 5 % 7))}
        for i in range(10)
    ]


def weights(trainer):
    "All weights of a trainer's model, in one vector."
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def gradient(trainer, rows, **change):
    "Loss of one batch, some of its tensors changed, and its gradient in one vector."
    batch = {**trainer.collate(rows), **change}
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
