"""Our log-probabilities and cross-entropy against what other libraries compute from the same tensors."""

import torch
from trl.trainer.utils import selective_log_softmax

from holdfast.losses.logprobs import IGNORED, summed_logps
from holdfast.losses.sarft import sarft_loss
from tests.architectures import ARCHITECTURES
from tests.losses.test_sarft import HOLDFAST, random_batch


def test_summed_logps_are_trl_s():
    logits, _, labels, _, _ = random_batch(dtype=torch.float32)
    trained = labels[:, 1:] != IGNORED
    expected = selective_log_softmax(logits[:, :-1], labels[:, 1:].clamp(min=0)).masked_fill(~trained, 0).sum(1)
    torch.testing.assert_close(summed_logps(logits, labels), expected, rtol=1e-5, atol=1e-5)


def test_one_row_s_cross_entropy_is_transformers_own_loss():
    model = ARCHITECTURES["llama3"].model()
    ids = torch.arange(10, 30)[None]
    labels = ids.clone()
    labels[:, :8] = IGNORED
    with torch.no_grad():
        outputs = model(input_ids=ids, labels=labels)
    mask, unflagged = torch.ones_like(ids), torch.tensor([False])
    ours = sarft_loss(outputs.logits, None, labels, mask, unflagged, beta=0.0, **HOLDFAST)
    torch.testing.assert_close(ours.total.mean(), outputs.loss, rtol=1e-6, atol=1e-6)
