"""The configs of the grid's cells: the user's base config, and what a method changes in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from holdfast.config import Config, load_config
from holdfast.errors import HoldfastError
from holdfast.files import read_text
from holdfast.methods.registry import TableMethod
from holdfast.parsing import parse_yaml
from holdfast.recipes.configs import MPOConfig, PairsConfig, PreferenceConfig, SaRFTConfig
from holdfast.recipes.table.cells import Training, digests

INPUTS = ("safety_data", "unsafe_data", "unaligned_model")
"""Fields that only some methods read: the others' configs go without."""
_READ = ("eval_data", "retention_data", *INPUTS, "chat_template", "deepspeed")
_COMMANDS: dict[type[Config], str] = {
    SaRFTConfig: "train-sarft",
    MPOConfig: "train-mpo",
    PreferenceConfig: "train-preference",
}


def base_values(kind: type[Config], path: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the base config sets, with what the command line gave in their place.

    Raises HoldfastError naming file and line for a field that is wrong. One that is missing may come from elsewhere.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if path is None:
        return given
    overrides = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    absent = (
        {name for name, field in kind.model_fields.items() if field.is_required()} - _keys(path) - {*overrides}
    )
    config = load_config(kind, path, dict.fromkeys(absent, "elsewhere") | overrides)
    values = config.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in values.items() if name not in absent}


def training(
    kind: type[Config], values: Mapping[str, Any], what: str, files: Mapping[str, str] | None = None
) -> Training:
    """The training of these values, checked; `files` are digests of what its fields do not name.

    Raises HoldfastError naming `what` (a method) and the field.
    """
    try:
        config = kind(**{**values, "output_dir": "model"})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = f"field '{problem['loc'][0]}': " if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        raise HoldfastError(f"{what}: {field}{message}; mend it in --config, or leave the method out") from None
    resolved = config.model_dump(mode="json")
    read = digests(resolved[name] for name in _READ if resolved.get(name))
    own = config.model_dump(mode="json", exclude_unset=True)
    own.pop("output_dir")
    return Training(_COMMANDS[kind], own, resolved, {**read, **(files or {})})


def language_kind(method: TableMethod) -> type[MPOConfig] | type[PreferenceConfig]:
    """Which command trains a method of MPO's table: each of its baselines has a `loss`."""
    return PreferenceConfig if "loss" in (method.settings or {}) else MPOConfig


def shared_values(kind: type[Config], values: Mapping[str, Any]) -> dict[str, Any]:
    """MPO's base values without those that are MPO's alone, for the baselines."""
    if kind is MPOConfig:
        return dict(values)
    return {name: value for name, value in values.items() if name in PairsConfig.model_fields}


def require_inputs(methods: Mapping[str, TableMethod], inputs: Mapping[str, Any]) -> None:
    """HoldfastError where a method needs what was not given, with the methods to leave out."""
    missing = {
        name: [need for need in INPUTS if need in method.needs and not inputs.get(need)]
        for name, method in methods.items()
    }
    missing = {name: needs for name, needs in missing.items() if needs}
    if not missing:
        return
    wanted = dict.fromkeys(f"--{need.replace('_', '-')}" for needs in missing.values() for need in needs)
    others = [name for name in methods if name not in missing]
    raise HoldfastError(
        f"{', '.join(missing)}: need {' and '.join(wanted)}; give {'it' if len(wanted) == 1 else 'them'}, or leave "
        f"these out: --methods {','.join(others) or '...'}"
    )


def _keys(path: Path) -> set[str]:
    """The keys of a YAML file; none where it cannot be read, which `load_config` tells better."""
    try:
        content = parse_yaml(read_text(path))
    except (HoldfastError, ValueError):
        return set()
    return set(map(str, content)) if isinstance(content, dict) else set()
