"Shared fixtures: offline, one or two threads, the packaged models and the optional real data."

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    "Folder of real test data, or a skip that says why."
    folder = (ROOT / os.environ.get("PREFLEXOR_SHARED_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}: set PREFLEXOR_SHARED_DATA to its folder to run this test")
    return folder


@pytest.fixture(scope="session")
def nano():
    "Path of the packaged nano reasoner."
    from preflexor_lab.models.loading import nano_path

    return nano_path("reasoner")
