"""Which training rows are anchored to the reference."""

import random
from collections.abc import Sequence
from typing import Literal

from holdfast.data.rows import RoleRow
from holdfast.errors import HoldfastError
from holdfast.reference.rds import RowScore

Selector = Literal["rds", "all", "none", "random", "flip", "column"]

NEEDS_SCORES: frozenset[Selector] = frozenset({"rds", "random", "flip"})


def select_rows(
    selector: Selector, rows: Sequence[RoleRow], scores: Sequence[RowScore] | None, *, seed: int = 0
) -> list[bool]:
    """Flags for `rows`, aligned with them.

    Args:
        selector: `rds` the paper's rule; `all` uniform KL; `none` plain fine-tuning; `random` as many rows as RDS
            flags, drawn at random (the published code permutes flags within a micro-batch, this permutes them over
            the data); `flip` the rows RDS does not flag; `column` the data's own `harmful` column.
        rows: the rows that are trained.
        scores: their RDS scores, aligned; needed by rds, random and flip.
        seed: of `random`.
    """
    if selector == "all":
        return [True] * len(rows)
    if selector == "none":
        return [False] * len(rows)
    if selector == "column":
        return [_given_flag(row) for row in rows]
    if scores is None or len(scores) != len(rows):
        raise HoldfastError(f"selector {selector} needs one RDS score for each row; score the rows first")
    flags = [score.harmful for score in scores]
    if selector == "flip":
        return [not flag for flag in flags]
    if selector == "random":
        random.Random(seed).shuffle(flags)
    return flags


def _given_flag(row: RoleRow) -> bool:
    if row.harmful is None:
        raise HoldfastError(
            f"{row.location}: field 'harmful' is missing; selector column needs it, true or false, in every row"
        )
    return row.harmful
