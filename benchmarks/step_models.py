"""What the step benchmarks run on: a Llama with random weights, a tokenizer of numbered words, one optimiser step.

Weights are random and tokens are drawn, so nothing needs a download; time and memory do not depend on either.
"""

import argparse
import copy
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from holdfast.models import LoraSettings, Policy, add_lora

Module = TypeVar("Module", bound=nn.Module)

SPECIAL = ("<pad>", "<begin>", "<end>", "<system>", "<user>", "<assistant>")
TEMPLATE = (  # as Llama-3's: begin, then each turn's speaker, text and end
    "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '<end>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
HEAD_SIZE = 64
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class StepOptions:
    """What both step benchmarks take; the defaults are the issue's acceptance."""

    vocab: tuple[int, ...] = (16_384, 65_536)
    hidden: int = 512
    layers: int = 8
    intermediate: int | None = None  # None: see `llama`
    batch_size: int = 4
    rows: int = 40
    rounds: int = 3
    tuning: Literal["full", "lora"] = "full"
    device: str = "cpu"
    seed: int = 0

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """float32 on the CPU, bfloat16 on a GPU."""
        return torch.float32 if self.torch_device.type == "cpu" else torch.bfloat16

    def training_arguments(self, output_dir: str, **more: object) -> TrainingArguments:
        """transformers' arguments; rows are grouped by length, as the recipes do."""
        chosen: dict[str, object] = {
            "output_dir": output_dir,
            "per_device_train_batch_size": self.batch_size,
            "train_sampling_strategy": "group_by_length",
            "remove_unused_columns": False,
            "report_to": "none",
            "use_cpu": self.torch_device.type == "cpu",
            "dataloader_pin_memory": self.torch_device.type != "cpu",
            "seed": self.seed,
        }
        return TrainingArguments(**(chosen | more))  # type: ignore[arg-type]

    def __str__(self) -> str:
        width = intermediate_size(self.hidden) if self.intermediate is None else self.intermediate
        return (
            f"Llama, hidden {self.hidden}, {self.layers} layers, MLP {width}, head not tied; {self.rows} rows in "
            f"batches of {self.batch_size}; {self.tuning} tuning, {str(self.dtype).removeprefix('torch.')} on "
            f"{self.device}, {torch.get_num_threads()} threads; medians over {self.rounds} rounds"
        )


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of `StepOptions`, and --json."""
    plain = StepOptions()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--vocab", type=int, nargs="+", default=plain.vocab, help="sizes of the vocabulary, to 262144"
    )
    parser.add_argument("--intermediate", type=int, default=None, help="width of the MLP; default 8/3 of hidden")
    for name in ("hidden", "layers", "batch_size", "rows", "rounds", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(plain, name))
    parser.add_argument("--tuning", choices=("full", "lora"), default=plain.tuning)
    parser.add_argument("--device", default=plain.device, help="cpu (float32) or cuda (bfloat16)")
    parser.add_argument("--json", action="store_true", help="one JSON line with the ratios at the end")
    return parser


def step_options(arguments: argparse.Namespace) -> StepOptions:
    """The options without `json`."""
    values = {name: value for name, value in vars(arguments).items() if name != "json"}
    return StepOptions(**(values | {"vocab": tuple(values["vocab"])}))


# --- model and tokenizer


def intermediate_size(hidden: int) -> int:
    """Llama's: two thirds of 4 * hidden, up to the next multiple of 64."""
    return -(-(8 * hidden) // (3 * 64)) * 64


def llama(options: StepOptions, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with random weights: heads of 64, one key-value head for four queries, a head that is not tied."""
    torch.manual_seed(options.seed)
    heads = max(1, options.hidden // HEAD_SIZE)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate or intermediate_size(options.hidden),
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=SPECIAL.index("<begin>"),
        eos_token_id=SPECIAL.index("<end>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    with torch.device(options.torch_device):
        model: Any = LlamaForCausalLM(config)
    return model.to(options.dtype)


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The second model in memory that the published steps ask."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def policy_of(model: PreTrainedModel, options: StepOptions) -> Policy:
    """What is trained: the model, or adapters as SaRFT's on it."""
    return model if options.tuning == "full" else add_lora(model, LoraSettings())


def sharing_weights(model: Module) -> Module:
    """The same model once more on the same weights, for a library that replaces its forward."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerBase:
    """One token a word, and a chat template with a system role; the words are w0, w1 and so on (`words`)."""
    names = {name: index for index, name in enumerate((*SPECIAL, *words(vocabulary)))}
    backend = Tokenizer(models.WordLevel(names, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<begin>", eos_token="<end>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def words(vocabulary: int) -> list[str]:
    """The vocabulary without the special tokens."""
    return [f"w{index}" for index in range(vocabulary - len(SPECIAL))]


# --- one optimiser step, the same in all ways


def optimiser_of(policy: Policy) -> torch.optim.AdamW:
    """Fused AdamW over what is trained. Its state is there already, so that no first step allocates it."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad()
    return optimiser


def batches(trainer: Trainer, epoch: int) -> Any:
    """A trainer's own batches of one epoch, a DataLoader; another epoch has others."""
    set_seed(epoch)
    loader: Any = trainer.get_train_dataloader()
    loader.set_epoch(epoch)
    return loader


def update(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Backward, clip, step."""
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], MAX_GRAD_NORM)
    optimiser.step()
    optimiser.zero_grad()
