"""The second reading of a batch: its own prompts, its own cache, perhaps another adapter, the same new tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from holdfast.errors import HoldfastError
from holdfast.forward import cache_argument, kept_cache
from holdfast.models import Policy


class Branch:
    """What a model says after prompts of its own and the tokens that were chosen elsewhere.

    The prompts are read once; each new token costs one forward of one position. The cache is the model's own kind
    (Gemma-2's has sliding windows).

    Args:
        model: may be the very model that is generating.
        prompts: B prompts as tokens, of any lengths; each row is padded on the left by itself.
        adapter: the adapter of `model` that speaks here and nowhere else; None leaves the model as it is.
    """

    def __init__(self, model: Policy, prompts: Sequence[Sequence[int]], *, adapter: str | None = None):
        if not prompts or not all(prompts):
            raise HoldfastError("a defence's branch: a prompt has no tokens; give each row at least one")
        self.model = model
        self.adapter = adapter
        self.rows = len(prompts)
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        ids = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        self._prompts = torch.tensor(ids, device=model.device)  # (B, T)
        self._mask = torch.tensor(mask, device=model.device)  # (B, T + tokens so far)
        self._cache: Any = None

    def logits(self, chosen: Tensor | None = None) -> Tensor:
        """Logits (B, V) of the next token; `chosen` (B, 1) are the tokens chosen since the call before.

        None asks about the prompts alone, which comes first. Raises HoldfastError where the model keeps no cache.
        """
        if chosen is None:
            ids, positions = self._prompts, (self._mask.cumsum(-1) - 1).clamp(min=0)
        else:
            ids = chosen.to(self._mask.device)
            self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=-1)
            positions = self._mask.sum(-1, keepdim=True) - 1
        name = cache_argument(self.model)
        with torch.no_grad(), adapter_on(self.model, self.adapter):
            output = self.model(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **({name: self._cache} if name is not None and self._cache is not None else {}),
            )
        self._cache = kept_cache(output)
        if name is None or self._cache is None:  # the next token would be read without its prompt
            raise HoldfastError(
                "a defence's branch: the model keeps no cache (gradient checkpointing in training mode turns it off: "
                "call model.eval() first)"
            )
        return output.logits[:, -1]


@contextmanager
def adapter_on(model: Policy, adapter: str | None) -> Iterator[None]:
    """Have this adapter alone speak inside the block, even where all are switched off; None changes nothing.

    Afterwards all is as before: which adapter speaks, whether any does, and which weights are in training.
    """
    if adapter is None:
        yield
        return
    if not isinstance(model, PeftModel) or adapter not in model.peft_config:
        known = ", ".join(model.peft_config) if isinstance(model, PeftModel) else "none"
        raise HoldfastError(f"the model has no adapter {adapter!r} (it has: {known}); load it with load_adapter")
    before, off = model.active_adapter, model.get_model_status().enabled is False
    layers: Any = model.base_model
    in_training = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if off:
        layers.enable_adapter_layers()
    model.set_adapter(adapter, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(before, inference_mode=True)
        if off:
            layers.disable_adapter_layers()
        for parameter in in_training:
            parameter.requires_grad_(True)
