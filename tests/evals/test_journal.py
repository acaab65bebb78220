import pytest

from holdfast.errors import HoldfastError
from holdfast.evals.journal import Journal, digest_of


def test_entries_come_back_after_closing(tmp_path):
    path = tmp_path / "deep" / "answers.jsonl"
    with Journal(path) as journal:
        journal.append("a", {"text": "one\nline"})
        journal.append("b", {"text": "日本語"})
        journal.append("a", {"text": "later"})
    again = Journal(path)
    assert (again.get("a"), again.get("b"), again.get("c"), len(again)) == (
        {"text": "later"},
        {"text": "日本語"},
        None,
        2,
    )


def test_a_line_cut_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.append("a", {"text": "one"})
    path.write_bytes(path.read_bytes() + b'{"key": "b", "text": "tw')
    with Journal(path) as journal:
        assert journal.get("b") is None
        journal.append("c", {"text": "three"})
    again = Journal(path)
    assert (again.get("a"), again.get("b"), again.get("c")) == ({"text": "one"}, None, {"text": "three"})


def test_a_damaged_line_is_work_to_do_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a", "text": "one"}\nnot json\n[]\n{"key": "b", "text": "two"}\n', encoding="utf-8")
    journal = Journal(path)
    assert (journal.get("a"), journal.get("b"), len(journal)) == ({"text": "one"}, {"text": "two"}, 2)


def test_an_entry_is_on_disk_when_append_returns(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.append("a", {"text": "one"})
        assert Journal(path).get("a") == {"text": "one"}


def test_a_digest_tells_parts_apart():
    assert digest_of("a", "b") != digest_of("ab", "")
    assert digest_of({"x": 1, "y": 2}) == digest_of({"y": 2, "x": 1})
    assert len(digest_of("\ud800")) == 32  # half a surrogate pair is no reason to stop


def test_a_second_process_that_appends_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append("a", {"value": 1})
        with pytest.raises(HoldfastError, match="another process is writing to this file"), Journal(path):
            pass
    with Journal(path) as again:
        assert again.get("a") == {"value": 1}


def test_what_was_added_before_the_lock_is_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    late = Journal(path)
    with Journal(path) as journal:
        journal.append("a", {"value": 1})
    with late:
        late.append("b", {"value": 2})
    assert len(Journal(path)) == 2
