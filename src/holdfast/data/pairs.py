"""What a parallel preference row is: the same request with a safe and an unsafe answer, in two languages."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from holdfast.data.rows import Message


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A request with a safe (`chosen`) and an unsafe (`rejected`) answer, in one language.

    `prompt` ends with a user turn. `language` is an ISO 639-1 code. `location` is where the row came from
    (`files.read_records`); errors and warnings point there.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    language: str
    location: str


@dataclass(frozen=True)
class ParallelPairs:
    """Pairs in target languages, each with its counterpart in the dominant language.

    `targets[i]` says the same as `dominants[dominant_of[i]]`. One dominant pair usually serves several targets and
    stands here once. `warnings` counts what looks wrong but was kept, `examples` holds the first places of each,
    `dropped` counts what was left out.
    """

    targets: tuple[PreferencePair, ...]
    dominants: tuple[PreferencePair, ...]
    dominant_of: tuple[int, ...]
    source: str
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def dominant_language(self) -> str:
        """The language of the dominant pairs."""
        return self.dominants[0].language

    @property
    def languages(self) -> tuple[str, ...]:
        """The dominant language first, then the target languages in the order they appear."""
        return tuple(dict.fromkeys((self.dominant_language, *(pair.language for pair in self.targets))))

    def fingerprint(self) -> str:
        """SHA-256 over texts, languages and how they belong together; locations and file names do not count."""
        digest = hashlib.sha256(pairs_fingerprint((*self.dominants, *self.targets)).encode())
        digest.update(json.dumps(self.dominant_of).encode())
        return digest.hexdigest()


def pairs_fingerprint(pairs: Iterable[PreferencePair]) -> str:
    """SHA-256 (hex) over the pairs' texts and languages, in order."""
    digest = hashlib.sha256()
    for pair in pairs:
        turns = [[message.speaker, message.content] for message in pair.prompt]
        record = [turns, pair.chosen, pair.rejected, pair.language]
        digest.update(json.dumps(record, ensure_ascii=False).encode())
    return digest.hexdigest()
