"""How the models under test and the judges' models are named, and what makes two of them the same."""

from functools import cache
from pathlib import Path

import xxhash

from holdfast.errors import HoldfastError
from holdfast.evals.journal import digest_of
from holdfast.files import os_errors
from holdfast.models import adapter_base

# The providers of inspect_ai, https://inspect.aisi.org.uk/providers.html; a test holds this against its registry.
PROVIDERS = frozenset(
    {
        "anthropic", "azureai", "bedrock", "cloudflare", "deepseek", "fireworks", "google", "grok", "groq",
        "hf-inference-providers", "litellm-proxy", "llama-cpp-python", "meta", "mistral", "mockllm", "moonshot",
        "nnterp", "none", "ollama", "openai", "openai-api", "openai-api-completions", "openrouter", "perplexity",
        "sagemaker", "sambanova", "sglang", "together", "transformer_lens", "vllm", "vllm-completions",
    }
)  # fmt: skip

# What is read of a model directory.
_READ = {".json", ".safetensors", ".jinja", ".model", ".py"}
_READ_TOO = {"vocab.txt", "merges.txt"}


def in_process_name(model: str) -> str | None:
    """The directory or hub id of a model for this process, None where `model` is a provider's.

    A directory and `hf/OWNER/NAME` are always in this process; `PROVIDER/MODEL` is that provider's, as in inspect_ai,
    so the hub's google/gemma-2-9b-it is written hf/google/gemma-2-9b-it; any other OWNER/NAME is the hub's.
    Raises HoldfastError for a path at which there is no directory.
    """
    if model.startswith("hf/"):
        return model.removeprefix("hf/")
    if model and Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    owner, slash, name = model.partition("/")
    if not slash or not name or model.startswith((".", "/", "~")):
        raise HoldfastError(
            f"{model}: no such model directory; give one, a hub id (OWNER/NAME), or a provider's model (vllm/...)"
        )
    return None if owner in PROVIDERS else model


def identity_of(name: str) -> str:
    """Changes when a file's content in a model directory, or of an adapter's base, changes; a hub id is its own."""
    base = adapter_base(name)
    return digest_of(_files(name), None if base is None else _files(base))


def _files(name: str) -> list[object]:
    directory = Path(name)
    if not directory.is_dir():
        return [name]
    found = [
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and (path.suffix in _READ or path.name in _READ_TOO)
    ]
    return [(path.name, _content(path, path.stat().st_size, path.stat().st_ctime_ns)) for path in found]


@cache
def _content(path: Path, size: int, changed: int) -> str:
    """A hash of all bytes; size and ctime, which no copy sets, only say whether this process has hashed it already."""
    digest = xxhash.xxh3_128()
    with os_errors(path), path.open("rb") as file:
        while part := file.read(2**24):
            digest.update(part)
    return str(digest.hexdigest())
