"""A causal model's forward pass without its logits: the hidden states, and the head that makes logits of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers import PreTrainedConfig, PreTrainedModel

from holdfast.losses.deferred import DeferredLogits, at_least_float32, deferred

logger = logging.getLogger(__name__)

SAME_LOGITS = 0.02  # of the largest logit; half precision rounds by less
SAME_HIDDEN = 0.05  # of the norm; half precision rounds by less
CACHE_NAMES = (
    "cache",
    "past_key_values",
    "cache_params",
)  # since transformers 5.24, before it, of Mamba before it
PROBE_TOKENS = 8


class HeadShape(NamedTuple):
    """What a model's forward does to its logits after the output layer."""

    scale: float = 1.0  # they are multiplied with it (Cohere, Granite)
    softcap: float | None = None  # c of c * tanh(logits / c) (Gemma-2 and later ones); None leaves them


@dataclass(frozen=True, eq=False)
class ModelHead:
    """A model's output layer and what comes after it."""

    project: Any  # the module
    shape: HeadShape
    autocast: torch.dtype | None = None  # the type that mixed precision computes in

    def __call__(self, hidden: Tensor) -> Tensor:
        """(n, V) logits of (n, H) hidden states, at least float32."""
        with torch.autocast(hidden.device.type, self.autocast, enabled=self.autocast is not None):
            logits = at_least_float32(self.project(hidden))
        if self.shape.scale != 1.0:
            logits = logits * self.shape.scale
        if self.shape.softcap is not None:
            logits = self.shape.softcap * torch.tanh(logits / self.shape.softcap)
        return logits

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.project.out_features


def unwrapped(model: nn.Module) -> PreTrainedModel | PeftModel:
    """The model without wrappers for several devices, with its adapters."""
    # accelerate's function walks through all modules; most models are not wrapped at all.
    return model if isinstance(model, PreTrainedModel | PeftModel) else extract_model_from_parallel(model)


def inner_model(model: nn.Module) -> nn.Module:
    """The transformers model itself, without wrappers for several devices and without a PeftModel around it."""
    model = unwrapped(model)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def last_hidden_states(model: nn.Module, **inputs: Any) -> Tensor:
    """(B, T, H) of the last layer after the final norm; the head makes no logits.

    The whole model is called, wrappers and all, as its own forward would be.
    """
    return _body(model, **inputs)[0]


def _body(model: nn.Module, **inputs: Any) -> tuple[Tensor, torch.dtype | None]:
    """The hidden states, and the type that the model computed in where its forward is in mixed precision."""
    captured: list[tuple[Tensor, torch.dtype | None]] = []

    def capture(module: nn.Module, args: Any, output: Any) -> None:
        hidden = output.last_hidden_state
        device = hidden.device.type
        mixed = torch.is_autocast_enabled(device)
        captured.append((hidden, torch.get_autocast_dtype(device) if mixed else None))

    inner: Any = inner_model(model)
    handle = inner.get_decoder().register_forward_hook(capture)
    try:
        model(**inputs, logits_to_keep=torch.empty(0, dtype=torch.long, device=inputs["input_ids"].device))
    finally:
        handle.remove()
    return captured[-1]


def deferred_logits(model: nn.Module, kept: int, **inputs: Any) -> DeferredLogits:
    """The logits (B, kept, V) of the last `kept` positions, computed only where a loss asks for them.

    Where the head cannot be asked by itself (weights sharded over devices, or a model that does to its logits what is
    not known here) they are computed now, in the model's own forward.

    Args:
        model: a causal language model, possibly with adapters, possibly wrapped for several devices.
        kept: how many positions.
        inputs: `input_ids` (B, T) and whatever else the model takes.
    """
    head = head_of(model)
    if head is None:
        return deferred(model(**inputs, logits_to_keep=kept).logits)
    hidden, autocast = _body(model, **inputs)
    return DeferredLogits(hidden[:, -kept:], replace(head, autocast=autocast), head.vocabulary)


_SHAPES: WeakKeyDictionary[nn.Module, HeadShape | None] = WeakKeyDictionary()


def head_of(model: nn.Module) -> ModelHead | None:
    """The model's head; None where it cannot be asked by itself. Tried out once for each model."""
    inner: Any = inner_model(model)
    if _sharded(model):
        return None
    if inner not in _SHAPES:
        _SHAPES[inner] = _checked_shape(inner)
    shape = _SHAPES[inner]
    return None if shape is None else ModelHead(inner.get_output_embeddings(), shape)


