"""One prompt has one tokenisation: what an engine reads and writes is what trainers train and scorers score.

Tokenizers of every kind are built here, small; real ones join them where PREFLEXOR_REAL_MODELS names their folder. The
chat templates are those that TRL carries. A scripted model writes a known reply: a random one writes ids that no
text has.
"""

import os
import re
from pathlib import Path

import pytest
import torch
import trl
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from preflexor_lab.models.loading import load_tokenizer, nano_path
from preflexor_lab.models.local import Forward, LocalEngine
from preflexor_lab.models.scoring import score_texts
from preflexor_lab.text.chat import encode, encode_prompt, render, render_prompt
from preflexor_lab.training.policy_gradient import prompt_rows, rollouts_of
from preflexor_lab.training.sft import Completions

torch.set_num_threads(1)
CORPUS = ["Why is bone tough? Because of collagen and mineral.", "2 + 3 = 5 and 12 - 7 = 5", "assistant user system"]
SPECIAL = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def wrapped(raw, bos=False, eos=False, pad=True, **names):
    "A tokenizer that adds a beginning, an end, or both, to a text."
    names = {k: v for k, v in (SPECIAL | names).items() if v and (pad or k != "pad_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    first, last = names.get("bos_token"), names.get("eos_token")
    single = " ".join([first] * bos + ["$A"] + [last] * eos)
    ids = [(t, tokenizer.convert_tokens_to_ids(t)) for t in dict.fromkeys((first, last)) if t]
    if bos or eos:
        raw = tokenizer.backend_tokenizer
        raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def byte_level(merges=True, **options):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    size = 420 if merges else 256
    raw.train_from_iterator(CORPUS * 9, trainers.BpeTrainer(vocab_size=size, initial_alphabet=BYTES))
    return wrapped(raw, unk_token=None, **options)


def sentence_pieces(kind, scheme, **options):
    "BPE or unigram over words that begin with a metaspace, any other byte as a token of its own."
    model, trainer = (models.BPE, trainers.BpeTrainer) if kind == "bpe" else (models.Unigram, trainers.UnigramTrainer)
    raw = Tokenizer(model())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.Metaspace(prepend_scheme=scheme),
        decoders.Metaspace(prepend_scheme=scheme),
    )
    letters = [chr(i) for i in range(32, 127)] + ["\n", "…"]
    more = dict(unk_token="<unk>") if kind == "unigram" else {}
    raw.train_from_iterator(
        CORPUS * 9,
        trainer(vocab_size=300, initial_alphabet=letters, special_tokens=["<unk>"], show_progress=False, **more),
    )
    return wrapped(raw, **options)


def llama_2(**options):
    "Spaces become metaspaces in the normaliser, one is put before the text, and unknown characters are bytes."
    fallback = [f"<0x{i:02X}>" for i in range(256)]
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = [chr(i) for i in range(33, 127)] + ["▁"]
    trainer = trainers.BpeTrainer(vocab_size=520, initial_alphabet=letters, special_tokens=["<unk>", *fallback])
    raw.train_from_iterator(CORPUS * 9, trainer)
    return wrapped(raw, **options)


def gemma_like(**options):
    "As Gemma: spaces become metaspaces, and none is put before the text."
    raw = llama_2().backend_tokenizer
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return wrapped(raw, **options)


def word_pieces(**options):
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)
    letters = [chr(i) for i in range(33, 127)]
    trainer = trainers.WordPieceTrainer(vocab_size=300, initial_alphabet=letters, special_tokens=["[UNK]"])
    raw.train_from_iterator(CORPUS * 9, trainer)
    names = dict(unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]")
    return wrapped(raw, **names | options)


def real(name):
    folder = os.environ.get("PREFLEXOR_REAL_MODELS")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"no {name}: set PREFLEXOR_REAL_MODELS to the folder of real models (it is {folder!r})")
    tokenizer = load_tokenizer(Path(folder) / name)
    if tokenizer.eos_token is None:  # a model of sentences: what closes a sentence ends a text
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    return tokenizer


