"What a notebook cell cannot hold: a 50 MB line, a really unreadable file, the textbook."

import os
import re
import subprocess
import sys

import pytest

from preflexor_lab.corpus.cleaning import clean_text
from preflexor_lab.corpus.index import build_index
from preflexor_lab.corpus.reading import load_documents

HUGE = """
import resource, sys, time
from preflexor_lab.corpus.reading import load_documents
from preflexor_lab.corpus.splitting import make_nodes
start = time.process_time()
documents, problems = load_documents(sys.argv[1])
nodes = make_nodes(documents)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), len(nodes), problems[0].reason)
"""


def test_a_line_of_50_mb(tmp_path):
    "Seconds and bounded memory, also where there is no space; and the file is named."
    words = "bone is hard and silk is tough "
    (tmp_path / "line.txt").write_text("x" * 10 * 2**20 + (words * (40 * 2**20 // len(words) + 1))[: 40 * 2**20])
    (tmp_path / "note.txt").write_text("Silk is strong. Bone is tough.")
    done = subprocess.run([sys.executable, "-c", HUGE, str(tmp_path)], capture_output=True, text=True, check=True)
    seconds, megabytes, nodes, reason = done.stdout.split(" ", 3)
    assert float(seconds) < 30 and float(megabytes) < 1500, done.stdout
    assert int(nodes) > 50_000 and "a line of 52,428,800 characters" in reason


def test_an_unreadable_file(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tmp_path / "good.txt").write_text("Bone is tough.")
    (tmp_path / "mine.txt").write_text("secret")
    (tmp_path / "mine.txt").chmod(0)
    documents, problems = load_documents(tmp_path)
    assert [d.source for d in documents] == ["good.txt"] and "cannot be read" in problems[0].reason


def test_a_crash_while_building_leaves_no_half_index(tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("Bone is tough.")
    build_index(tmp_path / "corpus", tmp_path / "index")
    (tmp_path / "corpus" / "b.txt").write_text("Silk is strong.")
    import preflexor_lab.text.files as files

    with monkeypatch.context() as m:
        m.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "corpus", tmp_path / "index")
    index = build_index(tmp_path / "corpus", tmp_path / "index")
    assert index.retrieve("silk")[0].source == "b.txt"


def test_the_textbook_is_clean(shared_data):
    "No tag, attribute, entity or link is left in a hundred sections, and formulas can be read."
    texts = {
        p.name: clean_text(p.read_text(encoding="utf-8"), "md")
        for p in sorted((shared_data / "chemistry").glob("*.md"))
    }
    everything = "\n".join(texts.values())
    for noise in (
        r"</?(?:math|m[a-z]+|sub|sup|div|span|td|tr|em)\b",
        r"\{:",
        r"data-type",
        r"xmlns",
        r"\[link\]",
        r"&(?:#x?\w+|nbsp|lt|gt|amp);",
        r"\\\[",
        r"\]\(\.\./",
    ):
        assert not re.search(noise, everything), f"{noise}: {re.search('.{60}' + noise + '.{60}', everything)}"
    assert "HA(aq) + H2O(l) ⇌ H3O+(aq) + A-(aq)" in texts["m51118.md"]
    assert "SO4^2-" in everything and re.search(r"1\.8 × 10\^-5", everything) and "K_a = [H3O+][A-]/[HA]" in everything
    assert "Figure: A precipitate of PbI2 forms when solutions containing Pb2+ and I- are mixed." in texts["m51022.md"]


def test_the_textbook_is_found(shared_data, tmp_path):
    index = build_index(shared_data / "chemistry", tmp_path / "index")
    assert len(index.sources()) == len(list((shared_data / "chemistry").iterdir())) and len(index) > 2000
    assert index.retrieve("relative strength of acids ionization constant", 1)[0].source == "m51118.md"
    again = build_index(shared_data / "chemistry", tmp_path / "index")
    assert (
        again.reused
        and again.nodes == index.nodes
        and again.retrieve("precipitation", 5) == index.retrieve("precipitation", 5)
    )
    train, held = index.split(0.2, seed=0)
    assert not set(train.sources()) & set(held.sources()) and len(held.sources()) == round(0.2 * len(index.sources()))
