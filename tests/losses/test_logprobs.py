import math

import torch

from holdfast.losses.logprobs import IGNORED, mean_logps, summed_logps

# Two tokens in the vocabulary; a logit of log 3 against 0 is probability 3/4.
L3 = math.log(3)


def test_hand_worked():
    logits = torch.tensor([[[L3, 0.0], [0.0, L3], [9.0, 9.0]]])  # position 0 predicts token 1, position 1 token 2
    labels = torch.tensor([[IGNORED, 0, 0]])  # p = 3/4, then p = 1/4
    expected = math.log(3 / 4) + math.log(1 / 4)
    torch.testing.assert_close(summed_logps(logits, labels), torch.tensor([expected]))
    torch.testing.assert_close(mean_logps(logits, labels), torch.tensor([expected / 2]))


def test_against_a_float64_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[torch.rand(3, 7, generator=generator) < 0.4] = IGNORED
    for row in range(3):
        terms = []
        for t in range(1, 7):
            if labels[row, t] != IGNORED:
                scores = logits[row, t - 1].tolist()
                normaliser = math.log(sum(math.exp(score) for score in scores))
                terms.append(scores[int(labels[row, t])] - normaliser)
        assert math.isclose(summed_logps(logits, labels)[row].item(), sum(terms), abs_tol=1e-12)
        assert math.isclose(mean_logps(logits, labels)[row].item(), sum(terms) / len(terms), abs_tol=1e-12)


def test_half_precision_logits_are_normalised_in_float32():
    logits = torch.randn(1, 4, 1000, generator=torch.Generator().manual_seed(1)).bfloat16()
    labels = torch.tensor([[IGNORED, 3, 500, 999]])
    torch.testing.assert_close(mean_logps(logits, labels), mean_logps(logits.float(), labels), rtol=0, atol=0)
    assert mean_logps(logits, labels).dtype == torch.float32