TOKENIZERS = {
    "bytes": lambda: byte_level(merges=False, bos_token=None),
    "byte-level BPE": lambda: byte_level(bos_token=None),
    "byte-level BPE, BOS, no pad": lambda: byte_level(bos=True, pad=False),
    "byte-level BPE, BOS and EOS, pad is EOS": lambda: byte_level(bos=True, eos=True, pad_token="</s>"),
    "BPE with byte fallback, BOS": lambda: llama_2(bos=True),
    "BPE with byte fallback, BOS and EOS": lambda: llama_2(bos=True, eos=True),
    "BPE as Gemma's, BOS": lambda: gemma_like(bos=True),
    "BPE, metaspace before the first word": lambda: sentence_pieces("bpe", "first"),
    "unigram, EOS": lambda: sentence_pieces("unigram", "always", eos=True, bos_token=None),
    "unigram, BOS": lambda: sentence_pieces("unigram", "never", bos=True),
    "WordPiece, BOS and EOS": lambda: word_pieces(bos=True, eos=True),
    "nano": lambda: load_tokenizer(nano_path("reasoner")),
    "qwen2.5-coder-0.5b-instruct": lambda: real("qwen2.5-coder-0.5b-instruct"),
    "gemma-3-270m": lambda: real("gemma-3-270m"),
    "all-minilm-l6-v2": lambda: real("all-minilm-l6-v2"),
}
TEMPLATES = {p.stem: p.read_text() for p in sorted(Path(trl.__file__).parent.glob("chat_templates/*.jinja"))}
CONTROLS = sorted({word for text in TEMPLATES.values() for word in re.findall(r"<[|/]?\w+[|]?>", text)})
LOSSY = ("WordPiece, BOS and EOS", "all-minilm-l6-v2")  # a control word as plain text would not come back
WITH_CONTROLS = ("byte-level BPE, BOS, no pad", "unigram, BOS", *LOSSY)  # to the others they are text


@pytest.fixture(scope="module", params=TOKENIZERS)
def tok(request):
    tokenizer = TOKENIZERS[request.param]()
    if request.param in WITH_CONTROLS:
        tokenizer.add_special_tokens({"extra_special_tokens": CONTROLS})
    return tokenizer


@pytest.fixture(scope="module")
def model(tok):
    "A tiny model with random weights over the tokenizer's vocabulary."
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    more = dict(max_position_embeddings=8192, bos_token_id=None, eos_token_id=tok.eos_token_id)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tok), **sizes, **more)).eval()


class Scripted(Forward):
    "Reads as the model does, writes the ids that it is told, and remembers what it read."

    def __init__(self, model, script):
        super().__init__(model)
        self.script, self.read = script, []

    def __call__(self, ids, mask, positions, cache):
        logits, step = super().__call__(ids, mask, positions, cache), len(self.read)
        self.read.append(ids[0].tolist())
        logits[:, self.script[min(step, len(self.script) - 1)]] = 1e4
        return logits


def begins(tok):
    "Whether the tokenizer puts a beginning of sequence before a text."
    return tok.bos_token_id is not None and tok("a")["input_ids"][:1] == [tok.bos_token_id]


