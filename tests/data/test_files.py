"""Broken data: each error is one line that names the place, the field and what to do, and shows no text."""

import json
import os
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from holdfast.data import load_role_rows
from holdfast.errors import HoldfastError

GOOD = {"prompt": "Why?", "completion": "The sea."}
SECRET = "text that nobody should find in a log " * 4


def messages(*turns) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


# name -> (line 17, what the error must say)
BAD_LINES = {
    "bad JSON": ('{"prompt": "Why?",', ["not JSON", "fix or remove"]),
    "nested too deeply": ("[" * 100_000, ["not JSON (nested too deeply)"]),
    "a list": (["Why?"], ["expected an object, found list"]),
    "null": (None, ["expected an object, found NoneType"]),
    "missing field": ({"prompt": SECRET}, ["field 'completion' is missing", "prompt/completion", "add it"]),
    "null field": ({"prompt": SECRET, "completion": None}, ["field 'completion' is missing"]),
    "published list without input": ({"output": SECRET, "is_harmful": 1}, ["field 'input' is missing"]),
    "unknown format": (
        {"text": SECRET, "label": 1},
        [
            "unknown format",
            "the row has text, label",
            "ShareGPT (conversations)",
            "RoleBench (question, generated)",
        ],
    ),
    "field names that are text": ({SECRET: 1}, ["unknown format", f"a name of {len(SECRET)} characters"]),
    "number for a text": (
        {"prompt": "Why?", "completion": 7},
        ["field 'completion': expected a text, found int 7"],
    ),
    "object for a text": (
        {"prompt": "Why?", "completion": {"text": SECRET}},
        ["field 'completion': expected a text, found dict of length 1"],
    ),
    "text for turns": ({"prompt": "Why?", "completion": [SECRET]}, ["'completion[0]'", "expected an object"]),
    "empty answer": (GOOD | {"completion": " \n"}, ["field 'completion': the answer is empty", "fill it"]),
    "empty question": (GOOD | {"prompt": ""}, ["field 'prompt': the question is empty"]),
    "half a character": (
        GOOD | {"completion": "a\ud83d"},
        ["field 'completion': half a surrogate", "character 1"],
    ),
    "no turns": ({"messages": []}, ["field 'messages': expected a list of at least one turn", "length 0"]),
    "messages as text": ({"messages": SECRET}, ["field 'messages': a text that is not JSON"]),
    "only system turns": (messages(("system", "Be.")), ["no assistant turn"]),
    "no assistant turn": (messages(("user", "Why?")), ["no assistant turn"]),
    "no user turn": (messages(("assistant", "Hm.")), ["no user turn"]),
    "late system turn": (
        messages(("user", "a"), ("system", "b"), ("assistant", "c")),
        ["system turn comes after"],
    ),
    "tool": (
        messages(("user", "a"), ("tool", SECRET)),
        ["field 'messages[1].role': unknown speaker 'tool'", "use"],
    ),
    "speaker is a number": (messages((3, "a")), ["field 'messages[0].role': unknown speaker 3"]),
    "turn without content": ({"messages": [{"role": "user"}]}, ["field 'messages[0].content' is missing"]),
    "picture": (
        messages(("user", [{"type": "image", "url": SECRET}]), ("assistant", "a")),
        ["field 'messages[0].content': a part is not text"],
    ),
    "sharegpt without a value": ({"conversations": [{"from": "human"}]}, ["field 'conversations[0].value'"]),
    "no answers": (
        {"question": "a", "generated": []},
        ["field 'generated': expected a list of at least one answer"],
    ),
    "answer not in a list": (
        {"question": "a", "generated": SECRET},
        ["field 'generated': a text that is not JSON", "give a list"],
    ),
    "nan for a text": ({"prompt": SECRET, "completion": float("nan")}, ["field 'completion' is missing"]),
    "one empty answer": ({"question": "a", "generated": ["b", ""]}, ["field 'generated[1]': the answer is empty"]),
    "answer is a number": ({"question": "a", "generated": ["b", 3]}, ["field 'generated[1]'", "found int 3"]),
    "alpaca input is a list": (
        {"instruction": "a", "input": [SECRET], "output": "b"},
        ["field 'input': expected a text, found list of length 1"],
    ),
    "role is a list": (GOOD | {"role": ["Ahab"]}, ["field 'role': expected a text, found list of length 1"]),
    "flag is a word": (GOOD | {"harmful": "perhaps"}, ["field 'harmful': 'perhaps' is neither true nor false"]),
    "flag is 2": (GOOD | {"is_harmful": 2}, ["field 'is_harmful': 2 is neither"]),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_row_is_named(name, tmp_path):
    line, expected = BAD_LINES[name]
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(GOOD)] * 20
    lines[16] = line if isinstance(line, str) else json.dumps(line)
    path.write_text("\n".join(lines))
    message = error_of(path)
    assert message.startswith(f"{path}:17: ")
    for part in expected:
        assert part in message
    assert SECRET[:20] not in message
    # One bad answer of two costs that answer; any other fault costs the row.
    kept = 20 if name in ("one empty answer", "answer is a number") else 19
    assert len(load_role_rows(path, drop_bad_rows=True)) == kept


