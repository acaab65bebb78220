"""`holdfast train-sarft`: from rows and a role to a fine-tuned model, top to bottom."""

from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from holdfast.data import Role, RoleRows, load_role, load_role_rows
from holdfast.data.collator import Example
from holdfast.data.truncation import TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.recipes.configs import SaRFTConfig
from holdfast.recipes.model_card import CardText, escaped, write_model_card
from holdfast.recipes.terminal import count, note, progress_bar, report_loading
from holdfast.recipes.training import (
    Setup,
    length_limits,
    load_setup,
    logged_terms,
    open_run,
    train_and_save,
    with_adapters,
)
from holdfast.reference.rds import RoleScores, encode_row, score_role_rows
from holdfast.reference.selectors import NEEDS_SCORES, select_rows
from holdfast.reference.store import default_cache_dir
from holdfast.results import Figure
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer


@dataclass(frozen=True)
class TrainingData:
    """Encoded, flagged rows, and what was counted on the way."""

    examples: list[Example]
    truncated: TruncationCounts
    flagged_share: float


def train_sarft(config: SaRFTConfig) -> Path:
    """Run one fine-tuning; returns the directory of the result. Continues a run that was killed there."""
    arguments, run = open_run(config)
    if run.finished:
        return run.path

    set_seed(config.seed)
    role, rows = load_role_and_rows(config, config.data)
    setup = load_setup(config, arguments)
    data = flagged_examples(setup, role, rows)
    note(
        f"{count(len(data.examples), 'row')}, {data.flagged_share:.1%} anchored (selector {config.selector}, "
        f"beta {config.beta:g}); {data.truncated}"
    )
    held_out = None
    if config.eval_data is not None:
        held_out = flagged_examples(setup, role, load_role_and_rows(config, config.eval_data)[1]).examples

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
            kl_first_tokens=config.kl_first_tokens,
        ),
        train_dataset=data.examples,
        eval_dataset=held_out,
        pad_token_id=setup.tokenizer.pad_token_id,
        processing_class=setup.tokenizer,
    )
    train_and_save(
        run,
        setup,
        trainer,
        figures=lambda: measured_figures(config, role, data, trainer),
        write_card=lambda figures: write_model_card(run.path, config, card_text(config, role, data), figures),
    )
    return run.path


def load_role_and_rows(config: SaRFTConfig, data: str) -> tuple[Role, RoleRows]:
    """The role, and its rows: all rows of a file without a role column, else this role's."""
    role = load_role(config.role, config.role_name)
    rows = load_role_rows(data, split=config.data_split, drop_bad_rows=config.drop_bad_rows)
    report_loading(rows)
    if config.role_name and any(row.role is not None for row in rows):
        rows = rows.with_role(config.role_name)
    return role, rows


def flagged_examples(setup: Setup[SaRFTConfig], role: Role, rows: RoleRows) -> TrainingData:
    """Encode the rows, and flag those that the selector picks; scores them first if it needs that."""
    config, counts = setup.config, TruncationCounts()
    kept, examples = [], []
    for row in rows:
        example = encode_row(setup.chat, row, length_limits(config), system=config.system_prompt, counts=counts)
        if example is not None:
            kept.append(row)
            examples.append(example)
    if not examples:
        raise HoldfastError(f"{rows.source}: no row is left to train on ({counts}); raise max_prompt_tokens")
    scores = score_once(setup, role, rows) if config.selector in NEEDS_SCORES else None
    flags = select_rows(config.selector, kept, scores, seed=config.seed)
    for example, flag in zip(examples, flags, strict=True):
        example["harmful"] = flag
    return TrainingData(examples, counts, sum(flags) / len(flags))


def score_once(setup: Setup[SaRFTConfig], role: Role, rows: RoleRows) -> RoleScores:
    """RDS scores; the first process computes them, the others find them in the cache."""
    config = setup.config
    with setup.arguments.main_process_first(), progress_bar("scoring rows") as progress:
        return score_role_rows(
            setup.model,
            setup.tokenizer,
            rows,
            role,
            chat=setup.chat,
            limits=length_limits(config),
            system_prompt=config.system_prompt,
            batch_size=config.score_batch_size,
            cache_dir=config.cache_dir or default_cache_dir(),
            progress=progress,
        )


def measured_figures(config: SaRFTConfig, role: Role, data: TrainingData, trainer: SaRFTTrainer) -> list[Figure]:
    """What was measured in training, in the one results format."""
    measured = {"flagged_share": data.flagged_share} | logged_terms(
        trainer, ("train_loss", "role_loss", "safety_loss", "eval_loss")
    )
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


def card_text(config: SaRFTConfig, role: Role, data: TrainingData) -> CardText:
    """What the model card says of this run."""
    if config.selector == "none" or config.beta == 0:
        anchored = "No row was anchored to the aligned model: this is plain fine-tuning."
    else:
        share = f"{data.flagged_share:.1%} of the rows"
        anchored = f"{share} were anchored to the aligned model (selector {config.selector})."
    return CardText(
        title=escaped(role.name),
        method="SaRFT, Safety-Aware Role-Play Fine-Tuning (arXiv 2502.20968)",
        details=f"{anchored} How well it plays the role was not measured either.",
        tags=("sarft", "role-play"),
        switches=(
            "preset",
            "selector",
            "beta",
            "ce_normaliser",
            "kl_span",
            "kl_direction",
            "safe_loss",
            "kl_first_tokens",
            "tuning",
            "learning_rate",
            "epochs",
            "seed",
        ),
        data=f"{len(data.examples)} rows of training data ({data.truncated})",
    )
