"""Losses from hidden states and a head, in chunks and with recomputation: the values and gradients of plain logits."""

import pytest
import torch
import torch.nn.functional as F

from holdfast.losses import deferred as module
from holdfast.losses.constrained import constrained_sft_loss
from holdfast.losses.deferred import DeferredLogits, over_tokens
from holdfast.losses.logprobs import IGNORED, mean_logps, summed_logps
from holdfast.losses.sarft import sarft_loss

ROWS, WIDTH, HIDDEN, VOCABULARY = 4, 9, 8, 31
SWITCHES = {"beta": 0.7, "ce_normaliser": "response", "safe_loss": "kl", "kl_first_tokens": None}
PAPER = {"first_beta": 0.5, "early_beta": 2.0, "later_beta": 0.1, "early_tokens": 5}
CAPS = (None, 3.0)


class Spy:
    """A head that counts how often it is asked, and for how many tokens at most."""

    def __init__(self, weight, cap):
        self.weight, self.cap = weight, cap
        self.asked = []

    def __call__(self, hidden):
        self.asked.append(len(hidden))
        logits = hidden @ self.weight.T
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


@pytest.fixture(params=["at once", "recomputed"])
def chunks(request, monkeypatch):
    """How much is made at once and kept; the losses must not depend on it."""
    if request.param == "recomputed":
        monkeypatch.setattr(
            module, "CHUNK_BYTES", 4 * VOCABULARY * 4
        )  # four tokens, or two where two tensors are kept
    return request.param


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, reference_hidden = torch.randn(2, ROWS, WIDTH, HIDDEN, generator=generator).unbind()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    labels = torch.randint(0, VOCABULARY, (ROWS, WIDTH), generator=generator)
    labels[:, :3] = IGNORED
    labels[1, 6:] = IGNORED
    labels[2] = IGNORED  # a row without an answer
    return hidden.requires_grad_(), reference_hidden, weight.requires_grad_(), labels


def check(loss_of, cap, chunks):
    """`loss_of(logits, hidden to logits)` is the same for deferred and plain logits, with its gradients."""
    hidden, _, weight, labels = batch()
    head = Spy(weight, cap)
    ours = loss_of(DeferredLogits(hidden, head, VOCABULARY), lambda h: DeferredLogits(h, head, VOCABULARY))
    gradients = torch.autograd.grad(ours, (hidden, weight))
    asked = list(head.asked)

    plain_head = Spy(weight, cap)
    plain = loss_of(plain_head(hidden), lambda h: plain_head(h).detach())
    expected = torch.autograd.grad(plain, (hidden, weight))
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    for found, wanted in zip(gradients, expected, strict=True):  # 1e-5 of the largest entry
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
    if chunks != "at once":
        assert max(asked) <= 4
    return sum(asked), labels


@pytest.mark.parametrize("cap", CAPS)
def test_log_probabilities(cap, chunks):
    labels = batch()[-1]
    asked, _ = check(lambda logits, _: summed_logps(logits, labels).square().sum(), cap, chunks)
    trained = int((labels != IGNORED).sum())
    assert asked == trained * (1 if chunks == "at once" else 2)  # no prompt, no padding


@pytest.mark.parametrize("cap", CAPS)
def test_mean_is_torchs_cross_entropy(cap, chunks):
    hidden, _, weight, labels = batch()
    rows = [0, 1, 3]
    ours = mean_logps(DeferredLogits(hidden, Spy(weight, cap), VOCABULARY), labels)
    for row in rows:
        logits = Spy(weight, cap)(hidden[row, :-1])
        torch.testing.assert_close(ours[row], -F.cross_entropy(logits, labels[row, 1:], ignore_index=IGNORED))
    assert ours[2] == 0


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("span", ["response", "sequence"])
def test_sarft(cap, direction, span, chunks):
    _, reference_hidden, _, labels = batch()
    mask = torch.ones_like(labels)
    mask[1, 0] = 0
    harmful = torch.tensor([False, True, False, True])

    def loss(logits, reference_of):
        reference = reference_of(reference_hidden[harmful])
        switches = SWITCHES | {"kl_direction": direction, "kl_span": span}
        return sarft_loss(logits, reference, labels, mask, harmful, **switches).total.sum()

    check(loss, cap, chunks)


def test_constrained(chunks):
    labels = batch()[-1]
    reference_logps = -torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(3))
    check(
        lambda logits, _: constrained_sft_loss(logits, reference_logps, labels, **PAPER).total.sum(), None, chunks
    )


def test_no_token_at_all():
    hidden, _, weight, labels = batch()
    logps = summed_logps(DeferredLogits(hidden, Spy(weight, None), VOCABULARY), labels.fill_(IGNORED))
    logps.sum().backward()
    assert logps.tolist() == [0.0] * ROWS
    assert hidden.grad.abs().sum() == 0


def test_nothing_is_recomputed_without_a_gradient(monkeypatch):
    monkeypatch.setattr(module, "SCORED_BYTES", 4 * VOCABULARY)
    monkeypatch.setattr(module, "checkpoint", None)
    with torch.no_grad():
        numbers = torch.arange(5.0)
        doubled = over_tokens(lambda start, stop: 2 * numbers[start:stop], 5, vocabulary=VOCABULARY)
    assert doubled.tolist() == [0, 2, 4, 6, 8]
