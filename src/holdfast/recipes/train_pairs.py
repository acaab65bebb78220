"""`holdfast train-mpo` and `holdfast train-preference`: from parallel pairs to a fine-tuned model, top to bottom."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled

from holdfast.data import RoleRows, load_role_rows
from holdfast.data.pair_collator import Anchors, AnchorSequence, PairExample
from holdfast.data.pairs import ParallelPairs
from holdfast.errors import HoldfastError
from holdfast.losses.preference import PREFERENCE_LOSSES, bind
from holdfast.recipes.configs import MPOConfig, PairsConfig, PreferenceConfig
from holdfast.recipes.gap import gap_figures, gap_warnings, print_side_by_side
from holdfast.recipes.identity import common_inputs, rows_identity
from holdfast.recipes.model_card import CardText, write_model_card
from holdfast.recipes.pair_data import ScoredPairs, load_pairs, score_both_sides
from holdfast.recipes.run_directory import RunDirectory
from holdfast.recipes.terminal import count, note, report_loading
from holdfast.recipes.training import (
    Setup,
    is_done,
    length_limits,
    load_setup,
    logged_terms,
    open_run,
    train_and_save,
    with_adapters,
)
from holdfast.reference.pairs import (
    Retention,
    compute_anchors,
    dominant_anchors,
    prompt_anchor,
    with_retained_prompts,
)
from holdfast.reference.rds import encode_row
from holdfast.reference.store import default_cache_dir
from holdfast.results import Figure
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.pairs import PairTrainer
from holdfast.trainers.preference import PreferenceTrainer

MPO_SWITCHES = (
    "preset",
    "beta",
    "retention",
    "retention_weight",
    "retention_data",
    "length_normalise",
    "gap",
    "huber_delta",
    "one_sided",
)

KTO_ALONE = (
    "kto compares an answer with the mean over its batch, and per_device_batch_size is 1: each pair is compared with "
    "itself alone; set per_device_batch_size to 4 or more"
)


@dataclass(frozen=True)
class Sources:
    """What the run reads, before a model is loaded."""

    train: ParallelPairs
    held_out: ParallelPairs | None
    retained: RoleRows | None  # MPO's retention data


@dataclass(frozen=True)
class TrainingData:
    """Pairs with what the frozen reference says about them."""

    pairs: ParallelPairs
    scored: ScoredPairs
    examples: list[PairExample]
    held_out: list[PairExample] | None  # their anchors follow the training pairs' in `anchors`
    anchors: Anchors | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """What one method differs in."""

    method: str  # of the figures
    build: Callable[[TrainingData, dict[str, Any]], PairTrainer]  # gets the arguments that every trainer takes
    retention: Retention | None
    retention_data: str | None
    length_normalise: bool
    terms: tuple[str, ...]  # logged in training
    card: tuple[str, str, tuple[str, ...]]  # the method's name, a sentence, the switches that the card shows
    warnings: tuple[str, ...] = ()  # of the settings alone


def train_mpo(config: MPOConfig) -> Path:
    """Run one training with MPO; returns the directory of the result. Continues a run that was killed there."""
    held = config.retention != "none" and config.retention_weight > 0
    settings = MPOSettings(
        beta=config.beta,
        retention_weight=config.retention_weight,
        length_normalise=config.length_normalise,
        gap=config.gap,
        huber_delta=config.huber_delta,
        one_sided=config.one_sided,
    )
    recipe = Recipe(
        method="mpo",
        build=lambda data, common: MPOTrainer(settings=settings, anchors=data.anchors, **common),
        retention=config.retention if config.retention != "none" else None,
        retention_data=config.retention_data,
        length_normalise=config.length_normalise,
        terms=("gap_loss", "retention_loss", "reward_gap"),
        card=(
            "MPO, Multilingual reward gaP Optimization (arXiv 2505.16869)",
            f"Its hidden states on {config.dominant_language} were {'' if held else 'not '}held.",
            MPO_SWITCHES,
        ),
    )
    return _train(config, recipe)


def train_preference(config: PreferenceConfig) -> Path:
    """Run one training with a preference loss; as `train_mpo`."""
    try:
        bind(config.loss, **config.loss_weights)
    except ValueError as error:
        raise HoldfastError(f"field 'loss_weights': {error}") from None
    recipe = Recipe(
        method=config.loss,
        build=lambda data, common: PreferenceTrainer(loss=config.loss, weights=config.loss_weights, **common),
        retention=None,
        retention_data=None,
        length_normalise=True,
        terms=("reward_gap", "reward_accuracy"),
        card=(
            f"the loss {config.loss} ({PREFERENCE_LOSSES[config.loss].source})",
            "Nothing held its dominant language.",
            ("loss", "loss_weights"),
        ),
        warnings=(KTO_ALONE,) if config.loss == "kto" and config.per_device_batch_size == 1 else (),
    )
    return _train(config, recipe)


def _train(config: PairsConfig, recipe: Recipe) -> Path:
    with open_run(config) as (arguments, run):
        sources = load_sources(config, recipe)
        if not is_done(run, arguments, inputs_of(config, arguments, sources)):
            _train_in(run, config, arguments, recipe, sources)
    return run.path


def _train_in(
    run: RunDirectory, config: PairsConfig, arguments: TrainingArguments, recipe: Recipe, sources: Sources
) -> None:
    set_seed(config.seed)
    setup = load_setup(config, arguments)
    data = prepared(setup, recipe, sources)
    note(f"{count(len(data.examples), 'pair')} to train on; {data.scored.truncated}")
    for warning in data.warnings:
        note(f"warning: {warning}")
    trainer = recipe.build(
        data,
        {
            "model": with_adapters(setup),
            "args": arguments,
            "dropout": config.dropout,
            "train_dataset": data.examples,
            "eval_dataset": data.held_out,
            "pad_token_id": setup.tokenizer.pad_token_id,
            "processing_class": setup.tokenizer,
        },
    )
    train_and_save(
        run,
        setup,
        trainer,
        data={
            "pairs": data.pairs.fingerprint(),
            "trained_pairs": len(data.examples),
            "warnings": list(data.warnings),
        },
        figures=lambda: _figures(setup, recipe, data, trainer),
        write_card=lambda figures: write_model_card(run.path, config, _card(config, recipe, data), figures),
    )


def load_sources(config: PairsConfig, recipe: Recipe) -> Sources:
    """Read every data file of the run; no model is loaded."""

    def pairs(source: str) -> ParallelPairs:
        return load_pairs(
            source,
            dominant=config.dominant_language,
            languages=config.target_languages,
            split=config.data_split,
            drop=config.drop_flagged_pairs,
            drop_bad_rows=config.drop_bad_rows,
        )

    retained = None
    if recipe.retention_data is not None:
        retained = load_role_rows(
            recipe.retention_data, split=config.data_split, drop_bad_rows=config.drop_bad_rows
        )
        report_loading(retained)
    return Sources(pairs(config.data), pairs(config.eval_data) if config.eval_data else None, retained)


def inputs_of(config: PairsConfig, arguments: TrainingArguments, sources: Sources) -> dict[str, str]:
    """The fingerprints of all that the run reads."""
    inputs = common_inputs(config, arguments) | {"data": sources.train.fingerprint()}
    if sources.held_out is not None:
        inputs["eval_data"] = sources.held_out.fingerprint()
    if sources.retained is not None:
        inputs["retention_data"] = rows_identity(sources.retained)
    return inputs


def prepared(setup: Setup[PairsConfig], recipe: Recipe, sources: Sources) -> TrainingData:
    """Encode and score; the first process computes, the others find the values in the cache."""
    train = _scored(setup, sources.train)
    held_out = _scored(setup, sources.held_out) if sources.held_out is not None else None
    examples = train.examples(length_normalise=recipe.length_normalise)
    further = held_out.examples(length_normalise=recipe.length_normalise) if held_out else None
    sets = [*anchor_sets(setup, recipe, sources, train, examples)]
    if held_out is not None and further is not None:
        sets += anchor_sets(setup, recipe, sources, held_out, further, first=len(sets))
    anchors = _anchors(setup, sets) if any(sets) else None
    warnings = gap_warnings(train, length_normalise=recipe.length_normalise, dominant_leads=recipe.method == "mpo")
    return TrainingData(train.pairs, train, examples, further, anchors, (*recipe.warnings, *warnings))


def _scored(setup: Setup[PairsConfig], pairs: ParallelPairs) -> ScoredPairs:
    config = setup.config
    with setup.arguments.main_process_first():
        return _score(setup, pairs, setup.model, cache_dir=config.cache_dir or default_cache_dir())


def _score(setup: Setup[PairsConfig], pairs: ParallelPairs, model: Any, cache_dir: Path | None) -> ScoredPairs:
    config = setup.config
    return score_both_sides(
        model,
        setup.chat,
        pairs,
        length_limits(config),
        system=config.system_prompt,
        batch_size=config.score_batch_size,
        cache_dir=cache_dir,
    )


def anchor_sets(
    setup: Setup[PairsConfig],
    recipe: Recipe,
    sources: Sources,
    scored: ScoredPairs,
    examples: list[PairExample],
    *,
    first: int = 0,
) -> list[tuple[AnchorSequence, ...]]:
    """What is held for each example: its dominant pair's texts, and one prompt of the retention data.

    Points each example's `anchor` at its set, counted from `first`: one set a dominant pair where that is all.
    """
    sets: list[tuple[AnchorSequence, ...]] = [() for _ in scored.pairs.dominants]
    if recipe.retention is not None:
        sets = dominant_anchors(len(scored.pairs.dominants), scored.dominants, recipe.retention)
    if sources.retained is not None:
        sets = [sets[example["anchor"]] for example in examples]
        sets = with_retained_prompts(sets, retained_prompts(setup, sources.retained), setup.config.seed)
        for index, example in enumerate(examples):
            example["anchor"] = index
    for example in examples:
        example["anchor"] += first
    return sets


def retained_prompts(setup: Setup[PairsConfig], rows: RoleRows) -> list[AnchorSequence]:
    """The prompts of the retention data."""
    limits = length_limits(setup.config)
    system = setup.config.system_prompt
    encoded = (encode_row(setup.chat, row, limits, system=system, last_answer_only=True) for row in rows)
    prompts = [prompt_anchor(example) for example in encoded if example is not None]
    if not prompts:
        raise HoldfastError(
            f"{rows.source}: every prompt is over max_prompt_tokens {limits.max_prompt_tokens}; raise it"
        )
    return prompts


def _anchors(setup: Setup[PairsConfig], sets: list[tuple[AnchorSequence, ...]]) -> Anchors:
    config = setup.config
    with setup.arguments.main_process_first():
        return compute_anchors(
            setup.model,
            setup.chat,
            sets,
            batch_size=config.score_batch_size,
            cache_dir=config.cache_dir or default_cache_dir(),
        )


def _figures(setup: Setup[PairsConfig], recipe: Recipe, data: TrainingData, trainer: Trainer) -> list[Figure]:
    """Reward gaps before and after training, per language, and what was logged in training; the gaps are shown."""
    config = setup.config
    logged = logged_terms(trainer, ("train_loss", "eval_loss", *recipe.terms))
    gaps = gap_figures(data.scored, experiment="train_pairs", method="before training", seed=config.seed)
    gaps += _gaps_after_training(setup, data.pairs, trainer)
    print_side_by_side(gaps, list(dict.fromkeys(figure.method for figure in gaps)), seed=config.seed)
    return [
        *gaps,
        *(
            Figure("train_pairs", recipe.method, "training", config.seed, metric, value, len(data.examples))
            for metric, value in logged.items()
        ),
    ]


def _gaps_after_training(setup: Setup[PairsConfig], pairs: ParallelPairs, trainer: Trainer) -> list[Figure]:
    """The trained model's reward gaps on the training pairs; none, which is told, where they cannot be measured."""
    sharded = trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()
    try:
        if sharded:  # a forward needs all devices, and the others are done
            raise HoldfastError("the weights are sharded; run holdfast gap on the saved model")
        scored = _score(setup, pairs, trainer.model, cache_dir=None)
    except HoldfastError as error:
        note(f"the reward gaps after training were not measured: {error}")
        return []
    return gap_figures(scored, experiment="train_pairs", method="after training", seed=setup.config.seed)


def _card(config: PairsConfig, recipe: Recipe, data: TrainingData) -> CardText:
    method, details, switches = recipe.card
    targets = ", ".join(data.pairs.languages[1:])
    return CardText(
        title=f"{recipe.method}, {config.dominant_language} to {targets},",
        method=method,
        details=details,
        tags=(recipe.method, "multilingual-safety"),
        warnings=data.warnings,
        switches=(*switches, "dominant_language", "tuning", "learning_rate", "epochs", "seed"),
        data=f"{len(data.examples)} pairs ({data.scored.truncated}); reward gaps are those on these pairs",
    )
