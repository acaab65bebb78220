"""Rows and roles: what is trained, and for whom. Nothing here loads a model."""

from holdfast.data.formats import load_role_rows
from holdfast.data.pair_formats import load_parallel_pairs
from holdfast.data.pairs import ParallelPairs, PreferencePair
from holdfast.data.roles import HARMLESS_SUFFIX, UNSAFE_SUFFIX, Role, load_role, load_roles
from holdfast.data.rows import Message, RoleRow, RoleRows

__all__ = [
    "HARMLESS_SUFFIX",
    "UNSAFE_SUFFIX",
    "Message",
    "ParallelPairs",
    "PreferencePair",
    "Role",
    "RoleRow",
    "RoleRows",
    "load_parallel_pairs",
    "load_role",
    "load_role_rows",
    "load_roles",
]
