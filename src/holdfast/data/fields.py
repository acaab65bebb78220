"""Reading the fields of one record: texts, turns and lists, each fault named by its field."""

import unicodedata
from typing import Any

from holdfast.data.files import BadRowError, Record, shortened
from holdfast.data.names import shown_name
from holdfast.data.rows import Message, Speaker
from holdfast.parsing import parse_json

SPEAKERS: dict[str, Speaker] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""The names that data gives to speakers, in lower case."""


def turns_of(
    value: Any, field: str, speaker_key: str, content_key: str, *, may_be_empty: bool = False
) -> list[Message]:
    """The turns of a list of objects (in CSV its JSON text); `may_be_empty` as in `text_turn`."""
    value = json_cell(value, field)
    if not isinstance(value, list) or not value:
        raise wrong_type(field, value, "a list of at least one turn")
    turns = []
    for index, turn in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(turn, dict):
            raise wrong_type(place, turn, "an object")
        for key in (speaker_key, content_key):
            if turn.get(key) is None:
                raise BadRowError("missing field", f"field '{place}.{key}' is missing; add it")
        speaker = turn[speaker_key]
        if not isinstance(speaker, str) or speaker.lower() not in SPEAKERS:
            raise BadRowError(
                "unknown speaker",
                f"field '{place}.{speaker_key}': unknown speaker {shortened(speaker)}; use system, user or assistant",
            )
        content = _joined_parts(turn[content_key], f"{place}.{content_key}")
        speaker = SPEAKERS[speaker.lower()]
        turns.append(text_turn(content, f"{place}.{content_key}", speaker, may_be_empty=may_be_empty))
    return turns


def _joined_parts(content: Any, field: str) -> Any:
    """Content given as parts, [{"type": "text", "text": ...}]; other parts than text cannot be trained on."""
    if not isinstance(content, list):
        return content
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
    ]
    if not all(isinstance(text, str) for text in texts):
        raise BadRowError("not text", f"field '{field}': a part is not text; only text can be trained on")
    return "".join(text for text in texts if text is not None)


def text_turn(value: Any, field: str, speaker: Speaker, *, may_be_empty: bool = False) -> Message:
    """One turn, its text unchanged. An empty question or answer is a fault unless it `may_be_empty`."""
    if not isinstance(value, str):
        raise wrong_type(field, value, "a text")
    if speaker != "system" and not may_be_empty and is_blank(value):
        what = "answer" if speaker == "assistant" else "question"
        raise BadRowError(f"empty {what}", f"field '{field}': the {what} is empty; fill it, or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON may escape half a character, which no tokenizer takes
        raise BadRowError(
            "broken character",
            f"field '{field}': half a surrogate pair at character {error.start}; correct the text",
        ) from None
    return Message(speaker, value)


_SHOW_NOTHING = frozenset(
    "\u034f\u115f\u1160\u2800\u3164\uffa0"
)  # fillers that Unicode counts among letters and signs


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: white space, zero-width characters and marks of direction only."""
    return all(
        unicodedata.category(character)[0] in "ZC"
        or character in _SHOW_NOTHING
        or "\ufe00" <= character <= "\ufe0f"
        for character in text
    )


def system_turn(record: Record) -> list[Message]:
    """The system turn of a `system` column, which ShareGPT and instruction data have beside the turns."""
    return [text_turn(record["system"], "system", "system")] if record.get("system") else []


def json_cell(value: Any, field: str) -> Any:
    """A list as such, or as the JSON text that a CSV cell holds."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise BadRowError(
            "not JSON", f"field '{field}': a text that is not JSON ({error}); give a list, in CSV as JSON"
        ) from None


def field_names(record: Record) -> str:
    """Which fields a record has, for an error message."""
    # Where a CSV file has no headings its first row stands in their place: that text is not for an error message.
    return ", ".join(map(shown_name, list(record)[:12])) or "no field"


def wrong_type(field: str, value: Any, wanted: str) -> BadRowError:
    """The fault of a value that is not what is `wanted`."""
    # What holds text is described, not shown: a data file may hold harmful requests.
    if isinstance(value, str):
        shown = f"a text of {len(value)} characters"
    elif isinstance(value, bytes | list | dict):
        shown = f"{type(value).__name__} of length {len(value)}"
    else:
        shown = f"{type(value).__name__} {shortened(value)}"
    return BadRowError("wrong type", f"field '{field}': expected {wanted}, found {shown}; correct the row")