def check(tok, model, prompt, reply):
    "One prompt and one reply, all the way round."
    ((head, tail),) = encode(tok, [prompt], [reply])
    engine = LocalEngine(model, tok, weights="random")
    engine.forward = Scripted(model, tail)
    ((c,),) = engine.generate([prompt], max_new_tokens=len(tail) + 4)
    assert engine.forward.read[0] == head == encode_prompt(tok, prompt)
    assert (list(c.ids), c.finish_reason) == (tail, "stop")
    assert encode(tok, [prompt], [c.text]) == [(head, tail)]  # what was sampled is what is trained
    row = Completions([(head, tail)])[0]
    assert row["input_ids"].tolist() == head + tail and row["labels"].tolist() == [-100] * len(head) + tail
    (policy,) = prompt_rows(tok, [{"prompt": prompt}])
    (rollout,) = rollouts_of(policy, [c], tok)
    assert policy["prompt_ids"] + rollout.ids == head + tail
    (scored,) = score_texts(model, tok, [prompt], [c.text], max_length=10**6)
    with torch.no_grad():
        hidden = model.model(torch.tensor([head + tail])).last_hidden_state[0, len(head) - 1 : -1]
        logps = model.lm_head(hidden).log_softmax(-1).gather(1, torch.tensor(tail)[:, None])
    assert (scored["count"], scored["sum"]) == (len(tail), pytest.approx(logps.sum().item(), abs=1e-3))
    if begins(tok):
        assert (head + tail).count(tok.bos_token_id) == 1 and head[0] == tok.bos_token_id
    return head, tail


REPLIES = ["5", " 5", "Because of collagen.", "bone\n\nand mineral  tough", "<think>\n2 + 3\n</think>\n\n5"]


@pytest.mark.parametrize("prompt", ["2 + 3 =", "Why is bone tough? ", "Why?\n", "a", "bone tou"])
@pytest.mark.parametrize("reply", REPLIES)
def test_text(tok, model, prompt, reply):
    check(tok, model, prompt, reply)


QUESTION = {"role": "user", "content": "Why is bone tough?"}
CHATS = {
    "question": [QUESTION],
    "system": [{"role": "system", "content": "2 + 3"}, QUESTION],
    "turns": [QUESTION, {"role": "assistant", "content": "Because of mineral."}, QUESTION],
    "open turn": [QUESTION, {"role": "assistant", "content": "Because"}],
}


def lost(tok, chat):
    "Why a template cannot render these messages, as a part of the error that says so; empty where it can."
    begun = chat[-1]["role"] == "assistant"
    try:
        text = tok.apply_chat_template(chat[:-1] if begun else chat, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return "refuses these messages"
    return "" if all(m["content"] in text for m in (chat[:-1] if begun else chat)) else "leaves out"


@pytest.mark.parametrize("template", TEMPLATES)
def test_chat(tok, model, template):
    tok.chat_template = TEMPLATES[template]
    for chat in CHATS.values():
        if reason := lost(tok, chat):
            with pytest.raises(ValueError, match=reason):
                encode(tok, [chat], ["5"])
            continue
        for reply in ("5", " 5"):
            check(tok, model, chat, reply)
        text = render_prompt(tok, chat)
        assert encode_prompt(tok, text) == encode_prompt(tok, chat)  # a rendered template, given as text
        assert chat[-1]["role"] == "user" or text.endswith("Because")  # an open turn is open


def test_most_templates_are_for_text(tok):
    readable = 0
    for text in TEMPLATES.values():
        tok.chat_template = text
        readable += not lost(tok, CHATS["question"])
    assert readable >= 60


THOUGHT = {"role": "assistant", "content": "<think>\ncollagen\n</think>\n\nBecause of mineral."}


def test_earlier_thinking_is_kept_or_the_row_is_refused(tok):
    kept, refused = set(), set()
    for name, text in TEMPLATES.items():
        tok.chat_template = text
        if lost(tok, CHATS["turns"][:1]):
            continue
        try:
            head, tail = render(tok, [QUESTION, THOUGHT, QUESTION], "5")
            assert THOUGHT["content"] in head
            head, tail = render(tok, [QUESTION], [THOUGHT, QUESTION, {"role": "assistant", "content": "5"}])
            assert "collagen" in tail and "Because of mineral." in tail
            kept.add(name)
        except ValueError as e:
            assert "thinking of an earlier turn?" in str(e)
            refused.add(name)
    assert {"qwen2_5", "gemma3", "llama3_2", "phi3"} <= kept
    assert {"qwen3", "deepseek_r1_distill", "glm4moe"} <= refused
