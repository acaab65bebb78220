"""What a training row is: one conversation whose assistant turns are learnt."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

Speaker = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    speaker: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One training row: a conversation that ends with an assistant turn, and where it came from.

    `location` is `file:line` (or `file[index]` for a JSON list, `#k` added for the k-th entry of RoleBench's
    `generated`), unique within a load: errors and score files point there. `role` is the data's own role column.
    `harmful` is a given flag (selector `column`), None where the data has none.
    """

    messages: tuple[Message, ...]
    location: str
    role: str | None = None
    harmful: bool | None = None


@dataclass(frozen=True)
class RoleRows(Sequence[RoleRow]):
    """Loaded rows, in file order, with a count of what was dropped and why (reason -> rows)."""

    rows: tuple[RoleRow, ...]
    source: str
    dropped: Counter[str] = field(default_factory=Counter)

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
            return RoleRows(self.rows[index], self.source, self.dropped)
        return self.rows[index]

    def with_role(self, name: str) -> "RoleRows":
        """Only the rows whose role column is `name`."""
        return RoleRows(tuple(row for row in self.rows if row.role == name), self.source, self.dropped)

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
