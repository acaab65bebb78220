"""Which of a benchmark's prompts are used: by language, category, role and number."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from holdfast.data.files import shortened
from holdfast.data.names import canonical, close_names, shown_name
from holdfast.errors import HoldfastError
from holdfast.samples import Prompt


def selected(
    located: Iterable[tuple[str, Prompt]],
    *,
    name: str,
    languages: Sequence[str] | None,
    categories: Sequence[str] | None,
    roles: Sequence[str] | None,
    limit: int | None,
) -> list[Prompt]:
    """The prompts that are wanted, in their order. Raises HoldfastError where an id is there twice or a wish fails."""
    prompts = _with_unique_ids(located)
    if not prompts:
        raise HoldfastError(f"{name}: there is no prompt in the data; check the file")
    kept = prompts
    for what, values_of, wanted in (
        ("language", _languages, languages),
        ("category", lambda prompt: prompt.categories, categories),
        ("role", _roles, roles),
    ):
        if wanted is not None:
            _require(wanted, {value for prompt in prompts for value in values_of(prompt)}, name, what)
            kept = _with_any(kept, values_of, wanted)
    if not kept:
        raise HoldfastError(f"{name}: no prompt has all that is asked for; ask for fewer at once")
    return kept if limit is None else _first(kept, limit)


def _with_unique_ids(located: Iterable[tuple[str, Prompt]]) -> list[Prompt]:
    places: dict[str, str] = {}
    prompts = []
    for place, prompt in located:
        if prompt.id in places:
            raise HoldfastError(
                f"{place}: field 'id': {shortened(prompt.id)} is at {places[prompt.id]} already; give each prompt "
                "its own id"
            )
        places[prompt.id] = place
        prompts.append(prompt)
    return prompts


def _languages(prompt: Prompt) -> list[str]:
    return [prompt.language] if prompt.language else []


def _roles(prompt: Prompt) -> list[str]:
    return [prompt.role] if prompt.role else []


def _require(wanted: Sequence[str], there: set[str], name: str, what: str) -> None:
    known = {canonical(value) for value in there}
    for value in wanted:
        if canonical(value) in known:
            continue
        if not there:
            hint = "none has one"
        elif what == "language":  # few, and codes have no near misses
            hint = f"there are {', '.join(map(shown_name, sorted(there)))}"
        else:
            hint = close_names(value, there)
        raise HoldfastError(f"{name}: no prompt has the {what} {shortened(value)}; {hint}")


def _with_any(
    prompts: list[Prompt], values_of: Callable[[Prompt], Sequence[str]], wanted: Sequence[str]
) -> list[Prompt]:
    chosen = set(map(canonical, wanted))
    return [prompt for prompt in prompts if chosen & set(map(canonical, values_of(prompt)))]


def _first(prompts: list[Prompt], limit: int) -> list[Prompt]:
    """The first prompt of each language and role, the second of each, ... until there are enough."""
    seen: Counter[tuple[str | None, str | None]] = Counter()
    ranks = []
    for prompt in prompts:
        group = prompt.language, prompt.role
        ranks.append(seen[group])
        seen[group] += 1
    chosen = sorted(range(len(prompts)), key=ranks.__getitem__)[:limit]  # stable: within a rank by place
    return [prompts[index] for index in sorted(chosen)]
