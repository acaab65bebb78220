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
from holdfast.data.formats import instruction_turns, tidy
from holdfast.data.languages import language_code
from holdfast.data.rows import Message

_SIDES = ("prompt", "chosen", "rejected")
_PUBLISHED = tuple(
    f"{side}_{part}" for side in ("source", "target") for part in ("conversations", "chosen", "rejected")
)
_PROMPT_FIELDS = ("prompt", "question", "instruction", "conversations", "messages")
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
            # A prompt may be empty: one of the published ones is.
            turns=_turns(record[f"{side}_conversations"], f"{side}_conversations", may_be_empty=True),
            answers=[
                _assistant_turn(_turns_or_text(record[field], field, "assistant"), field)
                for field in (f"{side}_chosen", f"{side}_rejected")
            ],
            language=_language(record, language_fields),
        )
        for side, language_fields in (
            ("source", ("source_language",)),
            ("target", ("target_language", "language")),
        )
    )
    return [replace(source, group=source.texts, side="source"), replace(target, group=source.texts, side="target")]


# --- preference rows of TRL and LLaMA-Factory: one row a language, rows of one id belong together


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
    language = _language(record, ("language",))
    return [_half(record, location, _prompt(record, shared[0]), answers, language, _pair_id(record))]


def _prompt(record: Record, implicit: list[Message]) -> list[Message]:
    """Return the prompt that a field states; else the turns that both answers begin with."""
    filled = [field for field in _PROMPT_FIELDS if not _is_blank(record.get(field))]
    if not filled and implicit:
        return implicit
    field = next((field for field in (*filled, *_PROMPT_FIELDS) if record.get(field) is not None), None)
    if field is None:
        raise BadRowError(
            "missing field", f"field 'prompt' is missing (the row has {field_names(record)}); add it"
        )
    stated = instruction_turns(record) if field == "instruction" else _turns_or_text(record[field], field, "user")
    if field in ("conversations", "messages") and implicit and stated[-1].speaker == "assistant":
        stated = stated[:-1]  # the whole conversation with the chosen answer, beside which `chosen` stands again
    if implicit and implicit != stated:
        raise BadRowError(
            "different prompts",
            f"field '{field}' is not what 'chosen' begins with; correct or remove one of them",
        )
    return stated


def _turns_or_text(value: Any, field: str, speaker: str) -> list[Message]:
    """Return a list of turns, one turn as an object (in CSV their JSON text), or one turn as a text."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "{")):
        try:
            cell = json_cell(value, field)
        except BadRowError:  # a text that begins so
            cell = value
        value = cell if isinstance(cell, list) or _is_turn(cell) else value
    if isinstance(value, list | dict):
        return _turns(value if isinstance(value, list) else [value], field)
    return [text_turn(value, field, SPEAKERS[speaker])]


def _turns(value: Any, field: str, *, may_be_empty: bool = False) -> list[Message]:
    """Return turns with the keys of chat messages or of ShareGPT."""
    turns = json_cell(value, field)
    chat = isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]
    keys = ("role", "content") if chat else ("from", "value")
    return turns_of(turns, field, *keys, may_be_empty=may_be_empty)


def _is_turn(cell: Any) -> bool:
    return isinstance(cell, dict) and bool({"from", "role"} & cell.keys())


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
    PairFormat(
        "preference",
        "prompt (or instruction, conversations, messages), chosen, rejected, language, pair_id",
        _is_preference,
        _preference,
    ),
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
