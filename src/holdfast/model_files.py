"""The files of a model directory, checked before a library reads them, and the libraries' errors as one line."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import safe_open

from holdfast.errors import HoldfastError
from holdfast.files import os_errors, read_json

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_JSON_OBJECTS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    ADAPTER_CONFIG,
    INDEX,
)
_READ_BY_LIBRARIES = {".json", ".safetensors", ".jinja", ".model", ".txt"}
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
# What checkpoints hold besides the weights of the language model: buffers that are computed, the draft heads of
# multi-token prediction, and the parts of multimodal models that read images and sound.
_HARMLESS = re.compile(
    r"inv_freq$|rotary_emb\.|masked_bias$|attn\.bias$|attention\.bias$|position_ids$|(?:^|\.)mtp\b|(?:^|\.)value_head\."
    r"|(?:^|\.)(?:vision|visual|audio)|multi_modal_projector|mm_projector"
)


def local_directory(name: str) -> Path | None:
    """Return the directory `name`, None where there is none of that name. Raises HoldfastError for a file."""
    if not name.strip():
        raise HoldfastError("no model is named; give a model directory or a hub id")
    path = Path(name)
    with os_errors(name):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(mode):
            raise HoldfastError(f"{name}: is a file; give a model directory or a hub id")
        next(path.iterdir(), None)  # may be forbidden
    return path


def find_file(name: str, filename: str) -> Path | None:
    """Return a file of a model directory or hub repository, None where it has none or cannot be reached."""
    directory = local_directory(name)
    if directory is None:
        return _hub_file(name, filename)
    path = directory / filename
    return path if os.path.lexists(path) else None


@cache
def _hub_file(name: str, filename: str) -> Path | None:
    try:
        return Path(hf_hub_download(name, filename))
    except (OSError, EntryNotFoundError, HFValidationError):  # the loader says what is wrong with the repository
        return None


def check_files(name: str, what: str = "model") -> None:
    """Raise HoldfastError where a file of a model directory cannot be read or is not what its name says."""
    directory = local_directory(name)
    if directory is None:
        return
    with os_errors(directory):
        for path in sorted(directory.iterdir()):
            if path.suffix in _READ_BY_LIBRARIES:
                _check_regular(path)
    for filename in _JSON_OBJECTS:
        path = directory / filename
        if path.exists():
            read_object(path)
    needed = ["config.json", ADAPTER_CONFIG, *(["tokenizer_config.json"] if what == "tokenizer" else [])]
    if not any((directory / file).exists() for file in needed):
        raise HoldfastError(f"{directory}: cannot load the {what}; no config.json is in it: check the path")


def _check_regular(path: Path) -> None:
    with os_errors(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return  # the libraries miss the file and say so
        if not stat.S_ISREG(mode):
            raise HoldfastError(f"{path}: is no regular file (a pipe or a device); fetch the model again")
        with path.open("rb"):
            pass


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model. Raises HoldfastError where it holds anything else."""
    content = read_json(path, "file of the model")
    if not isinstance(content, dict):
        raise HoldfastError(f"{path}: holds a {type(content).__name__}, not an object; fetch the file again")
    return content


def check_weights(name: str) -> None:
    """Raise HoldfastError where a model directory has no weights in safetensors, or fewer layers than its config."""
    directory = local_directory(name)
    if directory is None:
        return
    files = _weight_files(directory)
    with loading(name, "model"):
        layers = [int(found[1]) + 1 for key in weight_names(files) if (found := _LAYER.search(key))]
    configured = _configured_layers(read_object(directory / "config.json"))
    if layers and isinstance(configured, int) and configured > max(layers):
        raise HoldfastError(
            f"{name}: config.json says {configured} layers, but the weights have {max(layers)}; they do not belong "
            "together: fetch the model again"
        )


def _weight_files(directory: Path) -> list[Path]:
    """The files of the weights, as the loader finds them."""
    if (directory / WEIGHTS).exists():
        return [directory / WEIGHTS]
    if (directory / INDEX).exists():
        return _shards(directory)
    if list(directory.glob("pytorch_model*.bin*")):
        raise HoldfastError(
            f"{directory}: its weights are pickles (.bin), which can run code and are not read; "
            "convert them to safetensors"
        )
    raise HoldfastError(
        f"{directory}: cannot load the model; neither {WEIGHTS} nor {INDEX} is in it: fetch it again as safetensors"
    )


def _shards(directory: Path) -> list[Path]:
    index = directory / INDEX
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise HoldfastError(f"{index}: field 'weight_map' does not map weights to files; fetch the file again")
    files = [directory / name for name in sorted(set(shards.values()))]
    for path in files:
        if path.parent != directory or path.suffix != ".safetensors":
            raise HoldfastError(
                f"{index}: {path.relative_to(directory)} is no safetensors file of this directory; "
                "fetch the model again"
            )
        _check_regular(path)
    return files


def weight_names(files: list[Path]) -> list[str]:
    """Return the names of the tensors in safetensors files."""
    names: list[str] = []
    for path in files:
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def _configured_layers(config: dict[str, Any]) -> Any:
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    for field in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        for source in (config, inner):
            if field in source:
                return source[field]
    return None


def check_complete(name: str, what: str, info: dict[str, Any]) -> None:
    """Raise HoldfastError where `from_pretrained` found weights missing or left over.

    `info` is what it returns with `output_loading_info`.
    """
    missing = sorted(info["missing_keys"])
    left_over = sorted(key for key in info["unexpected_keys"] if not _HARMLESS.search(key))
    mismatched = sorted(str(key) for key in info.get("mismatched_keys") or ())
    for problem, keys in (
        ("lacks", missing),
        ("has another shape for", mismatched),
        ("has more than the model that config.json describes:", left_over),
    ):
        if keys:
            raise HoldfastError(
                f"{name}: the {what} {problem} {listed(keys)}; nothing was measured: fetch it again, or check that "
                "config.json belongs to the weights"
            )


def listed(keys: list[str]) -> str:
    """`18 weights (a, b, c, ...)`."""
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    return f"{len(keys):,} weight{'' if len(keys) == 1 else 's'} ({shown})"


@contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a model's files into one line that says what to do.

    Only calls of the libraries belong in the block: a malformed file makes them raise any exception.
    """
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HoldfastError(
            f"{name}: cannot load the {what}; {_advice(name, what, error)} ({reason[:200]})"
        ) from error


def _advice(name: str, what: str, error: BaseException) -> str:
    causes = list(_chain(error))
    if any(isinstance(cause, (MemoryError, torch.OutOfMemoryError)) for cause in causes):
        return "it does not fit the memory: choose a smaller model, or bfloat16 or 4-bit weights"
    if local_directory(name) is not None:
        return f"check that the directory holds a complete {_kind(what)} in safetensors"
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return f"access is restricted: accept the terms at https://huggingface.co/{name}, then run: hf auth login"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return (
            "no such directory, and no such model on the hub that you may see: check the name, or log in with: "
            "hf auth login"
        )
    if any(isinstance(cause, (OfflineModeIsEnabled, LocalEntryNotFoundError)) for cause in causes):
        return "no such directory, and the hub cannot be reached; give a model directory, or connect to the hub"
    return "no such directory; give a model directory, or a hub id while the hub can be reached"


def _kind(what: str) -> str:
    return "text classifier" if what == "classifier" else "model"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
