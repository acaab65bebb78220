"""Loading policies, tokenizers and adapters, and asking the frozen reference without a second copy of it."""

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import find_adapter_config_file

from holdfast.errors import HoldfastError
from holdfast.forward import deferred_logits, evaluating
from holdfast.losses.deferred import DeferredLogits, Head

Tuning = Literal["lora", "qlora", "full"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Policy = PreTrainedModel | PeftModel  # a causal language model, with or without adapters


def load_tokenizer(
    name: str, *, chat_template: Path | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or the hub; a missing padding token becomes the eos token."""
    name = adapter_base(name) or name
    with _loading(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    if chat_template is not None:
        if not chat_template.is_file():
            raise HoldfastError(f"{chat_template}: no such chat template file; give the path of a Jinja file")
        tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    name: str,
    *,
    dtype: DType = "auto",
    quantise_4bit: bool = False,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> Policy:
    """Load a causal language model, or an adapter on its base, from a directory or the hub.

    Weights are read from safetensors only. `device` None takes the first GPU if there is one. With
    `quantise_4bit` the base is held in 4-bit NF4 (needs the `qlora` extra and a GPU).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    base = adapter_base(name)
    options: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": trust_remote_code,
    }
    if quantise_4bit:
        options |= {"quantization_config": _four_bit_config(), "device_map": {"": device}}
    with _loading(base or name, "model"):
        model: Policy = AutoModelForCausalLM.from_pretrained(base or name, **options)
    if base is not None:
        model = attach_adapter(model, name)
    return model if quantise_4bit else model.to(device)  # type: ignore[arg-type]


def adapter_base(name: str) -> str | None:
    """The base model of an adapter, a directory or a hub id; None where `name` is no adapter."""
    local = Path(name) / "adapter_config.json"
    config = (local if local.is_file() else None) if Path(name).exists() else _adapter_config_on_hub(name)
    if config is None:
        return None
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError) as error:
        raise HoldfastError(f"{config}: not an adapter's config ({error!r}); save the adapter again") from None


@cache
def _adapter_config_on_hub(name: str) -> Path | None:
    try:
        found = find_adapter_config_file(name)
    except OSError:  # nothing of that name: the loader says so, and what to do
        return None
    return None if found is None else Path(found)


def attach_adapter(model: Policy, name: str, adapter: str = "default") -> PeftModel:
    """Load the adapter `name` onto its base, frozen and called `adapter`; adapters on one base share its weights.

    The first one attached is switched on, later ones wait for `set_adapter`.
    """
    device = str(model.device)
    with _loading(name, "adapter"):
        if not isinstance(model, PeftModel):
            return PeftModel.from_pretrained(model, name, adapter_name=adapter, torch_device=device)
        model.load_adapter(name, adapter_name=adapter, torch_device=device)
        return model


@dataclass(frozen=True)
class LoraSettings:
    """Shape of the adapters; the defaults are SaRFT's."""

    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")


def add_lora(model: Policy, settings: LoraSettings, *, quantised: bool = False) -> PeftModel:
    """Put fresh adapters on a model and freeze the rest; adapters start as the identity."""
    if isinstance(model, PeftModel):
        raise HoldfastError(
            "the model is an adapter already; merge it into its base first (peft's merge_and_unload)"
        )
    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise HoldfastError(f"lora_target_modules {list(settings.target_modules)}: {error}") from None


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
    return AdaptersOff(policy) if isinstance(policy, PeftModel) else FrozenCopy(policy)


# Entries of a config that saving and loading change although the model stays the same.
_NOT_THE_MODEL = {"architectures", "dtype", "transformers_version"}


def model_fingerprint(model: nn.Module) -> str:
    """SHA-256 over every weight's name, shape, type, sum and a thousand of its values, and the model's config.

    One pass over the weights where they are; a fine-tuned copy differs in it, a reloaded one does not.
    """
    digest = hashlib.sha256()
    config = getattr(model, "config", None)
    if config is not None:
        described = {
            k: v for k, v in config.to_dict().items() if k not in _NOT_THE_MODEL and not k.startswith("_")
        }
        digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 1000)].float().cpu()
        total = flat.sum(dtype=torch.float64 if flat.device.type != "mps" else torch.float32).item()
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}{total!r}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


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


@contextmanager
def _loading(name: str, what: str) -> Iterator[None]:
    """Turn a loader's many exceptions into one line that says what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, SafetensorError) as error:
        local = Path(name).exists()
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        advice = (
            "check that the directory holds a complete model in safetensors"
            if local
            else "no such directory; give a model directory, or a hub id while the hub can be reached"
        )
        raise HoldfastError(f"{name}: cannot load the {what}; {advice} ({reason[:200]})") from error
