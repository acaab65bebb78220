"""What every training recipe does alike: arguments, model, adapters, and putting the result on disk."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from holdfast.chat import ChatFormat, load_chat_model
from holdfast.data.truncation import LengthLimits
from holdfast.errors import HoldfastError
from holdfast.files import check_cache_directory, locked
from holdfast.forward import unwrapped
from holdfast.models import (
    LoraSettings,
    Policy,
    adapter_base,
    add_lora,
    continued_adapter,
    lora_targets,
    merged_adapter,
)
from holdfast.recipes.configs import RANKED, TrainingConfig
from holdfast.recipes.run_directory import RunDirectory
from holdfast.recipes.terminal import note
from holdfast.recipes.training_progress import report_progress
from holdfast.reference.store import default_cache_dir
from holdfast.results import Figure
from holdfast.trainers.row_mean import RowMeanTrainer

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


@dataclass(frozen=True)
class Setup(Generic[ConfigT]):
    """What a run works with, loaded once."""

    config: ConfigT
    arguments: TrainingArguments
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    model: Policy  # the aligned model, not yet trained
    merged: bool = False  # whether it is an adapter merged into its base, so that the result must be a whole model


@contextmanager
def open_run(config: TrainingConfig) -> Iterator[tuple[TrainingArguments, RunDirectory]]:
    """Yield transformers' arguments and the directory of the run, which no other process uses in the block."""
    arguments = training_arguments(config)
    check_cache_directory(config.cache_dir or default_cache_dir())
    with ExitStack() as held:
        with arguments.main_process_first():
            # Before the lock, whose file must not appear in somebody else's directory; and under it.
            RunDirectory(config.output_dir, config, overwrite=config.overwrite)
            if arguments.process_index == 0:
                held.enter_context(locked(config.output_dir, "output_dir"))
            run = RunDirectory(config.output_dir, config, overwrite=config.overwrite)
        yield arguments, run


def is_done(run: RunDirectory, arguments: TrainingArguments, inputs: Mapping[str, str]) -> bool:
    """Whether this very run is finished, which is told; HoldfastError where `run` is another one."""
    if not run.is_done(inputs):
        return False
    if arguments.process_index == 0:
        run.clean()  # a kill may have left checkpoints
    note(f"{run.path}: this run is finished; pass --overwrite true to train again")
    return True


def load_setup(config: ConfigT, arguments: TrainingArguments) -> Setup[ConfigT]:
    """Tokenizer, chat format and the aligned model. What cannot be trained is refused here, before any scoring."""
    from_adapter = adapter_base(config.model) is not None
    if from_adapter:
        check_start(config)
    model, chat = load_chat_model(
        config.model,
        chat_template=config.chat_template,
        end_of_turn=config.end_of_turn,
        fold_separator=config.fold_separator,
        dtype=config.dtype,
        quantise_4bit=config.tuning == "qlora",
        trust_remote_code=config.trust_remote_code,
        device=str(arguments.device),
    )
    model = in_training_precision(model, config, arguments)
    if isinstance(model, PeftModel) and config.start_adapter == "merge":
        model = merged_adapter(model)
    check_trainable(model, config)
    return Setup(
        config, arguments, chat.tokenizer, chat, model, merged=from_adapter and not isinstance(model, PeftModel)
    )


def in_training_precision(model: Policy, config: TrainingConfig, arguments: TrainingArguments) -> Policy:
    """Return the model in float32 where training in the type of its weights would lose its updates.

    A step of the papers' size is below the rounding of bfloat16, so that weights in it would not move. DeepSpeed in
    mixed precision keeps weights in float32 itself. Adapters are in float32 whatever their base is in (peft), but
    gradients that pass through a base in float16 become 0.
    """
    half = next((w.dtype for w in model.parameters() if w.dtype in (torch.bfloat16, torch.float16)), None)
    if half is None or config.tuning == "qlora":
        return model
    kind = str(half).removeprefix("torch.")
    if config.tuning == "full" and not _deepspeed_keeps_float32(arguments):
        note(
            f"{config.model}: all weights are trained and saved in float32; {kind} would round most of their updates "
            "away"
        )
        return model.float()
    if config.tuning == "lora" and half == torch.float16:
        note(
            f"{config.model}: float16 is too narrow to train through, so float32 is used; dtype bfloat16 needs half"
        )
        return model.float()
    return model


