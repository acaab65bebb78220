"""Whether an answer refuses, for the checks of preference data: by the rules of the judge `keyword`."""

from holdfast.refusals.rules import LANGUAGES, verdict_of


def has_refusal_phrase(text: str, language: str, prompt: str | None = None) -> bool | None:
    """Return whether a text refuses, in that language or another; None for a language whose refusals are not known."""
    if language not in LANGUAGES:
        return None
    return verdict_of(text, prompt) in ("refusal", "partial_refusal")
