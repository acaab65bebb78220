"""`holdfast train-sarft`: from rows and a role to a fine-tuned model, top to bottom."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations

from holdfast.chat import ChatFormat
from holdfast.data import Role, RoleRows, load_role, load_role_rows
from holdfast.data.collator import Example
from holdfast.data.truncation import LengthLimits, TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.models import LoraSettings, Policy, add_lora, load_model, load_tokenizer
from holdfast.recipes.configs import SaRFTConfig
from holdfast.recipes.model_card import write_model_card
from holdfast.recipes.run_directory import RunDirectory
from holdfast.recipes.terminal import count, note, progress_bar, report_loading
from holdfast.reference.rds import RoleScores, encode_row, score_role_rows
from holdfast.reference.selectors import NEEDS_SCORES, select_rows
from holdfast.reference.store import default_cache_dir
from holdfast.results import Figure
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer


@dataclass(frozen=True)
class Setup:
    """What a run works with, loaded once."""

    config: SaRFTConfig
    arguments: TrainingArguments
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    model: Policy  # the aligned model, not yet trained
    role: Role


@dataclass(frozen=True)
class TrainingData:
    """Encoded, flagged rows, and what was counted on the way."""

    examples: list[Example]
    truncated: TruncationCounts
    flagged_share: float


def train_sarft(config: SaRFTConfig) -> Path:
    """Run one fine-tuning; returns the directory of the result. Continues a run that was killed there."""
    arguments = training_arguments(config)
    with arguments.main_process_first():
        run = RunDirectory(config.output_dir, config, overwrite=config.overwrite)
    if run.finished:
        note(f"{run.path}: this run is finished; pass --overwrite true to train again")
        return run.path

    set_seed(config.seed)
    role, rows = load_role_and_rows(config, config.data)
    setup = load_setup(config, arguments, role)
    data = flagged_examples(setup, rows)
    note(
        f"{count(len(data.examples), 'row')}, {data.flagged_share:.1%} anchored (selector {config.selector}, "
        f"beta {config.beta:g}); {data.truncated}"
    )
    held_out = None
    if config.eval_data is not None:
        held_out = flagged_examples(setup, load_role_and_rows(config, config.eval_data)[1]).examples

    if arguments.process_index == 0:
        run.start(role=role.name, rows=rows.fingerprint(), trained_rows=len(data.examples))
    trainer = SaRFTTrainer(
        with_adapters(setup),
        arguments,
        settings=SaRFTSettings(
            beta=config.beta,
            ce_normaliser=config.ce_normaliser,
            kl_span=config.kl_span,
            kl_direction=config.kl_direction,
            safe_loss=config.safe_loss,
        ),
        train_dataset=data.examples,
        eval_dataset=held_out,
        pad_token_id=setup.tokenizer.pad_token_id,
        processing_class=setup.tokenizer,
    )
    run.train(trainer)

    # transformers has aligned this with the tokenizer's eos; an answer ends with the template's end of turn.
    setup.model.generation_config.eos_token_id = setup.chat.stop_token_ids
    trainer.save_model(str(run.path))  # safetensors, by transformers and peft; the tokenizer goes with it
    if trainer.is_world_process_zero():
        (run.path / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same
        figures = measured_figures(config, role, data, trainer)
        write_model_card(run.path, config, role, figures, data)
        run.finish(figures, trainer.state.log_history)
        note(f"saved to {run.path}; its model card is {run.path / 'README.md'}")
    return run.path


def load_setup(config: SaRFTConfig, arguments: TrainingArguments, role: Role) -> Setup:
    """Tokenizer, chat format and the aligned model."""
    tokenizer = load_tokenizer(
        config.model, chat_template=config.chat_template, trust_remote_code=config.trust_remote_code
    )
    chat = ChatFormat(tokenizer, end_of_turn=config.end_of_turn, fold_separator=config.fold_separator)
    model = load_model(
        config.model,
        dtype=config.dtype,
        quantise_4bit=config.tuning == "qlora",
        trust_remote_code=config.trust_remote_code,
        device=str(arguments.device),
    )
    return Setup(config, arguments, tokenizer, chat, model, role)


def with_adapters(setup: Setup) -> Policy:
    """The policy that is trained: fresh adapters on the model, or the model itself."""
    config = setup.config
    if config.tuning == "full":
        return setup.model
    set_seed(config.seed)  # the adapters' first weights do not depend on what was drawn before
    settings = LoraSettings(config.lora_rank, config.lora_alpha, config.lora_dropout, config.lora_target_modules)
    return add_lora(setup.model, settings, quantised=config.tuning == "qlora")


def training_arguments(config: SaRFTConfig) -> TrainingArguments:
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


def load_role_and_rows(config: SaRFTConfig, data: str) -> tuple[Role, RoleRows]:
    """The role, and its rows: all rows of a file without a role column, else this role's."""
    role = load_role(config.role, config.role_name)
    rows = load_role_rows(data, split=config.data_split, drop_bad_rows=config.drop_bad_rows)
    report_loading(rows)
    if config.role_name and any(row.role is not None for row in rows):
        rows = rows.with_role(config.role_name)
    return role, rows


def flagged_examples(setup: Setup, rows: RoleRows) -> TrainingData:
    """Encode the rows, and flag those that the selector picks; scores them first if it needs that."""
    config, counts = setup.config, TruncationCounts()
    kept, examples = [], []
    for row in rows:
        example = encode_row(setup.chat, row, _limits(config), system=config.system_prompt, counts=counts)
        if example is not None:
            kept.append(row)
            examples.append(example)
    if not examples:
        raise HoldfastError(f"{rows.source}: no row is left to train on ({counts}); raise max_prompt_tokens")
    scores = score_once(setup, rows) if config.selector in NEEDS_SCORES else None
    flags = select_rows(config.selector, kept, scores, seed=config.seed)
    for example, flag in zip(examples, flags, strict=True):
        example["harmful"] = flag
    return TrainingData(examples, counts, sum(flags) / len(flags))


def score_once(setup: Setup, rows: RoleRows) -> RoleScores:
    """RDS scores; the first process computes them, the others find them in the cache."""
    config = setup.config
    with setup.arguments.main_process_first(), progress_bar("scoring rows") as progress:
        return score_role_rows(
            setup.model,
            setup.tokenizer,
            rows,
            setup.role,
            chat=setup.chat,
            limits=_limits(config),
            system_prompt=config.system_prompt,
            batch_size=config.score_batch_size,
            cache_dir=config.cache_dir or default_cache_dir(),
            progress=progress,
        )


def _limits(config: SaRFTConfig) -> LengthLimits:
    return LengthLimits(config.max_prompt_tokens, config.max_response_tokens, config.long_prompts)


def measured_figures(config: SaRFTConfig, role: Role, data: TrainingData, trainer: SaRFTTrainer) -> list[Figure]:
    """What was measured in training, in the one results format."""
    measured = {"flagged_share": data.flagged_share}
    for entry in trainer.state.log_history:
        names = ("train_loss", "role_loss", "safety_loss", "eval_loss")
        measured |= {name: float(entry[name]) for name in names if name in entry}
    return [
        Figure(
            experiment="train_sarft",
            method=f"sarft_{config.selector}",
            group=role.name,
            seed=config.seed,
            metric=metric,
            value=value,
            n=len(data.examples),
        )
        for metric, value in measured.items()
    ]
