"""Reading checked settings from YAML and the command line.

A config class is a pydantic model; its field descriptions are the documentation (`holdfast train-sarft --help`
and docs/configuration.md are made from them). Unknown keys fail; errors name the file, the line and the field.
"""

from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from holdfast.errors import HoldfastError
from holdfast.files import read_text
from holdfast.parsing import YAMLError, parse_yaml, parse_yaml_lines, shortened


class Config(BaseModel):
    """Base of all configs: immutable, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(kind: type[AnyConfig], path: Path, overrides: dict[str, str] | None = None) -> AnyConfig:
    """Read `path` into a config of `kind`; `overrides` (field -> text of the command line) win.

    Raises HoldfastError as `file:line: field 'name': what is wrong (value); what to do`.
    """
    values, lines = _read_yaml(path)
    for name, text in (overrides or {}).items():
        values[name] = _from_text(name, kind.model_fields[name], text)
        lines.pop(name, None)
    try:
        return kind(**values)
    except ValidationError as error:
        raise HoldfastError(_first_problem(kind, error, path, lines)) from None


def option_name(field: str) -> str:
    """The command line's spelling of a field."""
    return "--" + field.replace("_", "-")


def allowed_values(field: FieldInfo) -> str:
    """`A|B` for a choice, else the type's name, for help texts and tables."""
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        return "|".join(kinds)
    origin = get_origin(field.annotation)
    if origin in (tuple, list):
        return "LIST"
    if origin is dict:
        return "MAPPING"
    return str(getattr(kinds[0], "__name__", kinds[0])).upper()


def default_text(default: Any) -> str:
    """A default as one would write it in YAML."""
    if isinstance(default, tuple):
        return "[" + ", ".join(map(str, default)) + "]"
    if isinstance(default, bool):
        return str(default).lower()
    return "null" if default is None else repr(default) if default == "" else str(default).replace("\n", "\\n")


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's values, and the line of each key."""
    if not path.exists():
        raise HoldfastError(f"{path}: no such config file; examples are in configs/")
    text = read_text(path, "config file")
    try:
        values, lines = parse_yaml_lines(text)
    except YAMLError as error:
        place = f"{path}:{error.line}" if error.line else str(path)
        raise HoldfastError(f"{place}: not YAML ({error}); fix the line") from None
    if not isinstance(values, dict):
        raise HoldfastError(
            f"{path}: a config is a mapping of keys to values; the file holds {type(values).__name__}"
        )
    return {str(key): value for key, value in values.items()}, lines


def _from_text(name: str, field: FieldInfo, text: str) -> Any:
    """A command line value: `null` for None, YAML for lists and mappings, else the text for pydantic to parse."""
    kinds = {get_origin(kind) or kind for kind in (get_args(field.annotation) or (field.annotation,))}
    kinds.add(get_origin(field.annotation) or field.annotation)
    if type(None) in kinds and text.lower() in ("null", "none"):
        return None
    if kinds & {list, tuple, dict}:
        try:
            return parse_yaml(text)
        except YAMLError as error:
            raise HoldfastError(f"{option_name(name)} {text!r:.60}: not YAML ({error}); correct it") from None
    return text


def _first_problem(kind: type[Config], error: ValidationError, path: Path, lines: dict[str, int]) -> str:
    problems = error.errors(include_url=False)
    problem = problems[0]
    place = (
        f"{path}:{lines[str(problem['loc'][0])]}"
        if problem["loc"] and str(problem["loc"][0]) in lines
        else f"{path}"
    )
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if not problem["loc"]:  # a rule over several fields; its message says it all
        return f"{place}: {problem['msg'].removeprefix('Value error, ')}{more}"
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown field '{name}'{_nearest(kind, name)}; the fields are listed by --help{more}"
    if problem["type"] == "missing":
        return f"{path}: field '{name}' is missing; add it to the file or pass {option_name(name)}{more}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: field '{name}': {message} (value {shortened(problem['input'])}){more}"


def _nearest(kind: type[Config], name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, kind.model_fields, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
