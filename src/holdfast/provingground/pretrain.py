"""The aligned model of a world: a tiny Llama trained from scratch, made once and reused while nothing changes."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.files import check_new_directory, new_directory, write_json
from holdfast.provingground.muon import Muon
from holdfast.provingground.tokenizer import END_OF_TEXT, END_OF_TURN, encode_conversation

Progress = Callable[[int, int], None]  # (done, in all)

HERE = Path(__file__).parent
SOURCES = (HERE / "tokenizer.py", HERE / "pretrain.py", HERE / "muon.py")  # what every base model depends on
CHUNK = 1024  # conversations that are sorted by length together, so that a batch has next to no padding
MANIFEST = "proving_ground.json"


@dataclass(frozen=True)
class World:
    """What a base model is trained on. Its functions are at module level, so that workers can be sent a world."""

    name: str
    build_tokenizer: Callable[[], PreTrainedTokenizerFast]
    draw_conversation: Callable[[random.Random], Sequence[Message]]
    sources: tuple[Path, ...]  # the files that the texts come from


@dataclass(frozen=True)
class PretrainingSettings:
    """How a base model is made; everything but the world itself."""

    steps: int = 1700
    tokens_per_step: int = 800
    matrix_learning_rate: float = 0.02  # Muon, for the hidden matrices
    learning_rate: float = 3e-3  # AdamW, for embeddings and norms
    warmup_steps: int = 100
    prompt_weight: float = 0.1  # of a prompt token's loss; at 1 the model does not learn to copy in time
    hidden_size: int = 64
    layers: int = 4
    heads: int = 4
    # transformers' 0.02 is meant for wide models: at this width copying then forms several times later.
    initializer_range: float = 0.1


def build_model(settings: PretrainingSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model; its weights depend on torch's seed."""
    ends = tokenizer.convert_tokens_to_ids([END_OF_TURN, END_OF_TEXT])
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            intermediate_size=2 * settings.hidden_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=256,
            initializer_range=settings.initializer_range,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=ends,
        )
    )


class Batch(NamedTuple):
    """Conversations of like length; B rows of T tokens."""

    input_ids: Tensor  # (B, T)
    weights: Tensor  # (B, T), of each token's loss: 1 in answers, prompt_weight before them, 0 on padding


def draw_batches(world: World, settings: PretrainingSettings, seed: int) -> Iterator[Batch]:
    """Exactly `settings.steps` batches; the same seed gives the same batches."""
    rng = random.Random(f"pretraining {seed}")
    index = world.build_tokenizer().get_vocab()
    left = settings.steps
    while left > 0:
        drawn = (world.draw_conversation(rng) for _ in range(CHUNK))
        chunk = sorted((encode_conversation(messages, index) for messages in drawn), key=lambda row: len(row[0]))
        grouped = _grouped(chunk, settings.tokens_per_step)
        rng.shuffle(grouped)
        for rows in grouped[:left]:
            yield _padded(rows, settings.prompt_weight)
        left -= len(grouped)


EncodedConversation = tuple[list[int], list[bool]]


def _grouped(chunk: list[EncodedConversation], tokens: int) -> list[list[EncodedConversation]]:
    """Cut a chunk sorted by length into batches of at most `tokens` tokens, padding included."""
    groups: list[list[EncodedConversation]] = [[]]
    for row in chunk:
        if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups


def _padded(rows: list[EncodedConversation], prompt_weight: float) -> Batch:
    shape = (len(rows), max(len(tokens) for tokens, _ in rows))
    input_ids, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)  # 0 is the padding token
    for number, (tokens, answered) in enumerate(rows):
        input_ids[number, : len(tokens)] = torch.tensor(tokens)
        weights[number, : len(tokens)] = torch.tensor(answered).float().clamp(min=prompt_weight)
    return Batch(input_ids, weights)


def pretrain(
    world: World, settings: PretrainingSettings, seed: int, progress: Progress | None = None
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a base model; `progress` is called after every step."""
    tokenizer = world.build_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(settings, tokenizer).train()
    hidden = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in hidden)]
    muon = Muon(hidden)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    for step, batch in enumerate(draw_batches(world, settings, seed), start=1):
        loss = language_model_loss(model, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = schedule(settings, step)
        adam.param_groups[0]["lr"] = settings.learning_rate * share
        adam.step()
        muon.step(settings.matrix_learning_rate * share)
        if progress:
            progress(step, settings.steps)
    if not math.isfinite(loss.item()):
        raise HoldfastError(f"pretraining with seed {seed} diverged; lower learning_rate {settings.learning_rate}")
    return model.eval(), tokenizer


def schedule(settings: PretrainingSettings, step: int) -> float:
    """The share of the learning rates: linear warm-up, then a cosine to 2 %; `step` counts from 1."""
    falling = 0.51 + 0.49 * math.cos(math.pi * (step - 1) / settings.steps)
    return min(1.0, step / settings.warmup_steps) * falling


def language_model_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """The weighted mean over a batch's tokens; right padding needs no mask in a causal model."""
    hidden = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state[:, :-1]
    weights = batch.weights[:, 1:]
    kept = weights > 0
    losses = F.cross_entropy(model.lm_head(hidden[kept]), batch.input_ids[:, 1:][kept], reduction="none")
    return (losses * weights[kept]).sum() / weights[kept].sum()


def source_digest(files: Iterable[Path]) -> str:
    """SHA-256 over source files: a world is what its code draws."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def base_manifest(world: World, settings: PretrainingSettings, seed: int) -> dict[str, object]:
    """Everything a base model depends on."""
    return {
        "world": world.name,
        "seed": seed,
        "settings": asdict(settings),
        "sources": source_digest((*SOURCES, *world.sources)),
        "torch": torch.__version__,
    }


def manifest_fingerprint(manifest: Mapping[str, object]) -> str:
    """A short SHA-256 of a manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:20]


def aligned_model(
    directory: Path, world: World, settings: PretrainingSettings, seed: int, progress: Progress | None = None
) -> Path:
    """The directory of a base model, trained if it is not there yet.

    It is written beside its place and moved there whole: a run that is killed leaves no half-made model.
    """
    manifest = base_manifest(world, settings, seed)
    path = directory / f"{world.name}_seed_{seed}_{manifest_fingerprint(manifest)}"
    if (path / MANIFEST).is_file():
        return path
    check_new_directory(path)
    model, tokenizer = pretrain(world, settings, seed, progress)
    if (path / MANIFEST).is_file():  # another process was quicker
        return path
    with new_directory(path) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_json(temporary / MANIFEST, manifest)
    return path
