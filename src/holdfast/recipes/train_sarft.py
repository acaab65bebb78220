"""`holdfast train-sarft`: from rows and a role to a fine-tuned model, top to bottom."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments, set_seed

from holdfast.data import Role, RoleRows, load_role, load_role_rows
from holdfast.methods.role import (
    Preparation,
    RoleData,
    RoleExamples,
    RoleMethod,
    freeze,
    held_out_examples,
    mend,
    resolved_layers,
    role_examples,
    role_trainer,
)
from holdfast.models import Policy
from holdfast.recipes.configs import SaRFTConfig
from holdfast.recipes.identity import common_inputs, model_identity, role_identity, rows_identity
from holdfast.recipes.model_card import CardText, write_model_card
from holdfast.recipes.run_directory import RunDirectory
from holdfast.recipes.terminal import count, note, progress_bar, report_loading, warn_of_unknown_tokens
from holdfast.recipes.training import (
    is_done,
    length_limits,
    load_setup,
    logged_terms,
    open_run,
    train_and_save,
    with_adapters,
)
from holdfast.reference.store import default_cache_dir
from holdfast.results import Figure

SHOWN_FIRST = ("selector", "beta", "ce_normaliser", "kl_span", "kl_direction", "safe_loss", "kl_first_tokens")
ALWAYS_SHOWN = ("tuning", "learning_rate", "epochs", "seed")


def train_sarft(config: SaRFTConfig) -> Path:
    """Run one fine-tuning; returns the directory of the result. Continues a run that was killed there."""
    with open_run(config) as (arguments, run):
        _train(config, arguments, run)
    return run.path


def _train(config: SaRFTConfig, arguments: TrainingArguments, run: RunDirectory) -> None:
    method = role_method(config)
    data = load_role_data(config, config.data)
    unseen = load_role_data(config, config.eval_data) if config.eval_data is not None else None
    if is_done(run, arguments, inputs_of(config, arguments, data, unseen)):
        return
    set_seed(config.seed)
    setup = load_setup(config, arguments)
    warn_of_unknown_tokens(setup.chat, (row.messages for row in data.rows[:200]))
    preparation = preparation_of(config)
    with arguments.main_process_first():  # the first process computes scores, the others find them in the cache
        made = role_examples(method, setup.model, setup.chat, data, preparation)
        held_out = None
        if unseen is not None:
            held_out = held_out_examples(method, setup.model, setup.chat, unseen, preparation)
        layers = resolved_layers(method, setup.model, setup.chat, data)
    note(described(config, method, made, layers))

    policy = with_adapters(setup)
    if layers is not None:
        note(f"layers {layers[0]} to {layers[1]} are frozen: {freeze(policy, layers)}")
    trainer = role_trainer(
        method,
        policy,
        arguments,
        train=made.examples,
        held_out=held_out,
        pad_token_id=setup.tokenizer.pad_token_id,
        dropout=config.dropout,
        processing_class=setup.tokenizer,
    )
    train_and_save(
        run,
        setup,
        trainer,
        data={"role": data.role.name, "rows": data.rows.fingerprint(), "trained_rows": len(made.examples)},
        mend=lambda: mended(config, method, policy),
        figures=lambda: measured_figures(config, data.role, made, trainer),
        write_card=lambda figures: write_model_card(run.path, config, card_text(config, data.role, made), figures),
    )


def inputs_of(
    config: SaRFTConfig, arguments: TrainingArguments, data: RoleData, unseen: RoleData | None
) -> dict[str, str]:
    """The fingerprints of all that the run reads."""
    rows = {
        "data": data.rows,
        "eval_data": None if unseen is None else unseen.rows,
        "safety_data": data.safety,
        "unsafe_data": data.unsafe,
    }
    inputs = common_inputs(config, arguments) | {"role": role_identity(data.role)}
    inputs |= {name: rows_identity(read) for name, read in rows.items() if read is not None}
    if config.projection != "none" and config.unaligned_model is not None:
        inputs["unaligned_model"] = model_identity(config.unaligned_model)
    return inputs


def role_method(config: SaRFTConfig) -> RoleMethod:
    """The method that the config describes: its fields of the same names."""
    return RoleMethod(**{field.name: getattr(config, field.name) for field in fields(RoleMethod)})


def preparation_of(config: SaRFTConfig) -> Preparation:
    """How the config wants rows encoded and scored."""
    return Preparation(
        limits=length_limits(config),
        system_prompt=config.system_prompt,
        batch_size=config.score_batch_size,
        cache_dir=config.cache_dir or default_cache_dir(),
        seed=config.seed,
        progress=progress_bar,
    )


def load_role_data(config: SaRFTConfig, source: str) -> RoleData:
    """The role, its rows (of a file with a role column this role's), and the safety and unsafe data if given."""
    role = load_role(config.role, config.role_name)
    rows = load_rows(config, source)
    if config.role_name and any(row.role is not None for row in rows):
        rows = rows.with_role(config.role_name)
    safety, unsafe = (
        load_rows(config, other) if other is not None else None
        for other in (config.safety_data, config.unsafe_data)
    )
    return RoleData(role, rows, safety, unsafe)


def load_rows(config: SaRFTConfig, source: str) -> RoleRows:
    """Rows of a file or hub id; what loading dropped or changed is told."""
    rows = load_role_rows(source, split=config.data_split, drop_bad_rows=config.drop_bad_rows)
    report_loading(rows)
    return rows


def described(config: SaRFTConfig, method: RoleMethod, made: RoleExamples, layers: tuple[int, int] | None) -> str:
    """One line on what is trained."""
    done = {"anchor": "anchored", "drop": "left out"}[method.flagged_rows]
    line = (
        f"{count(len(made.examples), 'row')}, {made.flagged_share:.1%} {done} (selector {method.selector}, "
        f"beta {config.beta:g}); {made.truncated}"
    )
    more = [f"{name} {value}" for name, value in changed_switches(config).items() if name not in SHOWN_FIRST]
    return "; ".join([line, *more])


def changed_switches(config: SaRFTConfig) -> dict[str, Any]:
    """The method's settings that are not the defaults."""
    plain = RoleMethod()
    return {
        field.name: getattr(config, field.name)
        for field in fields(RoleMethod)
        if getattr(config, field.name) != getattr(plain, field.name)
    }


def mended(config: SaRFTConfig, method: RoleMethod, policy: Policy) -> None:
    """What the method does to the trained weights, told in a line."""
    report = mend(method, policy, config.model)
    if report is not None:
        note(f"safe_lora: {report}")


def measured_figures(config: SaRFTConfig, role: Role, made: RoleExamples, trainer: Trainer) -> list[Figure]:
    """What was measured in training, in the one results format."""
    measured = {"flagged_share": made.flagged_share} | logged_terms(
        trainer, ("train_loss", "role_loss", "safety_loss", "token_weight", "eval_loss")
    )
    return [
        Figure(
            experiment="train_sarft",
            method=f"sarft_{config.selector}",
            group=role.name,
            seed=config.seed,
            metric=metric,
            value=value,
            n=len(made.examples),
        )
        for metric, value in measured.items()
    ]


def card_text(config: SaRFTConfig, role: Role, made: RoleExamples) -> CardText:
    """What the model card says of this run."""
    share = f"{made.flagged_share:.1%} of the rows"
    if config.flagged_rows == "drop":
        anchored = f"{share} were left out (selector {config.selector})."
    elif config.selector == "none" or config.beta == 0:
        anchored = "No row was anchored to the aligned model."
    else:
        anchored = f"{share} were anchored to the aligned model (selector {config.selector})."
    return CardText(
        title=role.name,
        method="SaRFT, Safety-Aware Role-Play Fine-Tuning (arXiv 2502.20968)",
        details=anchored,
        tags=("sarft", "role-play"),
        switches=tuple(dict.fromkeys(("preset", *SHOWN_FIRST, *changed_switches(config), *ALWAYS_SHOWN))),
        data=f"{len(made.examples)} rows ({made.truncated})",
        not_measured="how well the model plays its role, how often it refuses, over-refusal, or utility",
    )