def _sharded(model: nn.Module) -> bool:
    """Whether a weight is whole only inside the model's own forward."""
    inner: Any = inner_model(model)
    weight = inner.get_output_embeddings().weight
    fully_sharded = isinstance(model, FullyShardedDataParallel | FSDPModule)
    return fully_sharded or hasattr(weight, "ds_id")  # DeepSpeed ZeRO-3 marks its parameters so


def _checked_shape(inner: Any) -> HeadShape | None:
    """What the config says, if hidden states then give the model's own logits."""
    config = inner.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    shape = HeadShape(scale / divisor, getattr(config, "final_logit_softcapping", None))
    probe = torch.zeros(1, 1, dtype=torch.long, device=inner.device)
    with torch.no_grad(), evaluating(inner):
        own = at_least_float32(inner(input_ids=probe, use_cache=False).logits[0])
        hidden = last_hidden_states(inner, input_ids=probe, use_cache=False)[0]
        ours = ModelHead(inner.get_output_embeddings(), shape)(hidden)
    same = own.shape == ours.shape and (own - ours).abs().max() <= SAME_LOGITS * own.abs().max()
    if not same:
        logger.warning(
            "the logits of %s are not those of its output layer: losses and scores hold all logits at once, which "
            "takes more memory",
            type(inner).__name__,
        )
    return shape if same else None


_CACHE_ARGUMENTS: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def cache_argument(model: nn.Module) -> str | None:
    """Return the name under which the model's forward takes a cache; None where it keeps none.

    The name depends on the version of transformers and on the model's own code, and a forward may ignore a name it
    does not know. So it is found by trying, once per model: the second half of a sequence, given the cache of the
    first half, must have the hidden states that it has in the whole sequence.
    """
    inner = inner_model(model)
    if inner not in _CACHE_ARGUMENTS:
        with torch.no_grad(), evaluating(inner):
            _CACHE_ARGUMENTS[inner] = next((name for name in CACHE_NAMES if _reads_cache(inner, name)), None)
    return _CACHE_ARGUMENTS[inner]


def kept_cache(output: Any) -> Any:
    """Return the cache in a model's output; None where there is none."""
    return next((output[name] for name in CACHE_NAMES if name in output), None)


def _reads_cache(inner: Any, name: str) -> bool:
    ids = torch.arange(PROBE_TOKENS, device=inner.device).unsqueeze(0)
    half = PROBE_TOKENS // 2
    try:
        cache = kept_cache(inner(input_ids=ids[:, :half], use_cache=True))
        if cache is None:
            return False
        alone = last_hidden_states(inner, input_ids=ids[:, half:], use_cache=False)
        whole = last_hidden_states(inner, input_ids=ids, use_cache=False)[:, half:]
        rest = last_hidden_states(inner, input_ids=ids[:, half:], use_cache=True, **{name: cache})
    except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:
        logger.debug("%s takes no %s: %s", type(inner).__name__, name, error)
        return False
    return whole.shape == rest.shape and bool((whole - rest).norm() < (alone - rest).norm())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off inside the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def own_dropout_off(model: nn.Module) -> Iterator[None]:
    """Switch off inside the block what makes the model's forward in training random; adapters keep their dropout.

    That is what its config asks for: dropout of any kind, skipped layers, a router's jitter.
    """
    modules = [module for name, module in model.named_modules() if "lora_dropout" not in name]
    holders: list[Any] = [*modules, *_configs(getattr(inner_model(model), "config", None))]
    before = [(holder, name, value) for holder in holders for name, value in _random_settings(holder)]
    for holder, name, _ in before:
        setattr(holder, name, 0.0)
    try:
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _configs(config: Any) -> Iterator[PreTrainedConfig]:
    """A config and those in it."""
    if isinstance(config, PreTrainedConfig):
        yield config
        for value in list(vars(config).values()):
            yield from _configs(value)


def _random_settings(holder: Any) -> list[tuple[str, float]]:
    names = ("p",) if isinstance(holder, nn.modules.dropout._DropoutNd) else ()
    return [
        (name, value)
        for name, value in vars(holder).items()
        if isinstance(value, float) and value and (name in names or "drop" in name or "jitter" in name)
    ]
