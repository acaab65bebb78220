"""Every format in every file type, and what becomes of conversations that no chat template takes."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from holdfast.data import Message, RoleRow, load_role_rows
from holdfast.data.files import read_records
from holdfast.data.rows import rows_fingerprint
from holdfast.errors import HoldfastError

QUESTION, ANSWER = Message("user", "Where to?"), Message("assistant", "Home, 船长.")
TWO_TURNS = (QUESTION, ANSWER, Message("user", "And then?"), Message("assistant", "To sea."))


def chat(*turns: Message, speaker: str = "role", content: str = "content") -> list[dict]:
    return [{speaker: turn.speaker, content: turn.content} for turn in turns]


SHAREGPT = [{"from": "human" if t.speaker == "user" else "gpt", "value": t.content} for t in TWO_TURNS]
# name -> (record, the conversations it holds)
RECORDS = {
    "messages": ({"messages": chat(*TWO_TURNS)}, [TWO_TURNS]),
    "messages with a system turn": (
        {"messages": chat(Message("system", "Be brief."), *TWO_TURNS)},
        [(Message("system", "Be brief."), *TWO_TURNS)],
    ),
    "prompt and completion": ({"prompt": QUESTION.content, "completion": ANSWER.content}, [(QUESTION, ANSWER)]),
    "input and output": ({"input": QUESTION.content, "output": ANSWER.content}, [(QUESTION, ANSWER)]),
    "instruction and output": ({"instruction": QUESTION.content, "output": ANSWER.content}, [(QUESTION, ANSWER)]),
    "instruction, input and output": (
        {"instruction": "Translate.", "input": "Hallo", "output": "Hello"},
        [(Message("user", "Translate.\n\nHallo"), Message("assistant", "Hello"))],
    ),
    "sharegpt": ({"conversations": SHAREGPT}, [TWO_TURNS]),
    "rolebench": (
        {"role": "Ahab", "question": QUESTION.content, "generated": [ANSWER.content, "To sea."], "type": "x"},
        [(QUESTION, ANSWER), (QUESTION, Message("assistant", "To sea."))],
    ),
}


def as_json(records: list[dict]) -> bytes:
    return json.dumps(records, ensure_ascii=False, indent=1).encode()


def as_data_object(records: list[dict]) -> bytes:
    return json.dumps({"version": [1, {"data": 2}], "data": records, "licence": "none"}).encode()


def as_jsonl(records: list[dict]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_csv(records: list[dict]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0])
    writer.writeheader()
    for record in records:
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()})
    return text.getvalue().encode()


def as_parquet(records: list[dict]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    return buffer.getvalue()


# name -> (suffix, writer, locations of two records)
FILES = {
    "json": (".json", as_json, None),
    "json object": (".json", as_data_object, ("1[0]", "1[1]")),
    "jsonl": (".jsonl", as_jsonl, ("1", "2")),
    "ndjson": (".NDJSON", as_jsonl, ("1", "2")),
    "csv": (".csv", as_csv, ("2", "3")),
    "parquet": (".parquet", as_parquet, ("[0]", "[1]")),
}


def write(path: Path, *records: dict) -> Path:
    path.write_bytes(as_jsonl(list(records)))
    return path


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", RECORDS)
def test_every_format_in_every_file_type(kind, name, tmp_path):
    suffix, writer, locations = FILES[kind]
    record, conversations = RECORDS[name]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(writer([record, record]))
    rows = load_role_rows(path)
    assert [row.messages for row in rows] == conversations * 2
    assert [row.role for row in rows] == [record.get("role")] * len(rows)
    assert rows.source == str(path)
    assert not rows.dropped
    assert not rows.notes
    if locations:
        suffixes = ["#1", "#2"] if name == "rolebench" else [""]
        places = [place if place.startswith("[") else f":{place}" for place in locations]
        assert [row.location for row in rows] == [f"{path}{place}{end}" for place in places for end in suffixes]
    assert len({row.location for row in rows}) == len(rows)


def test_json_with_the_key_data_twice_is_read_as_json_reads_it(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"data": "of 2024",\n"data": [{"prompt": "a", "completion": "b"}]}')
    assert [row.location for row in load_role_rows(path)] == [f"{path}:2[0]"]


def test_json_locations_are_the_lines_on_which_rows_begin(tmp_path):
    path = tmp_path / "rows.json"
    row = '{"prompt": "a",\n  "completion": "b\\n"}'
    path.write_text(f"[\n{row}, {row},\n\n{row}]\n")
    assert [row.location for row in load_role_rows(path)] == [f"{path}:2[0]", f"{path}:3[1]", f"{path}:6[2]"]


def test_csv_cells_of_many_lines_and_blank_lines_keep_the_locations_right(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfprompt,completion\r\n"a\r\nb","c, ""d"""\r\n\r\ne,f\r\n')
    rows = load_role_rows(path)
    assert [row.location for row in rows] == [f"{path}:2", f"{path}:5"]
    assert [turn.content for turn in rows[0].messages] == ["a\r\nb", 'c, "d"']


