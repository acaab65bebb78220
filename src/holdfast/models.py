"""Loading policies, tokenizers and adapters, and asking the frozen reference without a second copy of it."""

import copy
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import xxhash
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from holdfast.errors import HoldfastError
from holdfast.forward import deferred_logits, evaluating, inner_model
from holdfast.losses.deferred import DeferredLogits, Head
from holdfast.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    check_complete,
    check_files,
    check_weights,
    find_file,
    listed,
    loading,
    local_directory,
    read_object,
    weight_names,
)
from holdfast.templates import read_template

Tuning = Literal["lora", "qlora", "full"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Policy = PreTrainedModel | PeftModel  # a causal language model, with or without adapters
ALL_LINEAR = "all-linear"
# Layers that hold several projections in one, by the projection.
_ATTENTION = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack")
_FUSED = dict.fromkeys(("q_proj", "k_proj", "v_proj"), _ATTENTION) | dict.fromkeys(
    ("gate_proj", "up_proj"), ("gate_up_proj",)
)
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# Embeddings that peft saves beside an adapter because tokens were added.
_EMBEDDING = re.compile(
    r"(?:embed_tokens|wte|embed_in|word_embeddings|lm_head|embed_out)(?:\.base_layer)?\.weight$"
)


def load_tokenizer(
    name: str, *, chat_template: Path | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or the hub; a missing padding token becomes the eos token.

    An adapter's own tokenizer and chat template come first, its base's where it has none.
    """
    base = adapter_base(name)
    own = base is None or _has_tokenizer(name)
    tokenizer = _tokenizer(name, trust_remote_code) if own else _tokenizer(str(base), trust_remote_code, name)
    if chat_template is not None:
        tokenizer.chat_template = read_template(chat_template)
    elif base is not None:
        _complete_template(tokenizer, name, base, own, trust_remote_code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _tokenizer(name: str, trust_remote_code: bool, adapter: str | None = None) -> PreTrainedTokenizerBase:
    check_files(name, "tokenizer")
    with loading(name, f"tokenizer{_of_adapter(adapter)}"):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)


def _has_tokenizer(adapter: str) -> bool:
    return any(find_file(adapter, file) is not None for file in ("tokenizer.json", "tokenizer_config.json"))


def _complete_template(
    tokenizer: PreTrainedTokenizerBase, adapter: str, base: str, own: bool, trust_remote_code: bool
) -> None:
    """An adapter may have a tokenizer without a template, or a template without a tokenizer."""
    if own and not tokenizer.chat_template:
        tokenizer.chat_template = _tokenizer(base, trust_remote_code, adapter).chat_template
    template = None if own else find_file(adapter, "chat_template.jinja")
    if template is not None:
        tokenizer.chat_template = read_template(template)


def load_model(
    name: str,
    *,
    dtype: DType = "auto",
    quantise_4bit: bool = False,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> Policy:
    """Load a causal language model, or an adapter on its base, from a directory or the hub.

    Weights are read from safetensors only, and all of them must be there. `device` None takes the first GPU if there
    is one. With `quantise_4bit` the base is held in 4-bit NF4 (needs the `qlora` extra and a GPU).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    base = adapter_base(name)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    if quantise_4bit:
        options |= {"quantization_config": _four_bit_config(), "device_map": {"": device}}
    model: Policy = _load_causal(base or name, options, None if base is None else name)
    if base is not None:
        model = attach_adapter(model, name)
    return model if quantise_4bit else model.to(device)  # type: ignore[arg-type]


def _load_causal(name: str, options: dict[str, Any], adapter: str | None) -> PreTrainedModel:
    what = f"model{_of_adapter(adapter)}"
    check_files(name)
    check_weights(name)
    with loading(name, what):
        model = load_checked(AutoModelForCausalLM, name, what, **options)
    if type(model.config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(model.config, "is_decoder", False):
        raise HoldfastError(
            f"{name}: {model.config.model_type} is an encoder, which reads a text in both directions and writes "
            "none; give a causal language model"
        )
    return model


def _of_adapter(adapter: str | None) -> str:
    return "" if adapter is None else f" that the adapter {adapter} is on"


def load_checked(loader: Any, name: str, what: str, *, left_over: bool = False, **options: Any) -> Any:
    """`loader.from_pretrained` from safetensors.

    Raises HoldfastError where weights are missing, or left over unless `left_over` allows it.
    """
    model, info = loader.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)
    check_complete(name, what, info | {"unexpected_keys": ()} if left_over else info)
    return model


def adapter_base(name: str) -> str | None:
    """The base model of an adapter, a directory or a hub id; None where `name` is no adapter.

    A relative directory is looked for in the working directory, then in the adapter's.
    """
    path = find_file(name, ADAPTER_CONFIG)
    if path is None:
        return None
    base = read_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise HoldfastError(f"{path}: field 'base_model_name_or_path' names no model; save the adapter again")
    base = next((place for place in (base, str(path.parent / base)) if _is_model(place)), base)
    if local_directory(base) is None and not _HUB_ID.fullmatch(base):
        raise HoldfastError(
            f"{name}: its base model {base!r} is not there; correct base_model_name_or_path in {path}"
        )
    if find_file(base, ADAPTER_CONFIG) is not None:
        raise HoldfastError(
            f"{name}: its base model {base!r} is an adapter itself; merge that one into its base first"
        )
    return base


def _is_model(name: str) -> bool:
    directory = local_directory(name)
    return directory is not None and any((directory / file).exists() for file in ("config.json", ADAPTER_CONFIG))


def attach_adapter(model: Policy, name: str, adapter: str = "default") -> PeftModel:
    """Load the adapter `name` onto its base, frozen and called `adapter`; adapters on one base share its weights.

    The first one attached is switched on, later ones wait for `set_adapter`. Embeddings that the adapter brings for
    added tokens replace the base's (see `brings_embeddings`).
    """
    check_files(name)
    device = str(model.device)
    weights = _adapter_weights(name)
    rows = _embedding_rows(name, weights)
    with loading(name, "adapter"):
        if rows is not None and rows != embedding_rows(model):
            model.resize_token_embeddings(rows, mean_resizing=False)
        if isinstance(model, PeftModel):
            model.load_adapter(name, adapter_name=adapter, torch_device=device)
        else:
            model = PeftModel.from_pretrained(model, name, adapter_name=adapter, torch_device=device)
        expected = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    _check_adapter(name, expected, weights)
    return model


def _adapter_weights(name: str) -> Path:
    path = find_file(name, ADAPTER_WEIGHTS)
    if path is not None:
        return path
    if find_file(name, "adapter_model.bin") is not None:
        raise HoldfastError(
            f"{name}: the adapter's weights are a pickle (adapter_model.bin), which can run code and is not read; "
            "convert it to safetensors"
        )
    raise HoldfastError(f"{name}: the adapter has no weights ({ADAPTER_WEIGHTS}); save it again")


def _check_adapter(name: str, expected: Iterable[str], weights: Path) -> None:
    """Raise HoldfastError where the adapter's file lacks weights, or holds some that were not loaded."""
    wanted = {_plain(key): key for key in expected}
    found = {_plain(key): key for key in weight_names([weights]) if not _EMBEDDING.search(key)}
    missing = [wanted[key] for key in sorted(set(wanted) - set(found)) if not _EMBEDDING.search(wanted[key])]
    if missing:
        layers = {layer[0] for key in missing if (layer := re.search(r"layers?\.\d+|h\.\d+", key))}
        of = f" of {len(layers)} layer{'' if len(layers) == 1 else 's'}" if layers else ""
        raise HoldfastError(f"{name}: the adapter lacks weights{of}: {listed(missing)}; save it again")
    left_over = sorted(found[key] for key in set(found) - set(wanted))
    if left_over:
        raise HoldfastError(
            f"{name}: the adapter has more than its {ADAPTER_CONFIG} describes: {listed(left_over)}; save it again"
        )


def _plain(key: str) -> str:
    """A weight's name without the wrappers that differ between versions of the libraries."""
    return ".".join(part for part in key.split(".") if part not in ("base_model", "model", "language_model"))


def _embedding_rows(name: str, weights: Path) -> int | None:
    """How many tokens the embeddings have that an adapter brings along; None where it brings none."""
    with loading(name, "adapter"), safe_open(weights, framework="pt") as file:
        names = [key for key in file.keys() if _EMBEDDING.search(key)]  # noqa: SIM118 it is no dict
        rows = [file.get_slice(key).get_shape()[0] for key in names]
    return max(rows, default=None)


def brings_embeddings(adapter: str) -> bool:
    """Whether an adapter replaces its base's embeddings, so that it cannot share the base with others."""
    return _embedding_rows(adapter, _adapter_weights(adapter)) is not None


def embedding_rows(model: Policy) -> int:
    """How many tokens the model has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr,index,arg-type]


def context_tokens(model: Policy) -> float:
    """The most tokens that prompt and answer may have together; infinite where the model's config sets no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return math.inf if limit is None else limit


@dataclass(frozen=True)
class LoraSettings:
    """Shape of the adapters; the defaults are SaRFT's."""

    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")


def lora_targets(model: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Return the names of the layers that get adapters: those wanted, or the fused layer that holds one of them.

    Phi-3, for one, has `qkv_proj` in place of `q_proj`. `all-linear` alone means every linear layer but the head.
    Raises HoldfastError, listing the model's layers, where it has none of a wanted name.
    """
    if list(wanted) == [ALL_LINEAR]:
        return [ALL_LINEAR]
    layers = [
        name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))
    ]

    def is_there(target: str) -> bool:
        return any(name == target or name.endswith(f".{target}") for name in layers)

    found: dict[str, None] = {}
    for target in wanted:
        held_by = next((name for name in (target, *_FUSED.get(target, ())) if is_there(name)), None)
        if held_by is None:
            names = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise HoldfastError(
                f"field 'lora_target_modules': the model has no layer {target}; its layers are {names}, or give "
                f"[{ALL_LINEAR}]"
            )
        found[held_by] = None
    return list(found)


def add_lora(model: Policy, settings: LoraSettings, *, quantised: bool = False) -> PeftModel:
    """Put fresh adapters on a model and freeze the rest; adapters start as the identity."""
    if isinstance(model, PeftModel):
        raise HoldfastError("the model is an adapter already; merge it first (merged_adapter), or continue it")
    targets = lora_targets(model, settings.target_modules)
    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise HoldfastError(f"lora_target_modules {list(settings.target_modules)}: {error}") from None


def merged_adapter(model: PeftModel) -> PreTrainedModel:
    """Return the whole model that an adapter and its base are together."""
    with loading(str(model.get_base_model().name_or_path), "base with the adapter merged into it"):
        merged = model.merge_and_unload()  # type: ignore[operator]
    if hasattr(merged, "peft_config"):  # peft leaves it, and warns at the next adapter
        del merged.peft_config
    for weight in merged.parameters():
        weight.requires_grad_(weight.is_floating_point())  # an adapter's base is frozen
    return merged


def continued_adapter(model: PeftModel, *, quantised: bool = False) -> PeftModel:
    """Return the model with its adapter trainable and all else frozen."""
    if quantised:
        prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model.set_adapter("default")
    model.peft_config["default"].inference_mode = False
    return model


class Reference(Protocol):
    """The aligned model as it was before fine-tuning."""

    def logits(self, policy: nn.Module, kept: int, **inputs: Any) -> DeferredLogits:
        """Logits (B, kept, V), without a gradient and without dropout; `policy` may be wrapped for several GPUs."""
        ...

    def to(self, device: torch.device) -> None:
        """Move what the reference holds of its own."""
        ...


class AdaptersOff:
    """The reference of a LoRA policy is the policy with its adapters switched off: no second copy."""

    def __init__(self, policy: PeftModel):
        self.adapters = policy

    def logits(self, policy: nn.Module, kept: int, **inputs: Any) -> DeferredLogits:
        """See `Reference`."""
        # Through `policy`, not self.adapters: a sharding wrapper gathers the weights in its own forward.
        with torch.no_grad(), self.adapters.disable_adapter(), evaluating(self.adapters):
            logits = deferred_logits(policy, kept, **inputs)
        return replace(logits, head=self._without_adapters(logits.head))

    def _without_adapters(self, head: Head) -> Head:
        """The head as it was; it is asked later, with the adapters on again."""
        if not isinstance(getattr(head, "project", None), BaseTunerLayer):
            return head

        def switched_off(hidden: Tensor) -> Tensor:
            with self.adapters.disable_adapter():
                return head(hidden)

        return switched_off

    def to(self, device: torch.device) -> None:
        """Nothing to move: the weights are the policy's."""


class OriginalAdapter:
    """The reference of an adapter whose training is continued: the same model with the adapter as it was.

    It keeps a copy of the trainable weights, which takes their place for a forward.
    """

    def __init__(self, policy: PeftModel):
        self.policy = policy
        self.original = [
            (weight, weight.detach().clone()) for weight in policy.parameters() if weight.requires_grad
        ]

    def logits(self, policy: nn.Module, kept: int, **inputs: Any) -> DeferredLogits:
        """See `Reference`."""
        with torch.no_grad(), self._as_it_was(), evaluating(self.policy):
            logits = deferred_logits(policy, kept, **inputs)
        head = logits.head

        def as_it_was(hidden: Tensor) -> Tensor:
            with self._as_it_was():
                return head(hidden)

        return replace(logits, head=as_it_was)

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        trained = [weight.data for weight, _ in self.original]
        if any(now.shape != before.shape for now, (_, before) in zip(trained, self.original, strict=True)):
            raise HoldfastError("start_adapter: continue needs whole weights on every device; use merge")
        for weight, before in self.original:
            weight.data = before
        try:
            yield
        finally:
            for (weight, _), now in zip(self.original, trained, strict=True):
                weight.data = now

    def to(self, device: torch.device) -> None:
        """Move the copy."""
        self.original = [(weight, before.to(device)) for weight, before in self.original]


class FrozenCopy:
    """The reference of a fully fine-tuned policy: a frozen copy, made before training starts."""

    def __init__(self, policy: nn.Module):
        self.model = copy.deepcopy(policy).eval().requires_grad_(False)

    def logits(self, policy: nn.Module, kept: int, **inputs: Any) -> DeferredLogits:
        """See `Reference`; the policy is not asked."""
        with torch.no_grad():
            return deferred_logits(self.model, kept, **inputs)

    def to(self, device: torch.device) -> None:
        """Move the copy."""
        self.model.to(device)


def reference_for(policy: nn.Module) -> Reference:
    """The cheapest exact reference of a policy that has not been trained yet."""
    if not isinstance(policy, PeftModel):
        return FrozenCopy(policy)
    return AdaptersOff(policy) if _changes_nothing(policy) else OriginalAdapter(policy)


def _changes_nothing(policy: PeftModel) -> bool:
    """Whether the adapters are fresh: B of B A is zero, and nothing but A and B is trained."""
    trained = [(name, weight) for name, weight in policy.named_parameters() if weight.requires_grad]
    return all("lora_A" in name or ("lora_B" in name and not weight.any()) for name, weight in trained)


# Entries of a config that saving and loading change although the model stays the same.
_NOT_THE_MODEL = {"architectures", "dtype", "transformers_version"}
_NOT_THE_ADAPTER = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"}
_HASHED_AT_ONCE = 2**26  # values of a weight that are copied from its device at a time


def model_fingerprint(model: nn.Module) -> str:
    """Return a hash of all that decides what the model computes; a reloaded copy has the same.

    That is its class, its config, its adapters' configs and state (scale, which are active or merged), and every
    weight's name, shape, type and bytes.
    """
    described: list[object] = [type(inner_model(model)).__name__]
    config = getattr(model, "config", None)
    if config is not None:
        described.append(_without(config.to_dict(), _NOT_THE_MODEL))
    adapters = getattr(model, "peft_config", None) or {}
    described += [(name, _without(own.to_dict(), _NOT_THE_ADAPTER)) for name, own in sorted(adapters.items())]
    described += [_adapter_state(name, module) for name, module in model.named_modules()]
    digest = xxhash.xxh3_128(json.dumps(described, sort_keys=True, default=_as_json).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        for part in weight.detach().reshape(-1).split(_HASHED_AT_ONCE):
            digest.update(part.contiguous().view(torch.uint8).cpu().numpy())
    return str(digest.hexdigest())


def _without(config: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in left_out and not k.startswith("_")}


def _adapter_state(name: str, module: nn.Module) -> object:
    """How a layer's adapters are switched and scaled; None for a layer without any."""
    if not isinstance(module, BaseTunerLayer):
        return None
    scaling: dict[str, float] = getattr(module, "scaling", {})
    return [name, module.active_adapters, module.merged_adapters, module.disable_adapters, scaling]


def _as_json(value: object) -> object:
    """A config's value that JSON does not know; a set has no order of its own."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


@contextmanager
def own_generation_config_left_out(model: Policy) -> Iterator[None]:
    """Generate as asked inside the block: Qwen2.5's own config would penalise repetition in greedy answers too."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def _four_bit_config() -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise HoldfastError("tuning: qlora needs bitsandbytes; run: pip install 'holdfast[qlora]'") from None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
