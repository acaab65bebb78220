"""The single-24gb configs fit: their comments' sums, worked out again from the models' shapes, and what they rest on.

GB are 1e9 bytes. A card of 24 GB has 24 GiB = 25.8e9 bytes, less on those with error correction; CUDA's context
and the allocator's fragments want about two of them.
"""

import re
import weakref
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import TrainingArguments

from holdfast.losses import deferred
from holdfast.losses.deferred import CHUNK_BYTES
from holdfast.models import LoraSettings, add_lora
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer
from tests import architectures
from tests.architectures import ARCHITECTURES

FULL = sorted((Path(__file__).parents[2] / "configs").glob("*_full.yaml"))
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*_single-24gb.yaml"))
USABLE = 22.0
NF4 = 0.516  # bytes a weight: 4 bits, and 0.127 bits of scales that are quantised again (arXiv 2305.14314)
LOGITS = 4 * CHUNK_BYTES  # bytes, however many tokens there are; measured below
LAYER = 12  # float32 vectors of the MLP's width a token, while a layer is computed again; measured below


class Shape(NamedTuple):
    """A model as its published config.json says."""

    layers: int
    hidden: int
    vocabulary: int
    mlp: int
    queries: int  # output width of q_proj
    values: int  # output width of k_proj and v_proj
    tied: bool

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        return self.linear + self.embedding * (1 if self.tied else 2)

    @property
    def linear(self) -> int:
        attention = 2 * self.hidden * self.queries + 2 * self.hidden * self.values
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    def adapters(self, rank: int) -> int:
        return self.layers * rank * (2 * self.hidden + self.queries + self.values)


SHAPES = {
    "llama": Shape(32, 4096, 128_256, 14_336, 4096, 1024, tied=False),
    "gemma": Shape(42, 3584, 256_000, 14_336, 4096, 2048, tied=True),
    "qwen": Shape(28, 3584, 152_064, 18_944, 3584, 512, tied=False),
}


def shape_of(path: Path) -> Shape:
    return next(shape for name, shape in SHAPES.items() if f"_{name}" in path.name)


def memory(path: Path) -> list[float]:
    """GB of each line of the comment, in its order."""
    config, shape = yaml.safe_load(path.read_text(encoding="utf-8")), shape_of(path)
    rows, prompt, answer = (
        config[key] for key in ("per_device_batch_size", "max_prompt_tokens", "max_response_tokens")
    )
    method = path.name.partition("_")[0]
    if method == "sarft":  # `preset: official` anchors every position
        tokens, held = rows * (prompt + answer), 0
    else:  # a pair is one row: the prompt and both answers
        tokens, held = rows * (prompt + 2 * answer), rows * prompt
    return [
        part / 1e9
        for part in (
            shape.linear * NF4,
            shape.embedding * 4 * (1 if shape.tied else 2),
            shape.embedding * 2,
            shape.adapters(config["lora_rank"]) * 16,
            shape.layers * (tokens + held) * shape.hidden * 4,
            LAYER * tokens * shape.mlp * 4,
            LOGITS,
        )
    ]