def error_of(source, **arguments) -> str:
    with pytest.raises(HoldfastError) as raised:
        load_role_rows(source, **arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


def good_json(**fields) -> str:
    return json.dumps(GOOD | fields)


# name -> (file name, content, what the error must say, the place after the path)
BAD_FILES = {
    "empty jsonl": ("r.jsonl", b"", "no rows in it", ":"),
    "blank json": ("r.json", b" \n", "no rows in it", ":"),
    "empty list": ("r.json", b"[]", "no rows in it", ":"),
    "empty csv": ("r.csv", b"", "no rows in it", ":"),
    "headings only": ("r.csv", b"prompt,completion\n", "no rows in it", ":"),
    "empty parquet": ("r.parquet", b"", "cannot be read as Parquet", ":"),
    "json in a parquet file": ("r.parquet", b"[" * 100, "cannot be read as Parquet", ":"),
    "unknown suffix": ("r.txt", b"{}", "unknown file type '.txt'; convert it to one of .jsonl", ":"),
    "packed": ("r.jsonl.gz", b"\x1f\x8b", "unknown file type '.gz'", ":"),
    "one object": ("r.json", good_json().encode(), 'expected a list of objects, or {"data": [...]}', ":"),
    "data is no list": ("r.json", b'{"data": {}}', "expected a list of objects", ":"),
    "bad json": ("r.json", f"[\n{good_json()},\n{{oops}}]".encode(), "not JSON", ":3: "),
    "json cut off": ("r.json", f"[\n{good_json()},\n".encode(), "not JSON", ":3: "),
    "no comma": ("r.json", f"[\n{good_json()}\n{good_json()}]".encode(), "not JSON (Expecting ','", ":3: "),
    "lines named json": ("r.json", f"{good_json()}\n{good_json()}".encode(), "or name it .jsonl", ":2: "),
    "a bad row of a list": (
        "r.json",
        f"[\n{good_json()},\n7]".encode(),
        "expected an object, found int",
        ":3[1]: ",
    ),
    "a bad row of data": (
        "r.json",
        b'{"n": 1,\n"data": [\n\n{"prompt": "a"}]}',
        "field 'completion' is missing",
        ":4[0]: ",
    ),
    "nested too deeply": ("r.json", b"[" * 100_000, "nested too deeply", ":1: "),
    "latin-1 jsonl": (
        "r.jsonl",
        f"{good_json()}\n".encode() + b'{"a": "caf\xe9"}',
        "not UTF-8 (byte 0xe9)",
        ":2: ",
    ),
    "latin-1 json": ("r.json", b'[\n\n{"a": "caf\xe9"}]', "not UTF-8 (byte 0xe9)", ":3: "),
    "latin-1 csv": (
        "r.csv",
        b"prompt,completion\n" + b"a,b\n" * 9 + b"a,caf\xe9\n",
        "not UTF-8 (byte 0xe9)",
        ":11: ",
    ),
    "utf-16": ("r.csv", "prompt,completion\na,b".encode("utf-16"), "save the file as UTF-8", ":1: "),
    "open quote": ("r.csv", b'prompt,completion\na,b\n"a,b\na,b\n', "not CSV", ":3: "),
    "open quote that a later one closes": (
        "r.csv",
        b'prompt,completion\na,"b\nc,d\ne,"f"\ng,h\n',
        "not CSV",
        ":2: ",
    ),
    "open quote in the headings": ("r.csv", b'"prompt,completion\na,b\n', "not CSV", ":1: "),
    "heading twice": ("r.csv", b"prompt,prompt\na,b\n", "heading 'prompt' is there twice; rename one", ":1: "),
    "too many cells": ("r.csv", b"prompt,completion\na,b\na,b, c\n", "3 cells under 2 headings", ":3: "),
    "too few cells": ("r.csv", b"prompt,completion\na,b\n\na\n", "field 'completion' is missing", ":4: "),
    "empty cell": (
        "r.csv",
        b'prompt,completion\n"a\nb",c\na,\n',
        "field 'completion': the answer is empty",
        ":4: ",
    ),
    "cell is no json": ("r.csv", b"messages\nhello\n", "field 'messages': a text that is not JSON", ":2: "),
    "no headings": ("r.csv", b"how do I\na,b\n", "2 cells under 1 headings", ":2: "),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(name, tmp_path):
    file_name, content, expected, place = BAD_FILES[name]
    path = tmp_path / file_name
    path.write_bytes(content)
    message = error_of(path)
    assert message.startswith(f"{path}{place}")
    assert expected in message


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": ["a", "a"], "completion": ["b", None]}, "field 'completion' is missing"),
        (
            {"prompt": ["a", "a"], "completion": [b"b", b"b"]},
            "field 'completion': expected a text, found bytes of",
        ),
        ({"question": ["a"] * 2, "generated": [["b"], []]}, "field 'generated': expected a list of at least one"),
    ],
)
def test_a_bad_row_of_a_parquet_file_is_named(columns, expected, tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    index = 0 if "bytes" in expected else 1
    message = error_of(path)
    assert message.startswith(f"{path}[{index}]: ")
    assert expected in message


def test_wrong_quotes_of_a_csv_file_are_never_one_dropped_row(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\na,b\nc,"d\ne,f\ng,"h"\ni,j\n')  # the quote of line 3 swallows line 4 and 5
    assert error_of(path, drop_bad_rows=True).startswith(f"{path}:3: not CSV")


def test_a_parquet_text_that_is_not_utf8(tmp_path):
    text = pyarrow.StringArray.from_buffers(1, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0"), pyarrow.py_buffer(b"\xe9"))
    parquet.write_table(pyarrow.table({"prompt": text, "completion": ["b"]}), tmp_path / "rows.parquet")
    assert "cannot be read as Parquet ('utf-8' codec can't decode byte 0xe9" in error_of(tmp_path / "rows.parquet")


def test_a_parquet_file_cut_in_half(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["a"], "completion": ["b"]}), path)
    path.write_bytes(path.read_bytes()[:-40])
    assert error_of(path).startswith(f"{path}: cannot be read as Parquet (")


def test_parquet_rows_are_counted_over_batches(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"input": ["a"] * 2500, "output": ["b"] * 2500}), path, row_group_size=700)
    rows = load_role_rows(path)
    assert [row.location for row in rows] == [f"{path}[{index}]" for index in range(2500)]


