"""The languages of parallel pairs where the data does not say them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

from holdfast.data.languages import languages_of, sure_language
from holdfast.data.pair_halves import Half
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError

_PROMPT_VOTE = (
    1.5  # against 1 of each answer: prompts are in their language more reliably than one answer, not two
)
_SWITCH = 2.0  # parts of sources that must be in another language before a new block of sources begins


def with_languages(halves: Sequence[Half], dominant: str, source: str) -> list[Half]:
    """Return the halves with their languages filled in; None stays where the language cannot be told.

    Raises HoldfastError where the dominant language is not where it belongs, or where a language is missing and the
    extra `languages` too.
    """
    filled = list(halves)
    if any(half.language is None for half in halves):
        filled = _with_target_languages(_with_source_languages(halves))
    _refuse_wrong_dominant(filled, dominant, source)
    return filled


def user_text(prompt: Sequence[Message]) -> str:
    """Return what the user says in a prompt: its language counts, that of a system turn does not."""
    return "\n".join(turn.content for turn in prompt if turn.speaker == "user")


# --- sources: one language a block, since files of different dominant languages are concatenated


def _with_source_languages(halves: Sequence[Half]) -> list[Half]:
    sources = {half.group: half for half in reversed(halves) if half.side == "source" and half.language is None}
    in_order = list(reversed(sources.values()))
    prompts = _prompt_languages(in_order, halves)
    parts = [[prompts[half.prompt], *_answer_languages(half)] for half in in_order]
    language_of = dict(zip((half.group for half in in_order), _by_block(parts), strict=True))
    return [
        replace(half, language=language_of[half.group])
        if half.side == "source" and half.language is None
        else half
        for half in halves
    ]


def _by_block(parts: Sequence[Sequence[str | None]]) -> list[str | None]:
    """Return one language for each source: the fewest parts in another language, plus a price for each change."""
    languages = list(dict.fromkeys(language for part in parts for language in part if language is not None))
    if not languages:
        return [None] * len(parts)
    cost = dict.fromkeys(languages, 0.0)
    came_from: list[dict[str, str]] = []
    for part in parts:
        cheapest = min(languages, key=cost.__getitem__)
        before = {
            language: language if cost[language] <= cost[cheapest] + _SWITCH else cheapest
            for language in languages
        }
        cost = {
            language: cost[before[language]]
            + _SWITCH * (before[language] != language)
            + sum(found not in (None, language) for found in part)
            for language in languages
        }
        came_from.append(before)
    path: list[str | None] = []
    language = min(languages, key=cost.__getitem__)
    for before in reversed(came_from):
        path.append(language)
        language = before[language]
    return path[::-1]


# --- the others: by prompt and answers, and by what the other rows of the request are in


def _with_target_languages(halves: Sequence[Half]) -> list[Half]:
    """Return the halves with a language for each prompt, also where it is empty or was left untranslated.

    Such a row is told by its answers, else by the one language of the file that its request's other rows are not in.
    """
    open_halves = [half for half in halves if half.language is None and half.side != "source"]
    prompts = _prompt_languages(open_halves, halves)
    source_of = {half.group: half.language for half in halves if half.side == "source"}

    def prompt_language(half: Half) -> str | None:
        found = prompts[half.prompt]
        return None if half.side == "target" and found == source_of[half.group] else found

    taken: dict[Hashable, Counter[str]] = {}
    for half in halves:
        if half.side != "source" and half.language is not None:
            taken.setdefault(half.group, Counter())[half.language] += 1
    in_file = {half.language for half in halves if half.side != "source" and half.language is not None}
    in_file |= {language for half in open_halves if (language := prompt_language(half)) is not None}
    votes = {id(half): _votes(prompt_language(half), _answer_languages(half)) for half in open_halves}
    settled: dict[int, str | None] = {}
    for half in sorted(
        open_halves, key=lambda half: -max(votes[id(half)].values(), default=0)
    ):  # the surest first
        there = taken.setdefault(half.group, Counter())
        language = _elected(votes[id(half)], there, in_file)
        settled[id(half)] = language
        if language is not None:
            there[language] += 1
    for half in open_halves:
        if settled[id(half)] is None and half.side == "target":
            left = in_file - taken[half.group].keys()
            settled[id(half)] = left.pop() if len(left) == 1 else None
    return [replace(half, language=settled[id(half)]) if id(half) in settled else half for half in halves]


def _votes(prompt: str | None, answers: Iterable[str | None]) -> dict[str, float]:
    votes: dict[str, float] = {} if prompt is None else {prompt: _PROMPT_VOTE}
    for language in answers:
        if language is not None:
            votes[language] = votes.get(language, 0.0) + 1
    return votes


def _elected(votes: dict[str, float], taken: Counter[str], in_file: set[str]) -> str | None:
    """Return the language with most votes; one less where another row of the request has it, or no prompt has."""
    scores = {
        language: number - (language in taken) - (language not in in_file) for language, number in votes.items()
    }
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] > 0 else None


def _prompt_languages(wanted: Sequence[Half], halves: Sequence[Half]) -> dict[tuple[Message, ...], str | None]:
    """Return the language of each prompt; what is not sure is decided among the languages of the file."""
    given = {half.language for half in halves if half.language is not None}
    prompts = list(dict.fromkeys(half.prompt for half in wanted))
    return dict(zip(prompts, languages_of([user_text(prompt) for prompt in prompts], known=given), strict=True))


def _answer_languages(half: Half) -> Iterator[str | None]:
    return map(sure_language, (half.chosen, half.rejected))


def _refuse_wrong_dominant(halves: Sequence[Half], dominant: str, source: str) -> None:
    languages = dict.fromkeys(half.language for half in halves if half.language is not None)
    sources = dict.fromkeys(
        half.language for half in halves if half.side == "source" and half.language is not None
    )
    if sources and dominant not in sources:
        raise HoldfastError(
            f"{source}: the source side is in {', '.join(sources)}, not in the dominant language '{dominant}'; "
            f"give '{next(iter(sources))}' as the dominant language"
        )
    if languages and dominant not in languages:
        raise HoldfastError(
            f"{source}: no pair in the dominant language '{dominant}', the data have {', '.join(languages)}; "
            "give one of them as the dominant language"
        )
