"""Log-probabilities of answer tokens from logits: the quantity that every method here is built on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label of a token that is not trained, as in torch.nn.functional.cross_entropy


class AnswerTokens(NamedTuple):
    """The trained tokens of a batch, flattened over rows; N tokens in all."""

    logits: Tensor  # (N, V), at least float32: the logits that predict each token
    labels: Tensor  # (N,)
    row: Tensor  # (N,) index of the token's row in the batch


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float64 stays, so that a test can check the arithmetic in it."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def predicts_trained_token(labels: Tensor) -> Tensor:
    """(B, T) bool: position t is set where token t + 1 is trained. The last position predicts nothing."""
    return F.pad(labels[:, 1:] != IGNORED, (0, 1))


def answer_tokens(logits: Tensor, labels: Tensor) -> AnswerTokens:
    """Pick the trained tokens and the logits that predict them; prompt and padding cost no softmax.

    Args:
        logits: (B, T, V); position t predicts token t + 1.
        labels: (B, T), IGNORED where a token is not trained. The first token is never trained.
    """
    predicts = predicts_trained_token(labels)  # (B, T)
    row, position = predicts.nonzero(as_tuple=True)  # (N,), (N,)
    return AnswerTokens(at_least_float32(logits[row, position]), labels[row, position + 1], row)


def summed_by_row(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sum `values` (N,) into (rows,), value i going to `row[i]`."""
    return torch.zeros(rows, dtype=values.dtype, device=values.device).index_add(0, row, values)


def trained_token_counts(labels: Tensor) -> Tensor:
    """(B,) how many tokens of each row are trained; at least 1, so that an empty row divides by 1."""
    return (labels[:, 1:] != IGNORED).sum(1).clamp(min=1)


def summed_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) sum of log p(token) over each row's trained tokens. Shapes as in `answer_tokens`."""
    tokens = answer_tokens(logits, labels)
    logps = -F.cross_entropy(tokens.logits, tokens.labels, reduction="none")  # (N,)
    return summed_by_row(logps, tokens.row, labels.shape[0])


def mean_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) mean of log p(token) over each row's trained tokens: `mean_logp` of docs/deviations.md."""
    return summed_logps(logits, labels) / trained_token_counts(labels)