def _deepspeed_keeps_float32(arguments: TrainingArguments) -> bool:
    config = getattr(arguments, "hf_deepspeed_config", None)
    return config is not None and (config.is_true("bf16.enabled") or config.is_true("fp16.enabled"))


def check_start(config: TrainingConfig) -> None:
    """Raise HoldfastError where a training cannot start from an adapter in the way that the config asks for."""
    if config.start_adapter == "merge":
        if config.tuning == "qlora":
            raise HoldfastError(
                f"{config.model}: an adapter cannot be merged into a 4-bit base exactly; set start_adapter to "
                "continue, or tuning to lora"
            )
        if config.tuning == "full" and getattr(config, "projection", "none") != "none":
            raise HoldfastError(
                f"{config.model}: projection needs the aligned model on disk, and this is an adapter; save it merged "
                "first, or set tuning to lora"
            )
        return
    if config.tuning == "full":
        raise HoldfastError(
            "start_adapter continue trains an adapter; set tuning to lora, or start_adapter to merge"
        )
    selector = getattr(config, "selector", "none")
    for name, chosen in (
        ("proximal_weight", getattr(config, "proximal_weight", 0) > 0),
        ("projection", getattr(config, "projection", "none") != "none"),
        (f"selector {selector}", selector in RANKED),
    ):
        if chosen:
            raise HoldfastError(
                f"{name} measures what training adds to the model without adapters; set start_adapter to merge"
            )


def check_trainable(model: Policy, config: TrainingConfig) -> None:
    """Raise HoldfastError where the model cannot be tuned in the way that the config asks for."""
    if config.tuning == "full" and getattr(model, "is_quantized", False):
        raise HoldfastError(f"{config.model}: quantised weights cannot be trained; set tuning to lora")
    if config.tuning == "full" or isinstance(model, PeftModel):
        return
    wanted = list(config.lora_target_modules)
    targets = lora_targets(model, wanted)
    if set(targets) != set(wanted):
        note(
            f"adapters are put on {', '.join(targets)}, which {'holds' if len(targets) == 1 else 'hold'} "
            f"{', '.join(wanted)}"
        )


