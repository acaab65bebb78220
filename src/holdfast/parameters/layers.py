"""The decoder layers of a model, by number from 0, and a range of them made louder or quieter for a while."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from holdfast.errors import HoldfastError
from holdfast.forward import inner_model
from holdfast.models import Policy

_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
# Norms between a layer's attention or feed-forward module and the residual (Gemma-2, Gemma-3, OLMo-2).
_OUTPUT_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")


def decoder_layers(model: Policy) -> nn.ModuleList:
    """The model's decoder layers, in order; HoldfastError where there is no such list."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in inner_model(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise HoldfastError(
        f"{type(inner_model(model)).__name__}: no list of {count} decoder layers in it; give a decoder-only model"
    )


def layer_number(name: str) -> int | None:
    """The decoder layer that a parameter belongs to, from its name; None for embeddings, head and last norm."""
    found = _NUMBER.search(name)  # the first number: an expert's comes after its layer's
    return None if found is None else int(found.group(1))


def check_range(first: int, last: int, count: int | None = None) -> None:
    """Raises HoldfastError unless 0 <= first <= last < count; `count` None is not known."""
    if not 0 <= first <= last:
        raise HoldfastError(f"layers {first} to {last}: no such range; give 0 <= first <= last")
    if count is not None and last >= count:
        raise HoldfastError(
            f"layers {first} to {last}: the model's layers are 0 to {count - 1}; give some of them"
        )


@contextmanager
def scaled_layers(model: Policy, first: int, last: int, factor: float) -> Iterator[None]:
    """Inside the block, layers `first` to `last` compute as if their weights were multiplied by `factor`.

    The weights of every linear map in the layers' attention and feed-forward modules are meant. Their outputs are
    multiplied instead, which is the same, costs no copy of the weights and leaves them exactly as they were. Where
    a norm stands between a module and the residual (Gemma-2), it would undo that: its output is multiplied too.
    """
    layers = decoder_layers(model)
    check_range(first, last, len(layers))
    louder = [module for layer in list(layers)[first : last + 1] for module in _scalable(layer)]
    handles = [module.register_forward_hook(_multiplier(factor)) for module in louder]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scalable(layer: nn.Module) -> Iterator[nn.Module]:
    adapted: list[str] = []
    norms = _OUTPUT_NORMS if _OUTPUT_NORMS[-1] in dict(layer.named_children()) else ()
    for name, module in layer.named_modules():
        if any(name.startswith(prefix) for prefix in adapted):
            continue  # a part of an adapted linear map, whose whole output is multiplied once
        if isinstance(module, BaseTunerLayer):
            adapted.append(f"{name}.")
        if isinstance(module, BaseTunerLayer | nn.Linear) or name in norms:
            yield module


def _multiplier(factor: float) -> Any:
    def multiply(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * factor

    return multiply
