"""What the frozen reference says once, computed once and cached by fingerprint."""

from holdfast.reference.rds import RoleScores, RowScore, score_role_rows
from holdfast.reference.selectors import select_rows

__all__ = ["RoleScores", "RowScore", "score_role_rows", "select_rows"]
