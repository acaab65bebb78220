"""Rouge-L, the measure of role fidelity: F-measure of the longest common subsequence of two texts' words.

English is computed as the SaRFT paper computes it. Its tokenizer knows Latin letters only, so every other language
has its own words here: a character is one where the script writes no spaces (Chinese, Japanese, Thai and their
neighbours), else what stands between spaces. Characters are what Chinese summarisation reports (Hu et al. 2015,
LCSTS) and need no dictionary; others segment with jieba, which gives lower scores (docs/benchmarks.md).
"""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from holdfast.data.languages import language_code

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

# Scripts that put no space between words, as (first, last) character.
_UNSPACED = (
    ("\u0e00", "\u0eff"),  # Thai, Lao
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
    ("\u3040", "\u30ff"),  # Kana
    ("\u3400", "\u4dbf"),  # Han
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0003ffff"),
)


def rouge_l(prediction: str, reference: str, language: str | None = None) -> float:
    """Rouge-L F-measure in [0, 1]; 0 where either text has no word.

    `language` is the reference's, ISO 639-1. For English, and where it is None, words are runs of a-z and 0-9 after
    lower-casing, Porter-stemmed when longer than three letters: a text in another script then has no words and
    scores 0. For any other language see `words`; nothing is stemmed.
    Source: Lin 2004; evaluation/metrics/RougeL.py of https://github.com/yulinlp/SaRFT (which reports it x 100).
    """
    english = language is None or language_code(language) == "en"
    return float(_scorer(english).score(reference, prediction)["rougeL"].fmeasure)


def rouge_l_max(prediction: str, references: Sequence[str], language: str | None = None) -> float:
    """The best Rouge-L against any of several acceptable answers."""
    if not references:
        raise ValueError("rouge_l_max needs at least one reference")
    return max(rouge_l(prediction, reference, language) for reference in references)


def role_fidelity(
    prediction: str,
    references: Sequence[str],
    language: str | None = None,
    *,
    use: Literal["first", "max"] = "first",
) -> float:
    """Rouge-L of an answer in a role, against the first reference or the best.

    SaRFT scores against one reference a prompt, so `first` is the default; RoleBench gives up to five for a general
    instruction, and `max` over them is higher.
    """
    if not references:
        raise ValueError("role_fidelity needs at least one reference")
    return rouge_l_max(prediction, references[:1] if use == "first" else references, language)


def words(text: str) -> list[str]:
    """The words of a text in any language, folded in case and width; punctuation and emoji are none.

    A letter or digit of a script without spaces is a word, with the marks that follow it; other letters, digits and
    marks in a row are one.
    """
    found: list[str] = []
    joins = False  # whether the next character continues the last word
    for character in unicodedata.normalize("NFKC", text).casefold():
        sort = unicodedata.category(character)[0]
        if sort == "M" and found and joins:
            found[-1] += character
        elif sort not in "LNM":
            joins = False
        elif joins and not _unspaced(character) and not _unspaced(found[-1]):
            found[-1] += character
        else:
            found.append(character)
            joins = True
    return found


def _unspaced(word: str) -> bool:
    """Whether a word, or a character, is of a script without spaces."""
    return any(first <= word[0] <= last for first, last in _UNSPACED)


class _AnyLanguage:
    """The tokenizer that rouge_score asks for."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return words(text)


class _Remembering:
    """A stemmer that looks a word up once: the answers of a benchmark say the same words over and over."""

    def __init__(self, stem: Callable[[str], str]):
        self.stem = lru_cache(maxsize=50_000)(stem)


class _English:
    """rouge_score's own words."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stemmer = _Remembering(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """The stemmed words of a text."""
        from rouge_score.tokenize import tokenize

        return list(tokenize(text, self.stemmer))


@cache
def _scorer(english: bool) -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports NLTK, which takes a second

    return RougeScorer(["rougeL"], tokenizer=_English() if english else _AnyLanguage())
