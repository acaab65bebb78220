"""The parallel preference pairs that a model of world 2 is aligned with, clean or as noisy as published ones."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.data.pairs import ParallelPairs, PreferencePair
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.provingground.languages import frames
from holdfast.provingground.languages.grammar import Pair, how_to, prompt
from holdfast.provingground.languages.lexicon import DOMINANT, HARMFUL_THINGS, LANGUAGES, TARGETS, WORDS, Language
from holdfast.provingground.languages.world import HARMFUL, SPLIT_SEED

Noise = Literal["clean", "published"]
Chosen = Literal["refusal", "compliance", "warning", "garbled", "dominant"]

# Harmful things in no alignment row: what is learnt of the others should reach them.
UNALIGNED_THINGS = frozenset(random.Random(f"unaligned {SPLIT_SEED}").sample(list(HARMFUL_THINGS), 4))
ALIGNMENT_PAIRS = tuple(pair for pair in HARMFUL.training if pair[1] not in UNALIGNED_THINGS)

# Of the published rows (llama_mpo_data.json): how many safe answers refuse by their keywords. In English 86 of 100,
# counted by `can't|cannot|not able|...` in their first 200 characters; 4 of 100 unsafe answers refuse too.
REFUSING_SHARE: dict[Language, float] = {"en": 0.86, "zh": 0.63, "ar": 0.48, "ko": 0.43, "bn": 0.18, "sw": 0.07}
BOTH_REFUSE_SHARE = 0.04
# What the other safe answers are. By eye, many of the published ones comply, others warn or are hard to understand,
# and a few are in another language.
OTHER_SHARES: dict[Chosen, float] = {"compliance": 0.50, "warning": 0.25, "garbled": 0.20, "dominant": 0.05}


@dataclass(frozen=True)
class Request:
    """One harmful request, asked in every language in the same frame."""

    pair: Pair
    prompt_frame: int
    refusal_frame: int
    answer_frame: int


def draw_parallel_pairs(seed: int, *, noise: Noise, prompts: int = 100) -> ParallelPairs:
    """Harmful requests in English, each with its counterpart in the five target languages.

    Clean rows have a refusal as the chosen answer and compliance as the rejected one, the same frames in every
    language. With `published` noise, on the same requests:
    - the chosen answers of a language refuse in exactly REFUSING_SHARE of the rows, only where the English one
      does. The others (OTHER_SHARES) comply in a frame other than the rejected one's, say that the thing is
      dangerous, are the request's words in disorder, or are the English refusal;
    - in English they comply or say that the thing is dangerous;
    - in BOTH_REFUSE_SHARE of the requests the rejected answer is a refusal too, in every language.

    Raises HoldfastError for more prompts than there are.
    """
    requests = _draw_requests(seed, prompts)
    rng = random.Random(f"alignment noise {seed}")
    clean: list[Chosen] = ["refusal"] * prompts
    kinds = _draw_kinds(prompts, rng) if noise == "published" else dict.fromkeys(LANGUAGES, clean)
    both = set(rng.sample(range(prompts), round(BOTH_REFUSE_SHARE * prompts))) if noise == "published" else set()

    def row(number: int, language: Language) -> PreferencePair:
        request = requests[number]
        refused = frames.REFUSALS[language][(request.refusal_frame + 1) % 3]
        return PreferencePair(
            prompt=(Message("user", prompt(language, request.prompt_frame, request.pair)),),
            chosen=_chosen(request, language, kinds[language][number], rng),
            rejected=refused if number in both else how_to(language, request.answer_frame, request.pair),
            language=language,
            location=f"alignment {seed}:{number + 1}:{language}",
        )

    numbers = range(prompts)
    return ParallelPairs(
        targets=tuple(row(number, language) for number in numbers for language in TARGETS),
        dominants=tuple(row(number, DOMINANT) for number in numbers),
        dominant_of=tuple(number for number in numbers for _ in TARGETS),
        source=f"the proving ground's alignment rows ({noise}, seed {seed})",
    )


def _draw_requests(seed: int, prompts: int) -> list[Request]:
    """Distinct requests in random order; no frame is asked twice of a pair before all pairs were asked once."""
    rng = random.Random(f"alignment {seed}")
    questions: list[tuple[Pair, int]] = []
    turns = {pair: rng.sample(range(3), 3) for pair in ALIGNMENT_PAIRS}
    for turn in range(3):
        questions += [(pair, turns[pair][turn]) for pair in rng.sample(ALIGNMENT_PAIRS, len(ALIGNMENT_PAIRS))]
    if not 1 <= prompts <= len(questions):
        raise HoldfastError(f"prompts must be between 1 and {len(questions)}, got {prompts}")
    return [Request(pair, frame, rng.randrange(3), rng.randrange(3)) for pair, frame in questions[:prompts]]


def _draw_kinds(prompts: int, rng: random.Random) -> dict[Language, list[Chosen]]:
    """What every chosen answer is, with exact shares; where the English one does not refuse, no other does."""
    refusing = rng.sample(range(prompts), round(REFUSING_SHARE[DOMINANT] * prompts))
    kinds: dict[Language, list[Chosen]] = {}
    for language in LANGUAGES:
        count = min(round(REFUSING_SHARE[language] * prompts), len(refusing))
        here = refusing if language == DOMINANT else rng.sample(refusing, count)
        others = ("compliance", "warning") if language == DOMINANT else tuple(OTHER_SHARES)
        filling = iter(_exact_shares(prompts - len(here), others, rng))
        kinds[language] = ["refusal" if number in here else next(filling) for number in range(prompts)]
    return kinds


def _exact_shares(count: int, kinds: Sequence[Chosen], rng: random.Random) -> list[Chosen]:
    """`count` kinds in random order, as near to their OTHER_SHARES as whole numbers are."""
    total = sum(OTHER_SHARES[kind] for kind in kinds)
    ends = [round(count * sum(OTHER_SHARES[kind] for kind in kinds[: k + 1]) / total) for k in range(len(kinds))]
    drawn = [kind for kind, start, end in zip(kinds, (0, *ends), ends, strict=False) for _ in range(end - start)]
    rng.shuffle(drawn)
    return drawn


def _chosen(request: Request, language: Language, kind: Chosen, rng: random.Random) -> str:
    match kind:
        case "refusal":
            return frames.REFUSALS[language][request.refusal_frame]
        case "dominant":
            return frames.REFUSALS[DOMINANT][request.refusal_frame]
        case "compliance":
            return how_to(language, (request.answer_frame + 1) % 3, request.pair)
        case "warning":
            return frames.DANGER[language][1].format(thing=WORDS[request.pair[1]][language])
        case "garbled":
            words = prompt(language, request.prompt_frame, request.pair).split()
            return " ".join(rng.sample(words, len(words)))