def test_csv_cell_larger_than_the_usual_limit(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,completion\nWhy?,{'a' * 200_000}\n")
    assert len(load_role_rows(path)[0].messages[1].content) == 200_000


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_text(kind, tmp_path):
    suffix, writer, _ = FILES[kind]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + writer([RECORDS["prompt and completion"][0]]))
    assert load_role_rows(path)[0].messages == (QUESTION, ANSWER)


def test_formats_are_told_row_by_row(tmp_path):
    path = write(tmp_path / "rows.jsonl", *(record for record, _ in RECORDS.values()))
    assert [row.messages for row in load_role_rows(path)] == [c for _, held in RECORDS.values() for c in held]


def test_conversational_prompt_and_completion_as_trl_writes_them(tmp_path):
    system = Message("system", "Be brief.")
    path = write(tmp_path / "rows.jsonl", {"prompt": chat(system, QUESTION), "completion": chat(ANSWER)})
    assert load_role_rows(path)[0].messages == (system, QUESTION, ANSWER)


def test_content_given_as_text_parts(tmp_path):
    parts = [{"type": "text", "text": "Home, "}, {"type": "text", "text": "船长."}]
    path = write(tmp_path / "rows.jsonl", {"messages": [*chat(QUESTION), {"role": "assistant", "content": parts}]})
    assert load_role_rows(path)[0].messages == (QUESTION, ANSWER)


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"is_harmful": 1}, True),
        ({"is_harmful": 0}, False),
        ({"is_harmful": -1}, None),
        ({"is_harmful": -1.0}, None),
        ({"is_harmful": 1.0}, True),
        ({"is_harmful": None}, None),
        ({"harmful": True}, True),
        ({"harmful": "False"}, False),
        ({"harmful": ""}, None),
        ({"harmful": False, "is_harmful": 1}, False),
        ({}, None),
    ],
)
def test_given_flags(fields, flag, tmp_path):
    path = write(tmp_path / "rows.jsonl", {"input": "a", "output": "b", **fields})
    assert load_role_rows(path)[0].harmful is flag


