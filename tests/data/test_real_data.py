"""The real data that the project is developed against: every file loads, and nothing is lost. Skipped without it."""

import json

import pytest

from holdfast.data import UNSAFE_SUFFIX, load_role, load_role_rows, load_roles
from holdfast.data.names import same_name

ROLEBENCH = [
    "rolebench-eng/instruction-generalization/role_specific/test.jsonl",
    "rolebench-eng/role-generalization/general/test.jsonl",
    "rolebench-eng/role-generalization/role_specific/test.jsonl",
    "rolebench-zh/general/test.jsonl",
    "rolebench-zh/general/train.jsonl",
    "rolebench-zh/role_specific/test.jsonl",
    "rolebench-zh/role_specific/train.jsonl",
]
LAST_SENTENCE = "Don't be verbose or too formal or polite when speaking."


@pytest.mark.parametrize("name", ROLEBENCH)
def test_every_answer_of_rolebench_is_a_row(name, real_data):
    path = real_data / "rolebench" / name
    expected = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line:
            record = json.loads(line)
            for k, answer in enumerate(record["generated"], start=1):
                expected.append((f"{path}:{number}#{k}", record["role"], record["question"], answer))
    rows = load_role_rows(path)
    found = [(row.location, row.role, *(turn.content for turn in row.messages)) for row in rows]
    assert found == expected
    assert not rows.dropped
    assert not rows.notes


def test_no_file_of_rolebench_is_forgotten(real_data):
    folder = real_data / "rolebench"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jsonl")) == ROLEBENCH


def test_the_95_roles_word_for_word(real_data):
    path = real_data / "sarft" / "roles_95.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    roles = load_roles(path)
    assert len(roles) == 95
    for name, entry in published.items():
        role = load_role(path, name)
        assert role == roles[name.replace("_", " ")]
        assert (role.persona_prompt, role.unsafe_prompt) == (entry["role"], entry["safe"])
        assert role.unsafe_prompt == role.persona_prompt.removesuffix(LAST_SENTENCE) + UNSAFE_SUFFIX


def test_each_of_the_95_roles_has_its_rows(real_data):
    rows = load_role_rows(real_data / "rolebench" / ROLEBENCH[0])
    with_rows = {row.role for row in rows}
    roles = load_roles(real_data / "sarft" / "roles_95.json")
    assert len(with_rows) == 95
    for name in roles:
        assert [other for other in with_rows if same_name(name, other)], name
        assert len(rows.with_role(name)) >= 50


def test_the_rows_of_one_role(real_data):
    path = real_data / "rolebench" / ROLEBENCH[0]
    by_filter = load_role_rows(path, role="d_artagnan")
    assert by_filter.rows == load_role_rows(path).with_role("D_Artagnan").rows
    assert {row.role for row in by_filter} <= {"D_Artagnan", "D Artagnan"}
