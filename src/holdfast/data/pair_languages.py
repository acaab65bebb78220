"""The languages of parallel pairs where the data does not say them."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace

from holdfast.data.languages import languages_of
from holdfast.data.pair_halves import Half
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError


def with_languages(halves: Sequence[Half], dominant: str, source: str) -> list[Half]:
    """The halves with their languages filled in, from their prompts; None stays where the language cannot be told.

    Prompts are in their language far more reliably than answers. Raises HoldfastError where the dominant language
    is not where it belongs, or where a language is missing and the extra `languages` too.
    """
    if any(half.language is None for half in halves):
        halves = _by_elimination(halves, _detected(halves), dominant)
    _refuse_wrong_dominant(halves, dominant, source)
    return list(halves)


def user_text(prompt: Sequence[Message]) -> str:
    """What the user says in a prompt: its language counts, that of a system turn does not."""
    return "\n".join(turn.content for turn in prompt if turn.speaker == "user")


def _detected(halves: Sequence[Half]) -> list[Half]:
    prompts = list(dict.fromkeys(half.prompt for half in halves if half.language is None))
    given = {half.language for half in halves if half.language is not None}
    found = dict(zip(prompts, languages_of([user_text(prompt) for prompt in prompts], known=given), strict=True))
    sources = Counter(found[half.prompt] for half in halves if half.language is None and half.side == "source")
    # The source side has one language: a doubtful prompt there is in that of the others.
    of_sources = sources.most_common(1)[0][0] if sources else None
    return [
        half
        if half.language is not None
        else replace(half, language=of_sources if half.side == "source" else found[half.prompt])
        for half in halves
    ]


def _by_elimination(given: Sequence[Half], detected: Sequence[Half], dominant: str) -> list[Half]:
    """Languages of target prompts that are empty or were left untranslated, as three of the published ones are.

    Such a prompt is in the one language of the file that the other targets of its source are not in; where there is
    not exactly one, its language stays unknown.
    """
    stray = [
        before.language is None and half.side == "target" and half.language in (None, dominant)
        for before, half in zip(given, detected, strict=True)
    ]
    in_file: set[str | None] = set()
    in_group: dict[Hashable, set[str | None]] = {}
    for half, is_stray in zip(detected, stray, strict=True):
        if half.side == "target" and not is_stray:
            in_file.add(half.language)
            in_group.setdefault(half.group, set()).add(half.language)
    settled = []
    for half, is_stray in zip(detected, stray, strict=True):
        missing = in_file - in_group.get(half.group, set()) if is_stray else set()
        only = missing.pop() if len(missing) == 1 else None
        settled.append(replace(half, language=only) if is_stray else half)
    return settled


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
