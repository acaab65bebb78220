"""Parsing text that somebody else wrote: JSON and YAML whose every failure is a ValueError.

Files are read by `holdfast.files`; what a value must be is checked where it is used.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import yaml

MAX_YAML_NODES = 100_000  # aliases written out; far above any config or role file
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str")


def parse_json(text: str | bytes) -> Any:
    """`json.loads` whose every failure is a ValueError, nesting too deep included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class YAMLError(ValueError):
    """Text that is not YAML, or holds what a settings file cannot hold; `line` counts from 1, None is unknown."""

    def __init__(self, problem: str, line: int | None = None):
        super().__init__(problem)
        self.line = line


def parse_yaml(text: str) -> Any:
    """Return what YAML text says: mappings, lists, texts, numbers, booleans and null, which is what JSON can hold.

    Raises YAMLError for anything else: dates, tags, a key that is given twice, aliases that lead to themselves or
    multiply, half surrogate pairs, nesting that is too deep.
    """
    return parse_yaml_lines(text)[0]


def parse_yaml_lines(text: str) -> tuple[Any, dict[str, int]]:
    """`parse_yaml`, and the line of each key where the text is a mapping."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None, {}
        if _size(node, {}, set()) > MAX_YAML_NODES:
            raise YAMLError(f"its aliases make more than {MAX_YAML_NODES:,} values", 1)
        value = _value(node)
    except YAMLError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or "unreadable"
        raise YAMLError(problem, mark.line + 1 if mark else None) from None
    except RecursionError:
        raise YAMLError("nested too deeply") from None
    except ValueError as error:  # of the scanner: an escape beyond Unicode
        raise YAMLError(str(error)) from None
    keys = node.value if isinstance(node, yaml.MappingNode) else []
    return value, {key.value: key.start_mark.line + 1 for key, _ in keys}


def _size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """The number of values in a node with its aliases written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise YAMLError("an alias leads to itself", node.start_mark.line + 1)
    if id(node) not in sizes:
        above.add(id(node))
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_size(part, sizes, above) for part in parts)
        above.remove(id(node))
    return sizes[id(node)]


def _value(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(entry) for entry in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node)
    kind = node.tag.removeprefix(_TAG)
    if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
        what = "a date" if kind == "timestamp" else f"the tag {node.tag!r:.60}"
        raise YAMLError(f"{what} has no use here; write text in quotes", line)
    try:
        value = yaml.SafeLoader("").construct_object(node)
        repr(value)  # an integer of thousands of digits cannot be shown
    except (ValueError, KeyError, OverflowError, yaml.YAMLError):
        raise YAMLError(f"{node.value!r:.60} is no {kind}", line) from None
    if (broken := half_surrogate(value)) is not None:
        raise YAMLError(broken, line)
    return value


def _mapping(node: yaml.MappingNode) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    merged: dict[Any, Any] = {}
    lines: dict[Any, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YAMLError("a list or mapping cannot be a key", line)
        if key_node.tag == _TAG + "merge":
            merged = _merged(value_node) | merged
            continue
        key = _value(key_node)
        if key in values:
            raise YAMLError(f"field '{key}' is given twice (also on line {lines[key]}); remove one", line)
        values[key], lines[key] = _value(value_node), line
    return merged | values


def _merged(node: yaml.Node) -> dict[Any, Any]:
    """The mapping of a merge key (<<), or the mappings, of which the first one counts most."""
    values: dict[Any, Any] = {}
    for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        inner = _value(source)
        if not isinstance(inner, dict):
            raise YAMLError("a merge key (<<) takes mappings", source.start_mark.line + 1)
        values = inner | values
    return values


def shortened(value: Any) -> str:
    """Return at most 60 characters of a value, on one line, for a message."""
    try:
        text = repr(value[:61] if isinstance(value, str | bytes) else value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else text[:57] + "..."


def half_surrogate(content: Any) -> str | None:
    """Return what is wrong where text in parsed JSON has half a surrogate pair, which no tokenizer takes; else None."""
    for field, text in _texts(content):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"field '{field}': " if field else ""
            return f"{place}half a surrogate pair at character {error.start}; correct the text"
    return None


def whole_characters(text: str) -> str:
    """Return text with `\ufffd` for each half of a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _texts(content: Any) -> Iterator[tuple[str, str]]:
    """The texts in parsed JSON with their fields; a key counts as text of its field."""
    waiting: list[tuple[str, Any]] = [("", content)]  # no recursion: the content may be nested deeply
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, dict):
            for key, inner in value.items():
                name = f"{field}.{_escaped(key)}" if field else _escaped(key)
                if isinstance(key, str):
                    yield name, key
                waiting.append((name, inner))
        elif isinstance(value, list | tuple):
            waiting += [(f"{field}[{index}]", inner) for index, inner in enumerate(value)]


def _escaped(key: Any) -> str:
    return str(key).encode("unicode_escape").decode()[:30] if not str(key).isascii() else str(key)[:30]


def is_finite_number(value: Any) -> bool:
    """Whether a parsed value is a number, finite and no boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