def with_adapters(setup: Setup[Any]) -> Policy:
    """The policy that is trained: fresh adapters on the model, or the model itself."""
    config = setup.config
    if config.tuning == "full":
        return setup.model
    if isinstance(setup.model, PeftModel):
        note(f"training of the adapter {config.model} is continued; its own rank and layers stay")
        return continued_adapter(setup.model, quantised=config.tuning == "qlora")
    set_seed(config.seed)  # the adapters' first weights do not depend on what was drawn before
    settings = LoraSettings(config.lora_rank, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
    return add_lora(setup.model, settings, quantised=config.tuning == "qlora")


def length_limits(config: TrainingConfig) -> LengthLimits:
    """The config's limits on tokens."""
    return LengthLimits(config.max_prompt_tokens, config.max_response_tokens, config.long_prompts)


def train_and_save(
    run: RunDirectory,
    setup: Setup[Any],
    trainer: RowMeanTrainer,
    figures: Callable[[], list[Figure]],
    write_card: Callable[[list[Figure]], None],
    *,
    data: Mapping[str, Any],
    mend: Callable[[], None] = lambda: None,
) -> None:
    """Train from the newest checkpoint on; then model, metrics, results and model card.

    `data` is what the manifest says of the data; `mend` is what is done to the trained weights before they are saved.
    An earlier run is deleted here, when all that could be wrong has been checked.
    """
    report_progress(trainer)
    with setup.arguments.main_process_first():
        if setup.arguments.process_index == 0:
            run.start(**data)
    run.train(trainer)
    mend()
    trainer.check_trained()
    # transformers has aligned this with the tokenizer's eos; an answer ends with the template's end of turn.
    setup.model.generation_config.eos_token_id = setup.chat.stop_token_ids
    run.save_model(trainer, lambda directory: save_result(directory, setup, trainer))
    if trainer.is_world_process_zero():
        measured = figures()
        write_card(measured)
        run.finish(measured, trainer.state.log_history)
        note(f"saved to {run.path}; its model card is {run.path / 'README.md'}")


def save_result(directory: Path, setup: Setup[Any], trainer: Trainer) -> None:
    """Save the adapter or model as safetensors, with the tokenizer.

    New adapters on a merged model would be useless without it, so they are merged as well.
    """
    policy = None if trainer.model is None else unwrapped(trainer.model)
    if not (setup.merged and isinstance(policy, PeftModel)):
        trainer.save_model(str(directory))
    elif trainer.is_world_process_zero():
        merged_adapter(policy).save_pretrained(str(directory))
        setup.tokenizer.save_pretrained(str(directory))


def logged_terms(trainer: Trainer, names: tuple[str, ...]) -> dict[str, float]:
    """The last logged value of each name that was logged."""
    logged: dict[str, float] = {}
    for entry in trainer.state.log_history:
        logged |= {name: float(entry[name]) for name in names if name in entry}
    return logged


def training_arguments(config: TrainingConfig) -> TrainingArguments:
    """transformers' arguments for a config; what the user passes in `training_arguments` wins."""
    chosen: dict[str, Any] = {
        "output_dir": str(config.output_dir),
        "learning_rate": config.resolved_learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.per_device_batch_size,
        "per_device_eval_batch_size": config.per_device_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "activation_checkpointing": config.gradient_checkpointing,
        "bf16": config.bf16,
        "deepspeed": str(config.deepspeed) if config.deepspeed else None,
        "train_sampling_strategy": "group_by_length",
        "seed": config.seed,
        "logging_steps": config.logging_steps,
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "eval_strategy": "epoch" if config.eval_data else "no",
        "prediction_loss_only": True,
        "report_to": list(config.report_to) or "none",
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
        "use_cpu": not torch.cuda.is_available(),
    }
    for tracker in config.report_to:
        if tracker not in get_available_reporting_integrations():
            raise HoldfastError(
                f"field 'report_to': {tracker!r} is not installed here; run: pip install {tracker}"
            )
    _refuse_arguments(config)
    try:
        return TrainingArguments(**(chosen | config.training_arguments))
    except (TypeError, ValueError, ImportError, OSError) as error:
        raise HoldfastError(f"transformers rejects the training arguments: {str(error).splitlines()[0]}") from None


# What training_arguments must not hold, and what to do instead.
_OWN_FIELDS = {
    "output_dir": "output_dir",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "lr_scheduler",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "per_device_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "activation_checkpointing": "gradient_checkpointing",
    "gradient_checkpointing": "gradient_checkpointing",
    "bf16": "bf16",
    "deepspeed": "deepspeed",
    "seed": "seed",
    "save_steps": "save_steps",
    "report_to": "report_to",
}
_WITHOUT_US = {
    "push_to_hub": "nothing is uploaded; use `hf upload` after the training",
    "resume_from_checkpoint": "run the same command again and it continues",
    "fp16": "use bf16: true",
    "remove_unused_columns": "the trainers need every column",
    "prediction_loss_only": "the trainers report the loss only",
    "eval_strategy": "give eval_data, and the loss is reported after each epoch",
    "do_eval": "give eval_data, and the loss is reported after each epoch",
    "load_best_model_at_end": "the last model is saved",
    "save_strategy": "use save_steps",
    "label_smoothing_factor": "the losses are our own",
    "torch_compile": "the losses read hidden states through hooks, which compiling removes",
}


def _refuse_arguments(config: TrainingConfig) -> None:
    """Raise HoldfastError for training_arguments that belong to a field of ours or cannot work here."""
    for name, value in config.training_arguments.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise HoldfastError(f"field 'training_arguments': {name} {value} is no finite number")
        if name in _OWN_FIELDS:
            raise HoldfastError(f"field 'training_arguments': for {name} use the field {_OWN_FIELDS[name]}")
        if name.startswith(("hub_", "push_to_hub")):
            name = "push_to_hub"
        if name in _WITHOUT_US and value not in (None, False, "", "no", 0):
            raise HoldfastError(f"field 'training_arguments': {name} does not work here; {_WITHOUT_US[name]}")
        if name.startswith("fsdp") and value and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise HoldfastError(f"field 'training_arguments': {name} needs several processes; start with torchrun")
