"""The shapes that parallel preference pairs come in, and how each becomes halves (pairs in one language).

Adding a format is one function and one entry of PAIR_FORMATS.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from holdfast.data.fields import SPEAKERS, field_names, json_cell, system_turn, text_turn, turns_of, wrong_type
from holdfast.data.files import BadRowError, Record, shortened
from holdfast.data.formats import tidy
from holdfast.data.languages import language_code
from holdfast.data.rows import Message

_SIDES = ("prompt", "chosen", "rejected")
_PUBLISHED = tuple(
    f"{side}_{part}" for side in ("source", "target") for part in ("conversations", "chosen", "rejected")
)
_ID_FIELDS = ("pair_id", "prompt_id", "id")
_WIDE_FIELD = re.compile(r"(prompt|chosen|rejected)_([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)")
_REVERSED = re.compile(r"[A-Za-z]{2,3}_(prompt|chosen|rejected)")


@dataclass(frozen=True, slots=True)
class Half:
    """A pair in one language, before it is known whether it is the dominant one.

    Halves of one `group` say the same. `language` is None where the data does not say. `side` is what the published
    format calls it: the source is in the dominant language, whatever that is; None in other formats. `changes` says
    what was mended in the prompt.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    language: str | None
    group: Hashable
    location: str
    side: Literal["source", "target"] | None = None
    changes: tuple[str, ...] = ()

    @property
    def texts(self) -> Hashable:
        """What two halves share that are the same pair."""
        return self.prompt, self.chosen, self.rejected


class PairFormat(NamedTuple):
    """`fits` tells the format of a record, `parse` makes its halves."""

    name: str
    fields: str
    fits: Callable[[Record], bool]
    parse: Callable[[Record, str], list[Half]]


def halves_of(record: Record, location: str) -> list[Half]:
    """The halves of one record. Raises BadRowError."""
    for known in PAIR_FORMATS:
        if known.fits(record):
            return known.parse(record, location)
    reversed_field = next((field for field in record if _REVERSED.fullmatch(str(field))), None)
    if reversed_field is not None:
        language, _, side = reversed_field.partition("_")
        raise BadRowError(
            "unknown format",
            f"field '{reversed_field}': the language goes last; rename it to '{side}_{language}', and the others so",
        )
    names = "; ".join(f"{known.name} ({known.fields})" for known in PAIR_FORMATS)
    raise BadRowError(
        "unknown format",
        f"unknown format: the row has {field_names(record)}; rename to one of the formats {names}",
    )


# --- the published format: source and target in one row


def _is_published(record: Record) -> bool:
    return any(field in record for field in _PUBLISHED)


def _published(record: Record, location: str) -> list[Half]:
    for field in _PUBLISHED:
        _required(record, field)
    source, target = (
        _half(
            record,
            location,
            turns=_any_turns(record[f"{side}_conversations"], f"{side}_conversations"),
            answers=[_published_answer(record[field], field) for field in (f"{side}_chosen", f"{side}_rejected")],
            language=_language(record, language_fields),
        )
        for side, language_fields in (
            ("source", ("source_language",)),
            ("target", ("target_language", "language")),
        )
    )
    return [replace(source, group=source.texts, side="source"), replace(target, group=source.texts, side="target")]


def _any_turns(value: Any, field: str) -> list[Message]:
    """Turns with the keys of ShareGPT or of chat messages. A prompt may be empty: one of the published ones is."""
    turns = json_cell(value, field)
    chat = isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]
    keys = ("role", "content") if chat else ("from", "value")
    return turns_of(turns, field, *keys, may_be_empty=True)


def _published_answer(value: Any, field: str) -> str:
    """A turn, {"from": "gpt", "value": ...}, in CSV its JSON text; or the answer itself."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            cell = json_cell(value, field)
        except BadRowError:  # an answer that begins with a brace
            cell = value
        value = cell if isinstance(cell, dict) and {"from", "role"} & cell.keys() else value
    if isinstance(value, dict):
        keys = ("role", "content") if "role" in value else ("from", "value")
        return _assistant_turn(turns_of([value], field, *keys), field)
    return text_turn(value, field, "assistant").content


# --- preference rows as TRL has them: one row a language, rows of one id belong together


def _is_preference(record: Record) -> bool:
    return "chosen" in record or "rejected" in record


def _preference(record: Record, location: str) -> list[Half]:
    for field in ("chosen", "rejected"):
        _required(record, field)
    shared: list[list[Message]] = []
    answers: list[str] = []
    for field in ("chosen", "rejected"):
        turns = _turns_or_text(record[field], field, "assistant")
        answers.append(_assistant_turn(turns[-1:], field))
        shared.append(turns[:-1])
    if shared[0] != shared[1]:
        raise BadRowError(
            "different prompts",
            "fields 'chosen' and 'rejected' begin with different turns; only their last turns may differ",
        )
    prompt = shared[0]
    if "prompt" in record:
        stated = _turns_or_text(record["prompt"], "prompt", "user")
        if prompt and prompt != stated:
            raise BadRowError(
                "different prompts",
                "field 'prompt' is not what 'chosen' begins with; correct or remove one of them",
            )
        prompt = stated
    if not prompt:
        raise BadRowError(
            "missing field", f"field 'prompt' is missing (the row has {field_names(record)}); add it"
        )
    language = _language(record, ("language",))
    return [_half(record, location, prompt, answers, language, _pair_id(record))]


def _turns_or_text(value: Any, field: str, speaker: str) -> list[Message]:
    """Messages, in CSV their JSON text; or one turn as a text."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            cell = json_cell(value, field)
        except BadRowError:  # a text that begins so
            cell = value
        value = cell if isinstance(cell, list) else value
    if isinstance(value, list):
        return turns_of(value, field, "role", "content")
    return [text_turn(value, field, SPEAKERS[speaker])]


