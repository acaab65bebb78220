"""The model as the selectors ask it: left as it was found, one loss a row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from holdfast.data.collator import Example, RoleCollator, answer_span, forward_inputs
from holdfast.forward import deferred_logits
from holdfast.losses.logprobs import mean_logps
from holdfast.models import Policy


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen weights inside the block; afterwards every flag is what it was."""
    modes = [(module, module.training) for module in model.modules()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, was_training in modes:
            module.training = was_training


def row_losses(model: Policy, pad_token_id: int, examples: Sequence[Example]) -> Tensor:
    """(B,) mean cross-entropy over each row's trained tokens, float32, with its graph where gradients are on."""
    batch = {key: value.to(model.device) for key, value in RoleCollator(pad_token_id)(examples).items()}
    labels = batch["labels"]
    span = answer_span(labels)
    logits = deferred_logits(model, span, **forward_inputs(batch))
    return -mean_logps(logits, labels[:, -span:])