def test_a_directory_and_a_missing_file(tmp_path):
    assert "is a directory; name one of its files" in error_of(tmp_path)
    assert "no such file; give a file (.jsonl" in error_of(tmp_path / "absent.jsonl")
    assert "no such file; give a file (.jsonl" in error_of("data/absent.jsonl")  # no hub id: it ends like a file


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(good_json())
    path.chmod(0)
    assert "cannot be read (Permission denied)" in error_of(path)


def test_a_file_that_fails_while_it_is_read(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    path = tmp_path / "rows.jsonl"
    path.write_text(good_json())
    monkeypatch.setattr(Path, "open", fail)
    assert error_of(path).startswith(f"{path}: the disk cannot be read or written (input/output error)")


@pytest.mark.parametrize(
    "source", ["rows", "C:/rows", r"C:\data\rows", "a/b/c", "owner/", "~/rows", "../rows", "o/a b"]
)
def test_what_is_neither_a_path_nor_a_hub_id(source):
    message = error_of(source)
    assert (
        ": no such file; give a file (.jsonl, .ndjson, .json, .csv, .parquet) or a hub id (owner/name)" in message
    )


def test_the_hub_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    message = error_of("nobody-at-all/no-such-rows")
    assert message.startswith(
        "nobody-at-all/no-such-rows: no such file, and the hub has no such data set or cannot"
    )
    assert "check the path" in message


def test_a_data_set_of_the_hub(monkeypatch):
    asked = []

    def load_dataset(name, *, split):
        asked.append((name, split))
        return datasets.Dataset.from_list([GOOD, GOOD | {"prompt": None}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = load_role_rows("owner/rows-1.5", split="test", drop_bad_rows=True)
    assert asked == [("owner/rows-1.5", "test")]
    assert [row.location for row in rows] == ["owner/rows-1.5[0]"]
    assert rows.dropped == {"missing field": 1}
    assert error_of("owner/rows-1.5").startswith("owner/rows-1.5[1]: field 'prompt' is missing")