def _pair_id(record: Record) -> str:
    for field in _ID_FIELDS:
        value = record.get(field)
        if isinstance(value, bool | list | dict):
            raise wrong_type(field, value, "a text or a number")
        if value is not None and str(value).strip():
            return str(value).strip()
    raise BadRowError(
        "missing field",
        f"field 'pair_id' is missing (the row has {field_names(record)}); add the id that rows of one request share",
    )


# --- wide rows: one column a language


def _is_wide(record: Record) -> bool:
    return any(_WIDE_FIELD.fullmatch(str(field)) for field in record)


def _wide(record: Record, location: str) -> list[Half]:
    tags = dict.fromkeys(match[2] for field in record if (match := _WIDE_FIELD.fullmatch(str(field))))
    if "chosen_id" not in record:
        tags.pop("id", None)  # `prompt_id` is a number then, no Indonesian
    halves: list[Half] = []
    for tag in tags:
        cells = {side: record.get(f"{side}_{tag}") for side in _SIDES}
        if all(_is_blank(cell) for cell in cells.values()):
            continue  # this row is not there in that language
        for side, cell in cells.items():
            if _is_blank(cell):
                raise BadRowError(
                    "missing field",
                    f"field '{side}_{tag}' is empty or missing, while other fields of '{tag}' are filled; fill all "
                    "three or none",
                )
        turns = _turns_or_text(cells["prompt"], f"prompt_{tag}", "user")
        answers = [text_turn(cells[side], f"{side}_{tag}", "assistant").content for side in ("chosen", "rejected")]
        halves.append(_half(record, location, turns, answers, language_code(tag), group=location))
    if not halves:
        raise BadRowError("empty row", "no language is filled in; fill in two at least, or remove the row")
    return halves


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


PAIR_FORMATS = (
    PairFormat("published", ", ".join(_PUBLISHED), _is_published, _published),
    PairFormat("preference", "prompt, chosen, rejected, language, pair_id", _is_preference, _preference),
    PairFormat("wide", "prompt_en, chosen_en, rejected_en, prompt_zh, ...", _is_wide, _wide),
)


# --- fields


def _required(record: Record, field: str) -> None:
    if field not in record:
        raise BadRowError(
            "missing field", f"field '{field}' is missing (the row has {field_names(record)}); add it"
        )


def _half(
    record: Record,
    location: str,
    turns: list[Message],
    answers: list[str],
    language: str | None,
    group: Hashable = None,
) -> Half:
    """A half whose prompt every chat template takes: system first, user and assistant in turn, the user last."""
    if turns[-1].speaker != "user":
        raise BadRowError("no user turn", "the prompt does not end with a user turn; add the question")
    changes: Counter[str] = Counter()
    answer = Message("assistant", "")  # only so that the whole is a conversation
    prompt = tidy([*system_turn(record), *turns, answer], changes)[:-1]
    chosen, rejected = answers
    return Half(prompt, chosen, rejected, language, group, location, changes=tuple(changes))


def _assistant_turn(turns: list[Message], field: str) -> str:
    if turns[-1].speaker != "assistant":
        raise BadRowError(
            "no assistant turn", f"field '{field}': does not end with an assistant turn; add the answer"
        )
    return turns[-1].content


def _language(record: Record, fields: tuple[str, ...]) -> str | None:
    """The code in the first of the fields that holds one; None where the data does not say."""
    for field in fields:
        value = record.get(field)
        if _is_blank(value):
            continue
        if not isinstance(value, str):
            raise wrong_type(field, value, "a language code")
        code = language_code(value)
        if code is None:
            raise BadRowError(
                "unknown language",
                f"field '{field}': {shortened(value)} is no language code; use one of ISO 639-1, such as en or zh",
            )
        return code
    return None