def test_shapes_are_the_models():
    """8.03, 9.24 and 7.62 billion weights, as their model cards say."""
    sizes = {name: s.weights for name, s in SHAPES.items()}
    assert {name: round(size / 1e9, 2) for name, size in sizes.items()} == {
        "llama": 8.03,
        "gemma": 9.24,
        "qwen": 7.62,
    }


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_the_sum_in_the_comment_is_right_and_fits(path):
    parts = memory(path)
    shown = re.findall(r"^# +(\d+\.\d)  ", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == [f"{part:.1f}" for part in (*parts, sum(parts))]
    assert sum(parts) < USABLE


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_scoring_before_training_needs_less(path):
    """No gradients, no kept logits, and the embeddings still in bfloat16, but more rows at once, with their persona."""
    config, shape = yaml.safe_load(path.read_text(encoding="utf-8")), shape_of(path)
    rows = config.get("score_batch_size", 16) * (2 if path.name.startswith("mpo") else 1)
    tokens = rows * (config["max_prompt_tokens"] + config["max_response_tokens"])
    held = shape.linear * NF4 + shape.embedding * 2 * (1 if shape.tied else 2)
    assert (held + LOGITS + 4 * tokens * shape.mlp * 2) / 1e9 < sum(memory(path))


@pytest.mark.parametrize("path", FULL, ids=[path.stem for path in FULL])
def test_full_tuning_counts_the_float32_weights_that_are_trained(path):
    """On eight GPUs of 80 GB under ZeRO-2 they fit, an eighth each; on one they do not, which the comment says."""
    weights, text = shape_of(path).weights, path.read_text(encoding="utf-8")
    copies = 2 if path.name.startswith("sarft") else 1  # SaRFT's reference
    parts = [weights * 2] * copies + [weights * 2 / 8, weights * 12 / 8]
    shown = re.findall(r"^# +(\d+\.\d)  ", text, re.MULTILINE)
    assert shown == [f"{part / 1e9:.1f}" for part in (*parts, sum(parts))]
    assert sum(parts) < 0.7 * 80 * 2**30
    alone = weights * 16
    assert f"One GPU alone would need {alone / 1e9:.1f}:" in text
    assert alone > 80 * 2**30


def test_there_is_one_for_each_paper_and_model():
    assert len(CONFIGS) == 6


# -- what the arithmetic rests on: bytes that live at once while the real trainers take a step


class PeakBytes(TorchDispatchMode):
    """The most bytes of tensors made inside the block that were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = self.most = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[key] = storage.nbytes()
                self.alive += self.sizes[key]
                weakref.finalize(storage, self._freed, key)
        self.most = max(self.most, self.alive)
        return result

    def _freed(self, key: int) -> None:
        self.alive -= self.sizes.pop(key)


def peak_of_a_step(
    method: str, name: str, prompt: int, answer: int, directory: Path, *, vocabulary: int, bf16: bool
) -> int:
    """Bytes at the peak of one optimiser step, with so many tokens in the row, or in each answer of the pair."""
    model = ARCHITECTURES[name].build(vocabulary)
    policy = add_lora(model.bfloat16() if bf16 else model, LoraSettings(4, 8), quantised=True)
    arguments = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=1,
        max_steps=1,
        bf16=bf16,
        activation_checkpointing=True,
        remove_unused_columns=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    ids = torch.randint(5, vocabulary, (prompt + answer,)).tolist()
    row = {"input_ids": ids, "trained": [False] * prompt + [True] * answer, "harmful": True}
    given = {"model": policy, "args": arguments, "pad_token_id": 0}
    if method == "sarft":
        official = SaRFTSettings(beta=0.5, ce_normaliser="sequence", kl_span="sequence")
        trainer = SaRFTTrainer(settings=official, train_dataset=[row], **given)
    else:
        pair = {"chosen": row, "rejected": row, "reference_dominant_gaps": 1.0}
        trainer = MPOTrainer(settings=MPOSettings(beta=1.0), train_dataset=[pair], anchors=None, **given)
    with PeakBytes() as peak:
        trainer.train()
    return peak.most


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize(("method", "prompt", "answer"), [("sarft", 64, 16), ("mpo", 32, 32)])
def test_logits_take_so_much_and_no_more(method, prompt, answer, name, tmp_path, monkeypatch):
    """Peaks differ by at most four times a chunk, whatever the tokens; the vocabulary is wide, the model is not."""
    token = 4 * 8_000

    def peak(chunk, times, vocabulary=8_000):
        monkeypatch.setattr(deferred, "CHUNK_BYTES", chunk * token)
        return peak_of_a_step(
            method, name, times * prompt, times * answer, tmp_path, vocabulary=vocabulary, bf16=True
        )

    small, large, longer = peak(8, 1), peak(24, 1), peak(8, 2)
    assert 1.5 * 16 * token < large - small <= 4 * 16 * token
    of_the_layers = peak(8, 2, vocabulary=64) - peak(8, 1, vocabulary=64)
    assert longer - small < of_the_layers + 0.2 * token * (prompt + answer)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_bytes_a_token_in_a_layer(name, tmp_path, monkeypatch):
    """One layer of the models' proportions: hidden to MLP 2 to 7, and Gemma's attention scores as at 1,024 tokens."""
    attention = "eager" if name == "gemma2" else "sdpa"
    layer = {"hidden_size": 64, "intermediate_size": 224, "num_hidden_layers": 1, "attn_implementation": attention}
    for key, value in layer.items():
        monkeypatch.setitem(architectures._SMALL, key, value)
    few, many = 4, 64
    small, large = (
        peak_of_a_step("mpo", name, tokens - 2, 2, tmp_path, vocabulary=64, bf16=False) for tokens in (few, many)
    )
    measured = (large - small) / ((many - few) * layer["intermediate_size"] * 4)
    assert 0.5 * LAYER < measured < LAYER