def test_a_parquet_column_of_flags_with_gaps(tmp_path):
    table = pyarrow.table({"input": ["a"] * 3, "output": ["b"] * 3, "is_harmful": [1.0, None, float("nan")]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert [row.harmful for row in load_role_rows(tmp_path / "rows.parquet")] == [True, None, None]


@pytest.mark.parametrize(
    ("turns", "kept", "notes"),
    [
        ("A:hi U:q A:a", "U:q A:a", {"opening assistant turn left out": 1}),
        ("S:s A:hi U:q A:a", "S:s U:q A:a", {"opening assistant turn left out": 1}),
        ("U:q A:a U:bye", "U:q A:a", {"closing user turn left out": 1}),
        ("U:q U:r A:a A:b", "U:q\n\nr A:a\n\nb", {"consecutive turns of one speaker merged": 1}),
        ("S:s S:t U:q A:a", "S:s\n\nt U:q A:a", {"consecutive turns of one speaker merged": 1}),
        (
            "A:x A:y U:q A:a U:b U:c",
            "U:q A:a",
            {
                "consecutive turns of one speaker merged": 1,
                "opening assistant turn left out": 1,
                "closing user turn left out": 1,
            },
        ),
    ],
)
def test_conversations_are_tidied_and_the_changes_counted(turns, kept, notes, tmp_path):
    rows = load_role_rows(write(tmp_path / "rows.jsonl", {"messages": chat(*spoken(turns))}))
    assert rows[0].messages == spoken(kept)
    assert rows.notes == Counter(notes)


def spoken(text: str) -> tuple[Message, ...]:
    speakers = {"S": "system", "U": "user", "A": "assistant"}
    return tuple(Message(speakers[turn[0]], turn[2:]) for turn in text.split(" "))


def test_changes_are_counted_for_rows_that_are_kept_only(tmp_path):
    greeting = {"messages": chat(*spoken("A:hi U:q A:a")), "role": "Ahab"}
    nothing_left = {"messages": chat(*spoken("A:hi U:q")), "role": "Ahab"}
    other = {"messages": chat(*spoken("A:hi U:q A:a U:bye")), "role": "Ishmael"}
    path = write(tmp_path / "rows.jsonl", greeting, nothing_left, other)
    rows = load_role_rows(path, role="ahab", drop_bad_rows=True)
    assert len(rows) == 1
    assert rows.notes == Counter({"opening assistant turn left out": 1})
    assert rows.dropped == Counter({"no user turn": 1})


def test_bad_rows_are_dropped_and_counted_by_reason(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = '{"prompt": "a", "completion": "b"}\n'
    path.write_text(good + "{\n[]\n" + '{"prompt": "a"}\n{"prompt": "a", "completion": " "}\n' + good + "{\n\n")
    rows = load_role_rows(path, drop_bad_rows=True)
    assert [row.location for row in rows] == [f"{path}:1", f"{path}:6"]
    assert rows.dropped == Counter({"not JSON": 2, "not an object": 1, "missing field": 1, "empty answer": 1})


def test_one_bad_answer_of_rolebench_does_not_cost_the_others(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"question": "q", "generated": ["a", "", "c"]})
    rows = load_role_rows(path, drop_bad_rows=True)
    assert [(row.location, row.messages[-1].content) for row in rows] == [
        (f"{path}:1#1", "a"),
        (f"{path}:1#3", "c"),
    ]
    assert rows.dropped == Counter({"empty answer": 1})


def test_no_row_left_says_why(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(HoldfastError, match="no rows in it; dropped: 2 missing field"):
        load_role_rows(path, drop_bad_rows=True)


def test_rows_of_one_role(tmp_path):
    records = [{"role": role, "input": str(n), "output": "b"} for n, role in enumerate(["D_Artagnan", "Ahab"] * 2)]
    path = write(tmp_path / "rows.jsonl", *records)
    assert [row.location for row in load_role_rows(path, role="d artagnan")] == [f"{path}:1", f"{path}:3"]
    with pytest.raises(HoldfastError, match="no row of the role 'Ahub'; did you mean 'Ahab'"):
        load_role_rows(path, role="Ahub")


def test_an_empty_role_is_none(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("role,input,output\n,a,b\nAhab,a,b\n")
    assert [row.role for row in load_role_rows(path)] == [None, "Ahab"]


def test_a_role_asked_of_rows_without_roles(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"input": "a", "output": "b"})
    with pytest.raises(HoldfastError, match="no rows in it with a field 'role'"):
        load_role_rows(path, role="Ahab")


def test_a_limit_stops_the_reading_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' * 2 + "not JSON\n")
    assert len(load_role_rows(path, limit=2)) == 2
    for limit in (0, -1):
        with pytest.raises(HoldfastError, match=f"a limit of {limit}"):
            load_role_rows(path, limit=limit)


def test_lines_are_read_as_they_are_needed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' * 3 + b"\xff")
    records = read_records(path)
    assert [next(records)[0] for _ in range(3)] == [f"{path}:{line}" for line in (1, 2, 3)]
    with pytest.raises(HoldfastError, match=":4: not UTF-8"):
        next(records)


def test_gaps_that_pandas_leaves_are_no_values(tmp_path):
    gaps = {"role": float("nan"), "harmful": float("nan"), "messages": None}
    path = write(tmp_path / "rows.jsonl", {"input": "a", "output": "b", **gaps})
    row = load_role_rows(path)[0]
    assert (row.role, row.harmful) == (None, None)


@pytest.mark.parametrize(
    ("cell", "flag"),
    [("1", True), ("1.0", True), ("TRUE", True), ("0", False), ("0.0", False), ("NaN", None), ("", None)],
)
def test_flags_as_csv_writes_them(cell, flag, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"input,output,harmful\na,b,{cell}\n")
    assert load_role_rows(path)[0].harmful is flag


def test_csv_columns_without_a_heading_do_not_matter(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(",prompt,completion,\n0,a,b,\n")
    assert [turn.content for turn in load_role_rows(path)[0].messages] == ["a", "b"]


def test_the_fingerprint_is_that_of_the_conversations(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"messages": chat(QUESTION, ANSWER), "role": "Ahab"})
    elsewhere = RoleRow((QUESTION, ANSWER), "elsewhere:7")
    assert load_role_rows(path).fingerprint() == rows_fingerprint([elsewhere])


def test_a_system_column_becomes_the_system_turn(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"system": "Be brief.", "prompt": "Why?", "completion": "The sea."}\n'
        '{"system": "", "prompt": "Why?", "completion": "No."}\n'
    )
    first, second = load_role_rows(path)
    assert first.messages == (
        Message("system", "Be brief."),
        Message("user", "Why?"),
        Message("assistant", "The sea."),
    )
    assert second.messages == (Message("user", "Why?"), Message("assistant", "No."))
    path.write_text('{"system": 3, "prompt": "Why?", "completion": "The sea."}\n')
    with pytest.raises(HoldfastError, match="field 'system': expected a text"):
        load_role_rows(path)
