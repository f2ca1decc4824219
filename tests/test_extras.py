"The extras `embed`, `vectors` and `track`, each used by a call of the library. They are large; `make env` has none."

import os

import pytest

# Set where the packages must be there: a missing one is then an error, and no skip
PREFLEXOR_EXTRAS = os.environ.get("PREFLEXOR_EXTRAS")


def need(extra, *modules):
    "Skips without the packages of an extra, and says which one to install."
    if not PREFLEXOR_EXTRAS:
        for module in modules:
            pytest.importorskip(module, reason=f"needs pip install 'preflexor_lab[{extra}]'", exc_type=ImportError)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, text in dict(bone="Bone is tough.", silk="Silk is strong.", glass="Glass is brittle.").items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def letters():
    "An embedding that counts letters: the nearest passage is known without a model."
    from llama_index.core.embeddings import BaseEmbedding

    class Letters(BaseEmbedding):
        def _get_text_embedding(self, text):
            counts = [float(text.lower().count(c)) for c in "abcdefghijklmnopqrstuvwxyz"]
            norm = sum(c * c for c in counts) ** 0.5 or 1.0
            return [c / norm for c in counts]

        def _get_query_embedding(self, query):
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query):
            return self._get_text_embedding(query)

    return Letters(model_name="letters")


def test_embed_reads_a_model_from_disk(corpus, nano):
    "A passage is nearest to itself, by a Hugging Face model that is on this disk."
    need("embed", "llama_index.embeddings.huggingface")
    from preflexor_lab.corpus.index import build_index

    index = build_index(corpus, embed=f"huggingface:{nano}")
    for node in index.nodes:
        best = index.retrieve(node.text, 3)
        assert best[0].source == node.source and best[0].score >= best[1].score


@pytest.mark.parametrize("store, module", [("faiss", "faiss"), ("lancedb", "lancedb"), ("qdrant", "qdrant_client")])
def test_vectors_are_kept_and_read_again(corpus, tmp_path, store, module):
    "Each store by name: the same answers when it is made, when it is read again, and from the store in memory."
    need("vectors", module, f"llama_index.vector_stores.{store}")
    from preflexor_lab.corpus.index import build_index

    expected = [n.source for n in build_index(corpus, embed=letters()).retrieve("Silk is strong", 3)]
    assert expected[0] == "silk.txt"
    made = build_index(corpus, tmp_path / "index", embed=letters(), vector_store=store)
    assert not made.reused and [n.source for n in made.retrieve("Silk is strong", 3)] == expected
    made._search.close()  # Qdrant locks its folder
    again = build_index(corpus, tmp_path / "index", embed=letters(), vector_store=store)
    assert again.reused and [n.source for n in again.retrieve("Silk is strong", 3)] == expected


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb", "mlflow"])
def test_track_writes_what_a_trainer_logs(tmp_path, monkeypatch, nano, tracker):
    "Two steps of our trainer, reported to a tracker that keeps its files on this disk."
    kept = tmp_path / "kept"
    for name, value in {
        "TENSORBOARD_LOGGING_DIR": kept,
        "TRACKIO_DIR": kept,
        "WANDB_DIR": kept,
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{kept}/mlflow.db",
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    kept.mkdir()
    need("track", tracker)  # trackio reads the environment when it is imported
    from preflexor_lab.models.loading import load_model, load_tokenizer
    from preflexor_lab.training.sft import SFTConfig, SFTTrainer

    args = SFTConfig(
        output_dir=str(tmp_path / "out"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        max_steps=2,
        logging_steps=1,
        per_device_train_batch_size=1,
        report_to=tracker,
    )
    rows = [{"prompt": "what is bone ?", "completion": "hard"}] * 4
    SFTTrainer(load_model(nano), args, rows, processing_class=load_tokenizer(nano)).train()
    assert [p for p in kept.rglob("*") if p.is_file() and p.stat().st_size], f"{tracker} kept nothing"
