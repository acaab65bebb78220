"""What every training recipe does alike: arguments, model, adapters, and putting the result on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from holdfast.chat import ChatFormat, load_chat_model
from holdfast.data.truncation import LengthLimits
from holdfast.errors import HoldfastError
from holdfast.models import LoraSettings, Policy, add_lora
from holdfast.recipes.configs import TrainingConfig
from holdfast.recipes.run_directory import RunDirectory
from holdfast.recipes.terminal import note
from holdfast.results import Figure

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


@dataclass(frozen=True)
class Setup(Generic[ConfigT]):
    """What a run works with, loaded once."""

    config: ConfigT
    arguments: TrainingArguments
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    model: Policy  # the aligned model, not yet trained


def open_run(config: TrainingConfig) -> tuple[TrainingArguments, RunDirectory]:
    """transformers' arguments, and the directory of the run, which may be finished already."""
    arguments = training_arguments(config)
    with arguments.main_process_first():
        run = RunDirectory(config.output_dir, config, overwrite=config.overwrite)
    if run.finished:
        note(f"{run.path}: this run is finished; pass --overwrite true to train again")
    return arguments, run


def load_setup(config: ConfigT, arguments: TrainingArguments) -> Setup[ConfigT]:
    """Tokenizer, chat format and the aligned model."""
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
    return Setup(config, arguments, chat.tokenizer, chat, model)


def with_adapters(setup: Setup[Any]) -> Policy:
    """The policy that is trained: fresh adapters on the model, or the model itself."""
    config = setup.config
    if config.tuning == "full":
        return setup.model
    set_seed(config.seed)  # the adapters' first weights do not depend on what was drawn before
    settings = LoraSettings(config.lora_rank, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
    return add_lora(setup.model, settings, quantised=config.tuning == "qlora")


def length_limits(config: TrainingConfig) -> LengthLimits:
    """The config's limits on tokens."""
    return LengthLimits(config.max_prompt_tokens, config.max_response_tokens, config.long_prompts)


def train_and_save(
    run: RunDirectory,
    setup: Setup[Any],
    trainer: Trainer,
    figures: Callable[[], list[Figure]],
    write_card: Callable[[list[Figure]], None],
    *,
    mend: Callable[[], None] = lambda: None,
) -> None:
    """Train from the newest checkpoint on; then model, metrics, results and model card.

    `mend` is what is done to the trained weights before they are saved.
    """
    run.train(trainer)
    mend()
    # transformers has aligned this with the tokenizer's eos; an answer ends with the template's end of turn.
    setup.model.generation_config.eos_token_id = setup.chat.stop_token_ids
    trainer.save_model(str(run.path))  # safetensors, by transformers and peft; the tokenizer goes with it
    if trainer.is_world_process_zero():
        (run.path / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same
        measured = figures()
        write_card(measured)
        run.finish(measured, trainer.state.log_history)
        note(f"saved to {run.path}; its model card is {run.path / 'README.md'}")


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
    try:
        return TrainingArguments(**(chosen | config.training_arguments))
    except (TypeError, ValueError, ImportError, OSError) as error:
        raise HoldfastError(f"transformers rejects the training arguments: {str(error).splitlines()[0]}") from None
