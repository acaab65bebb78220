"""Rouge-L as the SaRFT paper computes role fidelity: F-measure of the longest common subsequence, stemmed."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


def rouge_l(prediction: str, reference: str) -> float:
    """Rouge-L F-measure in [0, 1]; 0 where either text has no word.

    Words are runs of a-z and 0-9 after lower-casing, Porter-stemmed when longer than three letters. So a text
    in a script without Latin letters has no words and scores 0: do not use this for Chinese roles.
    Source: Lin 2004; evaluation/metrics/RougeL.py of https://github.com/yulinlp/SaRFT (which reports it x 100).
    """
    return float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


def rouge_l_max(prediction: str, references: Sequence[str]) -> float:
    """The best Rouge-L against any of several acceptable answers."""
    if not references:
        raise ValueError("rouge_l_max needs at least one reference")
    return max(rouge_l(prediction, reference) for reference in references)


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports NLTK, which takes a second

    return RougeScorer(["rougeL"], use_stemmer=True)
