import pytest

from holdfast.data.rows import Message, RoleRow
from holdfast.errors import HoldfastError
from holdfast.reference.rds import RowScore
from holdfast.reference.selectors import select_rows

FLAGS = [True, False, False, True, False, False, False, True]
ROWS = [RoleRow((Message("assistant", "x"),), f"rows:{i + 1}", harmful=i == 2) for i in range(8)]
SCORES = [RowScore(i, f"rows:{i + 1}", -1.0, -0.9 if flag else -1.1, None, 3) for i, flag in enumerate(FLAGS)]


def test_rds_and_its_controls():
    assert select_rows("rds", ROWS, SCORES) == FLAGS
    assert select_rows("flip", ROWS, SCORES) == [not flag for flag in FLAGS]
    assert select_rows("all", ROWS, None) == [True] * 8
    assert select_rows("none", ROWS, None) == [False] * 8
    assert select_rows("column", ROWS, None) == [i == 2 for i in range(8)]


def test_random_keeps_the_count_and_forgets_the_rows():
    drawn = [select_rows("random", ROWS, SCORES, seed=seed) for seed in range(200)]
    assert all(sum(flags) == 3 for flags in drawn)
    assert select_rows("random", ROWS, SCORES, seed=7) == drawn[7]
    # Each row is flagged in 3/8 of the draws: 75 of 200, sd 6.8; five sd either way.
    assert all(41 <= sum(flags[i] for flags in drawn) <= 109 for i in range(8))


def test_column_names_the_row_without_a_flag():
    rows = [*ROWS, RoleRow(ROWS[0].messages, "rows:9")]
    with pytest.raises(HoldfastError, match="rows:9: field 'harmful' is missing"):
        select_rows("column", rows, None)


def test_scores_must_match_the_rows():
    with pytest.raises(HoldfastError, match="one RDS score for each row"):
        select_rows("rds", ROWS, SCORES[:-1])
