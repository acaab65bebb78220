"""The shapes that role-play data comes in, and how each becomes conversations.

Adding a format is one function and one entry of FORMATS.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from holdfast.data.fields import SPEAKERS, field_names, json_cell, system_turn, text_turn, turns_of, wrong_type
from holdfast.data.files import BadRowError, Record, read_records, shortened
from holdfast.data.names import close_names, same_name
from holdfast.data.rows import Message, RoleRow, RoleRows
from holdfast.errors import HoldfastError

# The conversations of a record: suffix of the location, and the turns or why there are none.
Conversations = list[tuple[str, "list[Message] | BadRowError"]]


class Format(NamedTuple):
    """`fields` are what tells the format; `parse` makes one or more conversations of a record."""

    name: str
    fields: tuple[str, ...]
    parse: Callable[[Record], Conversations]


def load_role_rows(
    source: str | Path,
    *,
    role: str | None = None,
    split: str = "train",
    drop_bad_rows: bool = False,
    limit: int | None = None,
) -> RoleRows:
    """Load training rows from a JSON, JSONL, CSV or Parquet file or from the hub; docs/data_formats.md.

    Args:
        source: path, or hub id where there is no such path.
        role: keep only the rows of this role (needs a `role` column).
        split: of a hub data set; a file has none.
        drop_bad_rows: drop and count bad rows instead of stopping at the first.
        limit: stop after so many rows, at least 1.

    Raises HoldfastError naming file, line, field and value of the first bad row.
    """
    if limit is not None and limit < 1:
        raise HoldfastError(f"{source}: a limit of {limit} leaves no rows; give 1 or more, or none")
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    rows: list[RoleRow] = []
    other_roles: set[str] = set()
    for location, record in read_records(source, split=split):
        for row, changes in _rows_of(location, record):
            if isinstance(row, BadRowError):
                if not drop_bad_rows:
                    raise HoldfastError(f"{location}: {row.detail}")
                dropped[row.reason] += 1
            elif role is None or (row.role is not None and same_name(row.role, role)):
                rows.append(row)
                notes += changes
            elif row.role is not None:
                other_roles.add(row.role)
            if len(rows) == limit:
                return RoleRows(tuple(rows), str(source), dropped, notes)
    if not rows and other_roles:
        raise HoldfastError(f"{source}: no row of the role {role!r}; {close_names(str(role), other_roles)}")
    if not rows:
        lost = "; dropped: " + ", ".join(f"{n} {why}" for why, n in dropped.items()) if dropped else ""
        wanted = " with a field 'role'" if role is not None else ""
        raise HoldfastError(f"{source}: no rows in it{wanted}{lost}; give a file with at least one conversation")
    return RoleRows(tuple(rows), str(source), dropped, notes)


def _rows_of(location: str, record: Record | BadRowError) -> Iterator[tuple[RoleRow | BadRowError, Counter[str]]]:
    """Each row of a record with what was changed in it, or why there is none."""
    try:
        if isinstance(record, BadRowError):
            raise record
        role, harmful, system = _role(record), _harmful(record), system_turn(record)
        conversations = _format_of(record).parse(record)
    except BadRowError as bad:
        yield bad, Counter()
        return
    for suffix, turns in conversations:
        changes: Counter[str] = Counter()
        try:
            if isinstance(turns, BadRowError):
                raise turns
            yield RoleRow(tidy([*system, *turns], changes), location + suffix, role, harmful), changes
        except BadRowError as bad:
            yield bad, Counter()


def _format_of(record: Record) -> Format:
    for known in FORMATS:
        if all(field in record for field in known.fields):
            return known
    has = field_names(record)
    for known in reversed(FORMATS):  # a lone `output` lacks its `input`, not its `instruction`
        missing = [field for field in known.fields if field not in record]
        if len(missing) < len(known.fields):
            raise BadRowError(
                "missing field",
                f"field '{missing[0]}' is missing (format {known.name}; the row has {has}); add it",
            )
    names = "; ".join(f"{known.name} ({', '.join(known.fields)})" for known in FORMATS)
    raise BadRowError("unknown format", f"unknown format: the row has {has}; rename to one of the formats {names}")


def tidy(turns: Sequence[Message], notes: Counter[str]) -> tuple[Message, ...]:
    """A conversation that every chat template takes: system first, then user and assistant in turn, ending with
    the assistant. What had to be changed is counted in `notes`; what cannot be mended raises BadRowError."""
    merged = _merged(turns)
    if len(merged) < len(turns):
        notes["consecutive turns of one speaker merged"] += 1
    system, talk = merged[:1], merged[1:]
    if system[0].speaker != "system":
        system, talk = [], merged
    if any(turn.speaker == "system" for turn in talk):
        raise BadRowError(
            "system turn in the middle", "a system turn comes after other turns; put it first, or remove it"
        )
    if not any(turn.speaker == "assistant" for turn in talk):
        raise BadRowError(
            "no assistant turn", "no assistant turn, so nothing to learn; add the answer, or remove the row"
        )
    if talk[0].speaker == "assistant":
        notes["opening assistant turn left out"] += 1
        talk = talk[1:]
    if talk and talk[-1].speaker == "user":
        notes["closing user turn left out"] += 1
        talk = talk[:-1]
    if not talk:
        raise BadRowError(
            "no user turn", "no user turn before the assistant's; add the question, or remove the row"
        )
    return (*system, *talk)


def _merged(turns: Sequence[Message]) -> list[Message]:
    """Consecutive turns of one speaker become one, a blank line between them."""
    merged: list[Message] = []
    for turn in turns:
        if merged and merged[-1].speaker == turn.speaker:
            merged[-1] = Message(turn.speaker, f"{merged[-1].content}\n\n{turn.content}")
        else:
            merged.append(turn)
    return merged


# --- one function a format


def _messages(record: Record) -> Conversations:
    return [("", turns_of(record["messages"], "messages", "role", "content"))]


def _sharegpt(record: Record) -> Conversations:
    return [("", turns_of(record["conversations"], "conversations", "from", "value"))]


def _rolebench(record: Record) -> Conversations:
    question = text_turn(record["question"], "question", "user")
    answers = json_cell(record["generated"], "generated")
    if not isinstance(answers, list) or not answers:
        raise wrong_type("generated", answers, "a list of at least one answer")
    conversations: Conversations = []
    for k, answer in enumerate(answers, start=1):
        try:
            turns: list[Message] | BadRowError = [question, text_turn(answer, f"generated[{k - 1}]", "assistant")]
        except BadRowError as bad:  # the other answers are still good
            turns = bad
        conversations.append((f"#{k}", turns))
    return conversations


def _prompt_completion(record: Record) -> Conversations:
    turns: list[Message] = []
    for field, speaker in (("prompt", "user"), ("completion", "assistant")):
        value = record[field]
        if isinstance(value, list):
            turns += turns_of(value, field, "role", "content")
        else:
            turns.append(text_turn(value, field, SPEAKERS[speaker]))
    return [("", turns)]


def _alpaca(record: Record) -> Conversations:
    return [("", [*instruction_turns(record), text_turn(record["output"], "output", "assistant")])]


def instruction_turns(record: Record) -> list[Message]:
    """Return the turns of `history`, a list of [question, answer], and of `instruction` with its `input`."""
    question = text_turn(record["instruction"], "instruction", "user")
    context = record.get("input") or ""
    if not isinstance(context, str):
        raise wrong_type("input", context, "a text")
    if context.strip():
        question = Message("user", f"{question.content}\n\n{context}")
    return [*_history(record), question]


def _history(record: Record) -> list[Message]:
    rounds = json_cell(record.get("history") or [], "history")
    if not isinstance(rounds, list) or not all(isinstance(one, list) and len(one) == 2 for one in rounds):
        raise wrong_type("history", rounds, "a list of [question, answer]")
    turns: list[Message] = []
    for k, (asked, answered) in enumerate(rounds):
        turns.append(text_turn(asked, f"history[{k}][0]", "user"))
        turns.append(text_turn(answered, f"history[{k}][1]", "assistant"))
    return turns


def _input_output(record: Record) -> Conversations:
    return [
        ("", [text_turn(record["input"], "input", "user"), text_turn(record["output"], "output", "assistant")])
    ]


FORMATS = (
    Format("chat messages", ("messages",), _messages),
    Format("ShareGPT", ("conversations",), _sharegpt),
    Format("RoleBench", ("question", "generated"), _rolebench),
    Format("prompt/completion", ("prompt", "completion"), _prompt_completion),
    Format("instruction/output", ("instruction", "output"), _alpaca),
    Format("input/output", ("input", "output"), _input_output),
)


# --- optional fields


def _role(record: Record) -> str | None:
    role = record.get("role")
    if role is not None and not isinstance(role, str):
        raise wrong_type("role", role, "a text")
    return role or None


# As text, since CSV has nothing else; with decimals, since a column with gaps is one of floats in Parquet.
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_FLAGS_UNKNOWN = ("", "none", "nan")


def _harmful(record: Record) -> bool | None:
    """`harmful`, or the published `is_harmful` with -1 for unknown."""
    field = "harmful" if "harmful" in record else "is_harmful"
    value = record.get(field)
    text = str(value).strip().lower()
    if text in _FLAGS_UNKNOWN or (field == "is_harmful" and text in ("-1", "-1.0")):
        return None
    if text not in _FLAGS:
        raise BadRowError(
            "wrong type", f"field '{field}': {shortened(value)} is neither true nor false; use true or false"
        )
    return _FLAGS[text]
