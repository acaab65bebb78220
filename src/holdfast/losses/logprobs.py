"""Log-probabilities of answer tokens from logits: the quantity that every method here is built on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import Logits, deferred, negative_logps, over_tokens

IGNORED = -100  # the label of a token that is not trained, as in torch.nn.functional.cross_entropy


class AnswerTokens(NamedTuple):
    """The trained tokens of a batch (B, K), flattened over rows; N tokens in all."""

    place: Tensor  # (N,) the position that predicts the token: row * K + position
    labels: Tensor  # (N,) the token
    row: Tensor  # (N,) the answer that it belongs to


def next_labels(labels: Tensor) -> Tensor:
    """(B, T): the label of the token after each position; the last position predicts nothing."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def predicts_trained_token(labels: Tensor) -> Tensor:
    """(B, T) bool: position t is set where token t + 1 is trained."""
    return next_labels(labels) != IGNORED


def answer_tokens(labels: Tensor) -> AnswerTokens:
    """The trained tokens of rows with one answer each; prompt and padding cost no softmax.

    Args:
        labels: (B, T), IGNORED where a token is not trained. The first token is never trained.
    """
    following = next_labels(labels).flatten()
    place = (following != IGNORED).nonzero().squeeze(1)
    return AnswerTokens(place, following[place], place // labels.shape[1])


def token_logps(logits: Logits, tokens: AnswerTokens) -> Tensor:
    """(N,) log p(token) of each of the tokens, at least float32. `logits` are (B, K, V)."""
    policy = deferred(logits)
    hidden = policy.at(tokens.place)

    def negative(start: int, stop: int) -> Tensor:
        return negative_logps(policy.head(hidden[start:stop]), tokens.labels[start:stop])

    return -over_tokens(negative, len(hidden), vocabulary=policy.vocabulary)


def summed_by_row(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sum `values` (N,) into (rows,), value i going to `row[i]`."""
    return torch.zeros(rows, dtype=values.dtype, device=values.device).index_add(0, row, values)


def trained_token_counts(labels: Tensor) -> Tensor:
    """(B,) how many tokens of each row are trained; at least 1, so that an empty row divides by 1."""
    return (labels[:, 1:] != IGNORED).sum(1).clamp(min=1)


def summed_logps(logits: Logits, labels: Tensor) -> Tensor:
    """(B,) sum of log p(token) over each row's trained tokens. `logits` are (B, K, V), `labels` (B, K)."""
    tokens = answer_tokens(labels)
    return summed_by_row(token_logps(logits, tokens), tokens.row, labels.shape[0])


def mean_logps(logits: Logits, labels: Tensor) -> Tensor:
    """(B,) mean of log p(token) over each row's trained tokens: `mean_logp` of docs/deviations.md."""
    return summed_logps(logits, labels) / trained_token_counts(labels)
