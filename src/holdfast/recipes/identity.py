"""What a training run reads, as fingerprints: a run is continued only where all of them are the same."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from transformers import TrainingArguments

from holdfast.data import Role, RoleRows
from holdfast.evals.journal import digest_of
from holdfast.files import os_errors, read_text
from holdfast.model_files import ADAPTER_CONFIG, check_files, find_file, local_directory
from holdfast.models import adapter_base
from holdfast.recipes.configs import TrainingConfig

# Files of a model directory that say what the model is; a README or a log may change.
_MODEL_SUFFIXES = {".json", ".safetensors", ".jinja", ".model", ".py"}
_MODEL_NAMES = {"vocab.txt", "merges.txt"}


def common_inputs(config: TrainingConfig, arguments: TrainingArguments) -> dict[str, str]:
    """Return the fingerprints of what every training recipe reads besides its data."""
    inputs = {"model": model_identity(config.model), "processes": str(arguments.world_size)}
    if config.chat_template is not None:
        inputs["chat_template"] = digest_of(read_text(config.chat_template, "chat template file"))
    if isinstance(arguments.deepspeed, str):
        inputs["deepspeed"] = digest_of(read_text(Path(arguments.deepspeed), "DeepSpeed config"))
    return inputs


def rows_identity(rows: RoleRows) -> str:
    """Return the fingerprint of rows with their flags and roles; the place of the file does not count."""
    return digest_of(rows.fingerprint(), [[row.role, row.harmful] for row in rows])


def role_identity(role: Role) -> str:
    """Return the fingerprint of a role's texts."""
    return digest_of(asdict(role))


def model_identity(name: str) -> str:
    """Return the fingerprint of a model's files, its base's included; of a hub id the revision that is loaded."""
    own = _files(name)
    base = adapter_base(name)
    return own if base is None else digest_of(own, _files(base))


def _files(name: str) -> str:
    directory = local_directory(name)
    if directory is None:
        return digest_of(name, _revision(name))
    check_files(name)
    digest = hashlib.sha256()
    with os_errors(directory):
        for path in sorted(directory.iterdir()):
            if path.is_file() and (path.suffix in _MODEL_SUFFIXES or path.name in _MODEL_NAMES):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.name} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _revision(name: str) -> str | None:
    """The commit of a hub repository in the cache; None where it cannot be reached, which the loader explains."""
    config = find_file(name, ADAPTER_CONFIG) or find_file(name, "config.json")
    return None if config is None else config.parent.name
