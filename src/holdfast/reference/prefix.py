"""The tokens that many rows begin with, forwarded once: every batch reads their keys and values, none changes them.

A persona prompt is 300 tokens and an answer 80; all rows of a role stand under the same prompt. What rows share is
found from their tokens, so it does not matter how a template writes a system turn.
"""

import copy
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from holdfast.data.collator import Example
from holdfast.forward import (
    PROBE_TOKENS,
    SAME_HIDDEN,
    cache_argument,
    evaluating,
    inner_model,
    last_hidden_states,
)
from holdfast.models import Policy

logger = logging.getLogger(__name__)

WORTH_SHARING = 16  # tokens; with fewer, plain forwards are as fast


def shared_ids(examples: Sequence[Example]) -> list[int]:
    """The longest run of tokens that all rows begin with and that predicts no trained token of any of them."""
    sequences = [example["input_ids"][: max(example["trained"].index(True) - 1, 0)] for example in examples]
    first, last = min(sequences), max(sequences)  # what these two share, all between them share
    differ = (index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differ, min(len(first), len(last)))]


class SharedPrefix:
    """Tokens that sequences begin with; a frozen model computes their keys and values on first use.

    Args:
        model: a causal language model that `can_share`; its weights do not change while the prefix lives.
        ids: the tokens.
        after: a shorter prefix that these tokens begin with; only the tokens after it are forwarded.
    """

    def __init__(self, model: Policy, ids: Sequence[int], after: "SharedPrefix | None" = None):
        self.model = model
        self.ids = list(ids)
        self.after = after

    @cached_property
    def cache(self) -> DynamicCache:
        """Keys and values (1, heads, P, d) of every layer."""
        if self.after is None:
            inner: Any = inner_model(self.model)
            cache, known = DynamicCache(config=inner.config), 0
        else:
            cache, known = copy.copy(self.after.cache), len(self.after.ids)
            cache.layers = [copy.copy(layer) for layer in cache.layers]  # a layer replaces its tensors as it grows
        if known < len(self.ids):
            ids = torch.tensor([self.ids[known:]], device=self.model.device)
            with torch.no_grad(), evaluating(self.model):
                last_hidden_states(self.model, input_ids=ids, use_cache=True, **{self._argument: cache})
        return cache

    @property
    def inputs(self) -> dict[str, Any]:
        """What the forward of the tokens that come next is given besides them; any number of rows."""
        return {self._argument: Cache(layers=[_ReadOnlyLayer(layer) for layer in self.cache.layers])}

    @property
    def _argument(self) -> str:
        name = cache_argument(self.model)
        if name is None:
            raise ValueError("a model without a cache shares no prefix; ask can_share first")
        return name


class _ReadOnlyLayer(CacheLayerMixin):
    """One layer's keys and values of the prefix, put before those of a batch; nothing is kept of the batch."""

    def __init__(self, prefix: Any):
        super().__init__()
        self.prefix = prefix  # a DynamicLayer, sliding or not
        self.keys, self.values = prefix.keys, prefix.values
        self.is_sliding = prefix.is_sliding
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the prefix is there."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """(B, heads, P + S, d) keys and values."""
        return self._before(self.prefix.keys, key_states), self._before(self.prefix.values, value_states)

    @staticmethod
    def _before(shared: Tensor, own: Tensor) -> Tensor:
        return torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=-2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys, for the mask."""
        return self.prefix.get_mask_sizes(query_length)

    def get_seq_length(self) -> int:
        """P."""
        return self.prefix.get_seq_length()

    def get_max_length(self) -> int:
        """No maximum of its own."""
        return self.prefix.get_max_length()


_CAN_SHARE: WeakKeyDictionary[Policy, bool] = WeakKeyDictionary()


def can_share(model: Policy) -> bool:
    """Return whether rows may read one prefix's keys and values and get what a forward of the whole gives.

    Not so for models with a recurrent state or with prompt tuning, say. Tried once per model; a model that cannot is
    reported once.
    """
    if model not in _CAN_SHARE:
        obstacle = _obstacle(model)
        if obstacle is not None:
            logger.warning("every row is forwarded with its whole prompt, which is slower: %s", obstacle)
        _CAN_SHARE[model] = obstacle is None
    return _CAN_SHARE[model]


def _obstacle(model: Policy) -> str | None:
    """Return why the model cannot share a prefix; None where it can."""
    name = type(inner_model(model)).__name__
    if cache_argument(model) is None:
        return f"{name} keeps no cache of a prompt that later tokens can read"
    ids = torch.arange(PROBE_TOKENS, device=model.device).unsqueeze(0)
    half = PROBE_TOKENS // 2
    prefix = SharedPrefix(model, range(half))
    if not all(_readable(layer) for layer in prefix.cache.layers):
        return f"the cache of {name} holds more than keys and values"
    with torch.no_grad(), evaluating(model):
        whole = last_hidden_states(model, input_ids=ids, use_cache=False)[:, half:]
        rest = last_hidden_states(model, input_ids=ids[:, half:], **prefix.inputs)
    same = whole.shape == rest.shape and bool((whole - rest).norm() <= SAME_HIDDEN * whole.norm())
    return None if same else f"{name} with a cached prompt gives other hidden states than without"


def _readable(layer: Any) -> bool:
    """Whether all that a layer remembers is its keys and values."""
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized


def shared_prefix(
    model: Policy, examples: Sequence[Example], after: SharedPrefix | None = None
) -> SharedPrefix | None:
    """The prefix of these rows; None where there is none worth sharing or the model cannot.

    Args:
        model: see `SharedPrefix`.
        examples: the rows.
        after: tokens that these rows and others begin with; a single row shares no more than that.
    """
    if len(examples) > 1:
        prefix: SharedPrefix | None = SharedPrefix(model, shared_ids(examples), after)
    else:
        prefix = after
    if prefix is None or len(prefix.ids) < WORTH_SHARING or not can_share(model):
        return None
    return prefix
