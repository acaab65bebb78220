"""No network, one thread, tiny models of the real architectures, and the path of the real data."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests.architectures import ARCHITECTURES, Architecture

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

torch.set_num_threads(1)  # reproducible to the last digit, and tests may run side by side


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "holdfast-cache"))


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request) -> Architecture:
    """Each of Llama-3, Gemma-2 and Qwen2.5, tiny."""
    return ARCHITECTURES[request.param]


@pytest.fixture
def llama() -> Architecture:
    return ARCHITECTURES["llama3"]


@pytest.fixture
def saved_model(architecture, tmp_path) -> Path:
    """A tiny model with its tokenizer, as a directory on disk."""
    return save(architecture, tmp_path / "model")


def save(architecture: Architecture, path: Path) -> Path:
    architecture.model().save_pretrained(path)
    architecture.tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that want it skip where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data are not here: {REAL_DATA}")
    return REAL_DATA
