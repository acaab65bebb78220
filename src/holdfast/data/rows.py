"""What a training row is: one conversation whose assistant turns are learnt."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

from holdfast.data.names import close_names, same_name
from holdfast.errors import HoldfastError

Speaker = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    speaker: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One training row: a conversation that ends with an assistant turn, and where it came from.

    `location` is `file:line` or the like (`files.read_records`), `#k` added for the k-th entry of RoleBench's
    `generated`; it is unique within a load, errors and score files point there. `role` is the data's role column.
    `harmful` is a given flag (selector `column`), None where the data has none.
    """

    messages: tuple[Message, ...]
    location: str
    role: str | None = None
    harmful: bool | None = None


@dataclass(frozen=True)
class RoleRows(Sequence[RoleRow]):
    """Loaded rows, in file order.

    `dropped` counts bad rows that were dropped, by reason; `notes` counts rows that were kept but changed.
    """

    rows: tuple[RoleRow, ...]
    source: str
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RoleRow]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> RoleRow: ...
    @overload
    def __getitem__(self, index: slice) -> "RoleRows": ...
    def __getitem__(self, index: int | slice) -> "RoleRow | RoleRows":
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return self.rows[index]

    def with_role(self, name: str) -> "RoleRows":
        """Only the rows whose role column is `name`, whatever its case and underscores; HoldfastError if none is."""
        rows = tuple(row for row in self.rows if row.role is not None and same_name(row.role, name))
        if not rows:
            others = {row.role for row in self.rows if row.role is not None}
            raise HoldfastError(f"{self.source}: no row of the role {name!r}; {close_names(name, others)}")
        return replace(self, rows=rows)

    def fingerprint(self) -> str:
        """SHA-256 over the conversations in order; locations and file names do not count."""
        return rows_fingerprint(self.rows)


def rows_fingerprint(rows: Iterable[RoleRow]) -> str:
    """SHA-256 (hex) over the rows' conversations, in order."""
    digest = hashlib.sha256()
    for row in rows:
        turns = [[message.speaker, message.content] for message in row.messages]
        digest.update(json.dumps(turns, ensure_ascii=False).encode())
    return digest.hexdigest()
