"""The restatement against plain float64 loops over rows without padding, and against our loss under its switches."""

import pytest
import torch

from benchmarks.published_sarft import IGNORED, Views, collate, mean_logps, padded, rds_flags, sarft_step_loss
from benchmarks.sarft_step import make_case
from benchmarks.step_models import frozen_copy, llama
from holdfast.losses.sarft import sarft_loss

CPU = torch.device("cpu")
BETA = 0.7


@pytest.fixture
def case(options, lengths, tmp_path):
    """A case in float64; the policy is not the reference."""
    made = make_case(options, 64, str(tmp_path), lengths)
    made.aligned.double()
    made.policy.double()
    with torch.no_grad():
        for model, seed in ((made.aligned, 1), (made.policy, 2)):
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def logps_of(model, example):
    """(T - 1, V) float64 log-probabilities at the positions of one row without padding."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)


def mean_logp(model, example):
    """The mean log-probability of one row's trained tokens."""
    logps, ids = logps_of(model, example), example["input_ids"]
    own = [logps[t - 1, ids[t]].item() for t in range(1, len(ids)) if example["trained"][t]]
    return sum(own) / len(own)


def test_rows_stand_on_the_right_under_each_prompt(case):
    batch = collate(case.views[:2], 0, CPU)
    for made, examples in zip(batch, zip(*case.views[:2], strict=True), strict=True):
        assert made.input_ids.shape[1] == max(len(example["input_ids"]) for example in examples)
        for index, example in enumerate(examples):
            own = len(example["input_ids"])
            assert made.input_ids[index, -own:].tolist() == example["input_ids"]
            assert made.attention_mask[index].tolist() == [0] * (made.input_ids.shape[1] - own) + [1] * own
            learnt = [
                token for token, wanted in zip(example["input_ids"], example["trained"], strict=True) if wanted
            ]
            assert [label for label in made.labels[index].tolist() if label != IGNORED] == learnt


def test_flags_say_where_the_unsafe_prompt_makes_the_answer_likelier(case):
    batch = collate(case.views, 0, CPU)
    wanted = [mean_logp(case.aligned, v.unsafe) > mean_logp(case.aligned, v.role) for v in case.views]
    assert rds_flags(case.aligned, batch.role, batch.unsafe).tolist() == wanted
    assert len(set(wanted)) == 2  # both kinds are here


def test_mean_log_probabilities_are_those_of_a_loop(case):
    made = padded([view.role for view in case.views], 0, CPU)
    with torch.no_grad():
        logits = case.aligned(input_ids=made.input_ids, attention_mask=made.attention_mask).logits
    wanted = [mean_logp(case.aligned, view.role) for view in case.views]
    torch.testing.assert_close(mean_logps(logits, made.labels), torch.tensor(wanted).double(), rtol=2e-5, atol=0)


def test_the_loss_is_the_published_formula(case):
    """CE and forward KL, both over prompt and answer and divided by their length. Float32 within: 1e-5."""
    batch = collate(case.views, 0, CPU)
    terms = []
    for view in case.views:
        ids, trained = view.plain["input_ids"], view.plain["trained"]
        policy, reference = logps_of(case.policy, view.plain), logps_of(case.aligned, view.plain)
        nll = -sum(policy[t - 1, ids[t]].item() for t in range(1, len(ids)) if trained[t])
        kl = sum((reference[t].exp() * (reference[t] - policy[t])).sum().item() for t in range(len(ids)))
        flagged = mean_logp(case.aligned, view.unsafe) > mean_logp(case.aligned, view.role)
        terms.append((nll + BETA * flagged * kl) / len(ids))
    loss = sarft_step_loss(case.policy, case.aligned, batch, beta=BETA)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_loss_and_gradients_are_those_of_our_loss_with_the_published_switches(options):
    """float32, 1e-5 relative; the published divisors have 1e-5 added, which is 1e-6 of the shortest row."""
    policy = llama(options, 64)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    reference = frozen_copy(llama(options, 64))
    lengths, answers = (11, 16), (4, 7)
    rows = [
        {
            "input_ids": torch.randint(6, 64, (length,)).tolist(),
            "trained": [False] * (length - answer) + [True] * answer,
        }
        for length, answer in zip(lengths, answers, strict=True)
    ]
    batch = collate([Views(row, row, row) for row in rows], 0, CPU)
    harmful = torch.tensor([True, False])
    published = sarft_step_loss(policy, reference, batch, beta=BETA, harmful=harmful)
    published.backward()
    gradients = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.zero_grad()

    inputs = {"input_ids": batch.plain.input_ids, "attention_mask": batch.plain.attention_mask}
    ours = sarft_loss(
        policy(**inputs).logits,
        reference(**inputs).logits[harmful],
        batch.plain.labels,
        batch.plain.attention_mask,
        harmful,
        beta=BETA,
        ce_normaliser="sequence",
        kl_span="sequence",
        kl_direction="forward",
        safe_loss="kl",
        kl_first_tokens=None,
    ).total.mean()
    ours.backward()
    torch.testing.assert_close(published, ours, rtol=1e-5, atol=0)
    for gradient, parameter in zip(gradients, policy.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)
