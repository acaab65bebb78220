"""The command line. A user's mistake is one line on standard error and exit code 2, never a traceback."""

import io
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from holdfast import __version__
from holdfast.config import Config, allowed_values, default_text, load_config, option_name
from holdfast.errors import HoldfastError
from holdfast.escaping import one_line, printable
from holdfast.library_output import show_library_output
from holdfast.recipes.configs import MPOConfig, PreferenceConfig, SaRFTConfig
from holdfast.system_errors import describe_failure, describe_os_error, silence

DIMENSIONS = click.Choice(["benchmark", "language", "role", "category"])
DTYPES = click.Choice(["auto", "float32", "bfloat16", "float16"])


class Commands(click.Group):
    """The commands, which end as SIGPIPE would end them where the reader of their --output has gone."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            silence(sys.stdout)
            sys.exit(128 + 13)


class ExistingPath(click.Path):
    """A path; an empty one, which would be the current directory, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as a path."""
        if value == "":
            self.fail("an empty path; name a file or a directory", param, ctx)
        return super().convert(value, param, ctx)


EXISTING_PATH = ExistingPath(path_type=Path)


class FiniteFloat(click.FloatRange):
    """A number within a range; NaN, which passes every comparison, and infinity are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="holdfast")
def commands() -> None:
    """Fine-tune a language model without losing its safety."""


def config_options(kind: type[Config]) -> Callable[[Any], Any]:
    """One option for each field of a config class, documented by the field's description."""

    def decorate(command: Any) -> Any:
        for name, field in reversed(kind.model_fields.items()):
            default = "required" if field.is_required() else f"default: {default_text(field.default)}"
            command = click.option(
                option_name(name),
                name,
                metavar=allowed_values(field),
                help=f"{field.description} [{default}]",
            )(command)
        return command

    return decorate


def _given(overrides: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in overrides.items() if value is not None}


@commands.command("train-sarft")
@click.argument("config", type=EXISTING_PATH)
@config_options(SaRFTConfig)
def train_sarft_command(config: Path, **overrides: str | None) -> None:
    """Fine-tune a role with SaRFT. CONFIG is a YAML file (examples: configs/); options override it."""
    settings = load_config(SaRFTConfig, config, _given(overrides))
    from holdfast.recipes.train_sarft import train_sarft

    train_sarft(settings)


@commands.command("train-mpo")
@click.argument("config", type=EXISTING_PATH)
@config_options(MPOConfig)
def train_mpo_command(config: Path, **overrides: str | None) -> None:
    """Carry refusals across languages with MPO. CONFIG is a YAML file (examples: configs/); options override it."""
    settings = load_config(MPOConfig, config, _given(overrides))
    from holdfast.recipes.train_pairs import train_mpo

    train_mpo(settings)


@commands.command("train-preference")
@click.argument("config", type=EXISTING_PATH)
@config_options(PreferenceConfig)
def train_preference_command(config: Path, **overrides: str | None) -> None:
    """Train MPO's baselines (DPO, IPO, SimPO, ...) on the same pairs. CONFIG is a YAML file."""
    settings = load_config(PreferenceConfig, config, _given(overrides))
    from holdfast.recipes.train_pairs import train_preference

    train_preference(settings)


@commands.command("gap")
@click.option("--model", "models", required=True, multiple=True, help="directory, adapter or hub id; repeatable")
@click.option("--data", required=True, help="parallel preference pairs: JSON, JSONL, CSV or Parquet, or a hub id")
@click.option("--dominant-language", default="en", show_default=True, help="ISO 639-1 code")
@click.option("--language", "languages", multiple=True, help="only this target language; repeatable")
@click.option("--split", default="train", show_default=True, help="split of a hub data set")
@click.option("--limit", type=click.IntRange(min=1), help="only so many rows of the data")
@click.option("--drop", is_flag=True, help="leave out pairs that the checks warn of")
@click.option("--sums", is_flag=True, help="summed log-probabilities instead of means over tokens")
@click.option("--results", type=EXISTING_PATH, help="write the figures here, JSON lines")
@click.option("--page", type=EXISTING_PATH, help="write a page with a plot here, HTML")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="pairs a forward")
@click.option("--max-prompt-tokens", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--max-response-tokens", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--system-prompt", help="system text before every request")
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--cache-dir", type=EXISTING_PATH, help="where scores are kept [default: $HOLDFAST_CACHE]")
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def gap_command(**options: Any) -> None:
    """Measure each language's reward gap, without training and without generating."""
    from holdfast.recipes.gap import GapOptions, gap

    gap(GapOptions(**options))


@commands.command("score")
@click.option("--model", required=True, help="the aligned model: a directory, an adapter, or a hub id")
@click.option("--data", required=True, help="training rows: a JSON, JSONL, CSV or Parquet file, or a hub id")
@click.option("--role", required=True, type=EXISTING_PATH, help="role file: YAML, JSON, or a character card")
@click.option("--role-name", help="which role, where the file holds many")
@click.option("--all-roles", is_flag=True, help="score each role of the data's role column, and print a table")
@click.option("--split", default="train", show_default=True, help="split of a hub data set")
@click.option("--limit", type=click.IntRange(min=1), help="score the first rows only (of each role)")
@click.option(
    "--harmless-control",
    is_flag=True,
    help="score a harmless suffix too: how much of the flagged share is due to any sentence after the persona",
)
@click.option(
    "--output",
    type=EXISTING_PATH,
    help="write the rows with their scores and flags as JSONL; it loads as training data for selector column",
)
@click.option("--results", type=EXISTING_PATH, help="write the flagged shares as JSON lines (results format)")
@click.option(
    "--extremes", default=3, show_default=True, type=click.IntRange(min=0), help="rows to list at each end"
)
@click.option("--show-text", is_flag=True, help="print the rows' text instead of a redaction; it may be harmful")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="rows in a forward pass"
)
@click.option(
    "--max-prompt-tokens",
    default=512,
    show_default=True,
    type=click.IntRange(min=1),
    help="longer prompts are dropped and counted; the persona does not count",
)
@click.option(
    "--max-response-tokens",
    default=128,
    show_default=True,
    type=click.IntRange(min=1),
    help="longer answers are cut and counted",
)
@click.option(
    "--dtype",
    default="auto",
    show_default=True,
    type=DTYPES,
    help="type the weights are loaded in",
)
@click.option(
    "--cache-dir", type=EXISTING_PATH, help="where scores are kept [default: $HOLDFAST_CACHE or ~/.cache/holdfast]"
)
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--drop-bad-rows", is_flag=True, help="drop and count bad rows instead of stopping at the first")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def score_command(**options: Any) -> None:
    """Say which training rows would erode safety for a role (RDS), before any training."""
    from holdfast.recipes.score import ScoreOptions, score

    score(ScoreOptions(**options))


def _listed(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Several names in one option, by commas, or the option several times."""
    return tuple(name.strip() for given in value for name in given.split(",") if name.strip())


def judge_options(command: Any) -> Any:
    """The options that say which judges, for commands that judge."""
    for option in reversed(
        (
            click.option(
                "--judge",
                "judges",
                multiple=True,
                default=("keyword",),
                show_default=True,
                help="keyword, advbench, phrases:FILE, llm:MODEL, refusal:MODEL, guard:MODEL or classifier:MODEL "
                "(docs/judges.md); repeatable",
            ),
            click.option("--judge-base-url", help="endpoint of the judges' model"),
            click.option(
                "--controversial",
                type=click.Choice(["unsafe", "safe", "invalid"]),
                default="unsafe",
                show_default=True,
                help="what a guard model's Controversial counts as",
            ),
            click.option(
                "--classifier-labels",
                multiple=True,
                metavar="LABEL=VERDICT",
                callback=_listed,
                help="verdicts of a classifier's labels, *=safe for the rest, by commas",
            ),
        )
    ):
        command = option(command)
    return command


@commands.command("eval")
@click.option("--model", "models", required=True, multiple=True, help="MODEL or NAME=MODEL: see below; repeatable")
@click.option(
    "--benchmarks", multiple=True, callback=_listed, help="names by commas, or file:PATH; docs/benchmarks.md"
)
@click.option("--data", type=EXISTING_PATH, help="file or directory with the benchmarks' files [default: the hub]")
@click.option(
    "--output-dir", type=EXISTING_PATH, default="runs/eval", show_default=True, help="what is there is kept"
)
@click.option("--limit", type=click.IntRange(min=1), help="only so many prompts of each benchmark")
@click.option("--language", "languages", multiple=True, help="only this language; repeatable")
@click.option("--category", "categories", multiple=True, help="only this category; repeatable")
@click.option("--role", type=EXISTING_PATH, help="role file: ask under its persona prompt [default: none]")
@click.option(
    "--role-name", "role_names", multiple=True, help="which persona, and whose RoleBench rows; repeatable"
)
@click.option("--system-prompt", help="system text before every prompt")
@click.option(
    "--wrapper",
    "wrappers",
    multiple=True,
    default=("none",),
    show_default=True,
    help="jailbreak around harmful prompts, NAME or NAME:PATH (docs/benchmarks.md); repeatable",
)
@judge_options
@click.option("--max-new-tokens", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--temperature", default=0.0, show_default=True, type=FiniteFloat(min=0), help="0 is greedy")
@click.option("--top-p", default=1.0, show_default=True, type=FiniteFloat(min=0, max=1, min_open=True))
@click.option(
    "--samples", default=1, show_default=True, type=click.IntRange(min=1), help="sampled answers a prompt"
)
@click.option(
    "--defence",
    type=click.Choice(["rose", "self_cd", "safe_decoding"]),
    help="correct each token by a second reading (docs/decoding.md) [default: none]",
)
@click.option("--defence-alpha", type=FiniteFloat(), help="its strength [default: the paper's]")
@click.option("--defence-expert", help="safe_decoding's expert: an adapter or model tuned on refusals")
@click.option(
    "--defence-safe-prompt", help="system text of rose and self_cd, in your language [default: the paper's]"
)
@click.option("--defence-reverse-prompt", help="system text that rose subtracts [default: the paper's]")
@click.option(
    "--by",
    type=DIMENSIONS,
    default="benchmark",
    show_default=True,
    help="what the table's lines are",
)
@click.option("--examples", default=0, show_default=True, type=click.IntRange(min=0), help="wrong answers to list")
@click.option("--show-text", is_flag=True, help="list their text instead of a redaction; it may be harmful")
@click.option("--utility", multiple=True, callback=_listed, help="tasks of lm-evaluation-harness, by commas")
@click.option("--utility-limit", type=click.IntRange(min=1), help="only so many documents of each")
@click.option("--prompt-column", default="prompt", show_default=True, help="of a file:PATH")
@click.option("--kind", type=click.Choice(["harmful", "benign", "role"]), help="of a file:PATH [default: harmful]")
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(min=1), help="prompts a forward")
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--quantise-4bit", is_flag=True, help="hold the base in 4 bits (extra qlora, a GPU)")
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
@click.option("--base-url", help="endpoint of a provider's model")
@click.option("--max-connections", default=10, show_default=True, type=click.IntRange(min=1), help="to a provider")
def eval_command(**options: Any) -> None:
    """Measure safety, over-refusal, role fidelity and utility of any models, side by side.

    MODEL is a directory or an adapter's, a hub id (OWNER/NAME or hf/OWNER/NAME), or a provider's model as inspect_ai
    names it: vllm/BASE:ADAPTER, openai-api/SERVICE/MODEL, openai/gpt-4o-mini, ... Adapters of one base share it.
    """
    from holdfast.recipes.evaluate import EvaluateOptions, evaluate

    if not evaluate(EvaluateOptions(**options)):
        raise click.exceptions.Exit(1)


@commands.command("judge")
@click.argument("file", type=EXISTING_PATH)
@click.option("--prompt-column", required=True, help="column of the requests")
@click.option("--completion-column", required=True, help="column of the answers to judge")
@judge_options
@click.option(
    "--classifier-reads",
    type=click.Choice(["completion", "exchange"]),
    default="completion",
    show_default=True,
    help="what a classifier is given",
)
@click.option("--label-column", help="column of people's labels: accuracy, kappa, precision, recall")
@click.option(
    "--label-map",
    multiple=True,
    metavar="LABEL=VERDICT",
    callback=_listed,
    help="what a label means (harmful=unsafe), by commas",
)
@click.option("--language-column", help="column of language codes: rates of each language too")
@click.option(
    "--output", type=EXISTING_PATH, help="file with verdicts [default: FILE with .judged before its ending]"
)
@click.option("--results", type=EXISTING_PATH, help="write the figures here, JSON lines")
@click.option("--show-text", is_flag=True, help="show texts where judge and label differ, not their fingerprints")
@click.option("--max-connections", default=8, show_default=True, type=click.IntRange(min=1), help="to a provider")
@click.option(
    "--judge-max-tokens",
    "max_new_tokens",
    default=512,
    show_default=True,
    type=click.IntRange(min=1),
    help="most a model judge may say, thinking included",
)
@click.option(
    "--max-retries", default=5, show_default=True, type=click.IntRange(min=0), help="after 429, 5xx, ..."
)
@click.option(
    "--attempt-timeout",
    default=120,
    show_default=True,
    type=click.IntRange(min=1),
    help="seconds one attempt may take",
)
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="texts a forward")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with a model")
def judge_command(**options: Any) -> None:
    """Judge completions that exist: rates, agreement of judges, agreement with people's labels.

    FILE is CSV, JSONL, JSON or Parquet; it is written again with the verdicts in new columns.
    """
    from holdfast.recipes.judge import JudgeOptions, judge

    options["base_url"] = options.pop("judge_base_url")
    if not judge(JudgeOptions(**options)):
        raise click.exceptions.Exit(1)


@commands.command("compare")
@click.argument("paths", nargs=-1, required=True, type=EXISTING_PATH)
@click.option("--judge", help="only this judge's rates, beside what needs no judge")
@click.option("--by", default="benchmark", show_default=True, type=DIMENSIONS, help="a line for each of these")
@click.option("--baseline", help="model or path that differences are taken from [default: the first]")
@click.option("--output", type=EXISTING_PATH, help="write the tables (.md) or every number (.csv, .json) here")
def compare_command(**options: Any) -> None:
    """Models side by side from what `holdfast eval` wrote, with paired differences from a baseline.

    PATHS are directories of one model or of several, or a samples.jsonl or results.jsonl file.
    """
    from holdfast.recipes.compare import CompareOptions, compare

    compare(CompareOptions(**options))


@commands.command("show-template")
@click.option("--model", required=True, help="whose tokenizer: a directory or a hub id")
@click.option("--data", required=True, help="rows to render")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(min=1), help="how many rows")
@click.option("--system-prompt", help="system text; default: the row's own")
@click.option("--role", type=EXISTING_PATH, help="role file: show the rows under its persona prompt")
@click.option("--role-name", help="which role, where the file holds many")
@click.option(
    "--end-of-turn",
    default="template",
    show_default=True,
    type=click.Choice(["template", "eos"]),
    help="what an answer ends with",
)
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the tokenizer")
def show_template_command(**options: Any) -> None:
    """Print rendered rows with the trained tokens marked. Prints the rows' text."""
    from holdfast.recipes.show_template import show_template

    show_template(**options)


@commands.group("table")
def table_commands() -> None:
    """The papers' tables: methods trained and evaluated side by side, in a grid that continues after a kill."""


def table_options(command: Any) -> Any:
    """What both tables take."""
    for option in reversed(
        (
            click.option("--model", help="the aligned model: a directory or a hub id"),
            click.option(
                "--methods", multiple=True, callback=_listed, help="by commas; docs/table.md [default: all]"
            ),
            click.option("--seeds", multiple=True, callback=_listed, help="by commas [default: the config's]"),
            click.option("--config", type=EXISTING_PATH, help="base of every training, YAML (configs/)"),
            click.option(
                "--benchmarks",
                multiple=True,
                callback=_listed,
                help="names by commas, or file:PATH; docs/benchmarks.md",
            ),
            click.option(
                "--data-dir", type=EXISTING_PATH, help="directory with the benchmarks' files [default: the hub]"
            ),
            click.option("--judge", help="as for holdfast eval; one [default: keyword]"),
            click.option("--limit", type=click.IntRange(min=1), help="only so many prompts of each benchmark"),
            click.option("--max-new-tokens", type=click.IntRange(min=1), help="of an answer [default: 128]"),
            click.option("--eval-arguments", default="", help="more options of holdfast eval, in quotation marks"),
            click.option("--launch", default="", help="what starts a training, such as 'accelerate launch ...'"),
            click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="cells at once"),
            click.option(
                "--proving-ground", is_flag=True, help="offline, on a tiny world: no model, data or prompts"
            ),
            click.option(
                "--output-dir", type=EXISTING_PATH, required=True, help="cells and tables; what is done stays done"
            ),
        )
    ):
        command = option(command)
    return command


@table_commands.command("sarft")
@click.option("--roles", type=EXISTING_PATH, help="role file: YAML, JSON or a character card")
@click.option("--role-names", multiple=True, callback=_listed, help="which roles, by commas")
@click.option("--data", help="training rows with a field 'role', or a file a role: 'rows/{role}.jsonl'")
@click.option("--safety-data", help="harmful requests refused: rows that some methods need")
@click.option("--unsafe-data", help="harmful requests answered: rows that some methods need")
@click.option("--unaligned-model", help="the model before its alignment, for safe_lora")
@click.option(
    "--wrapper", "wrappers", multiple=True, help="jailbreak as for holdfast eval; repeatable, none for plain"
)
@table_options
def table_sarft_command(**options: Any) -> None:
    """SaRFT's table: role fidelity, safety, jailbreaks and over-refusal of every method on every role."""
    from holdfast.recipes.table.options import RoleTableOptions
    from holdfast.recipes.table.tables import table_sarft

    if not table_sarft(RoleTableOptions(**options)):
        raise click.exceptions.Exit(1)


@table_commands.command("mpo")
@click.option("--data", help="parallel preference pairs")
@click.option(
    "--languages", multiple=True, callback=_listed, help="target languages, by commas [default: the data's]"
)
@click.option("--dominant-language", help="ISO 639-1 code [default: the config's, en]")
@click.option("--utility", multiple=True, callback=_listed, help="tasks of lm-evaluation-harness, by commas")
@table_options
def table_mpo_command(**options: Any) -> None:
    """MPO's table: attack success and over-refusal of every method, language by language."""
    from holdfast.recipes.table.options import LanguageTableOptions
    from holdfast.recipes.table.tables import table_mpo

    if not table_mpo(LanguageTableOptions(**options)):
        raise click.exceptions.Exit(1)


@commands.command("rank")
@click.option("--model", required=True, help="the aligned model: a directory, an adapter, or a hub id")
@click.option("--data", required=True, help="training rows: a JSON, JSONL, CSV or Parquet file, or a hub id")
@click.option("--role", required=True, type=EXISTING_PATH, help="role file: YAML, JSON, or a character card")
@click.option("--role-name", help="which role, where the file holds many")
@click.option(
    "--selector",
    required=True,
    type=click.Choice(["seal", "bi_selection", "gradient", "persona_vector"]),
    help="docs/methods.md; for rds see holdfast score",
)
@click.option(
    "--selected-share",
    type=FiniteFloat(0, 1, min_open=True, max_open=True),
    help="share of the rows to flag [default: as many as rds flags]",
)
@click.option("--safety-data", help="conversations in which harmful requests are refused")
@click.option("--unsafe-data", help="conversations in which harmful requests are answered")
@click.option("--settings", help="the selector's own, as YAML: '{epochs: 6}'")
@click.option("--output", required=True, type=EXISTING_PATH, help="the rows with `harmful` and their score, JSONL")
@click.option("--limit", type=click.IntRange(min=1), help="rank the first rows only")
@click.option(
    "--extremes", default=3, show_default=True, type=click.IntRange(min=0), help="rows to list at each end"
)
@click.option("--show-text", is_flag=True, help="print the rows' text instead of a redaction; it may be harmful")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="rows in a forward pass"
)
@click.option("--max-prompt-tokens", default=512, show_default=True, type=click.IntRange(min=1))
@click.option("--max-response-tokens", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--cache-dir", type=EXISTING_PATH, help="where scores are kept [default: $HOLDFAST_CACHE]")
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--drop-bad-rows", is_flag=True, help="drop and count bad rows instead of stopping at the first")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def rank_command(**options: Any) -> None:
    """Rank rows by how much training on them would erode safety, by other papers' selectors; flag the top."""
    from holdfast.recipes.rank import RankOptions, rank

    rank(RankOptions(**options))


@commands.command("draw-refusals")
@click.option("--model", required=True, help="the aligned model: a directory, an adapter, or a hub id")
@click.option(
    "--benchmark", required=True, help="whose prompts are asked: a name, or file:PATH; docs/benchmarks.md"
)
@click.option("--output", required=True, type=EXISTING_PATH, help="training rows, a .jsonl file")
@click.option(
    "--keep",
    type=click.Choice(["refusals", "answers"]),
    default="refusals",
    show_default=True,
    help="requests refused (safety_data), or requests answered (unsafe_data)",
)
@click.option("--data", type=EXISTING_PATH, help="file or directory with the benchmark's file [default: the hub]")
@click.option("--language", "languages", multiple=True, help="only this language; repeatable")
@click.option(
    "--kind", type=click.Choice(["harmful", "benign"]), default="harmful", show_default=True, help="of the prompts"
)
@click.option("--prompt-column", default="prompt", show_default=True, help="of a file:PATH")
@click.option(
    "--skip",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="leave the first ones for `holdfast eval`",
)
@click.option("--limit", type=click.IntRange(min=1), help="ask only so many prompts")
@click.option(
    "--judge", default="keyword", show_default=True, help="of refusals: keyword, advbench, refusal:MODEL"
)
@click.option("--max-new-tokens", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(min=1), help="prompts a forward")
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--quantise-4bit", is_flag=True, help="hold the base in 4 bits (extra qlora, a GPU)")
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def draw_refusals_command(**options: Any) -> None:
    """Draw safety data: the model's own refusals of harmful requests, as training rows.

    Answers cut at the limit are left out. Prompts that are trained must not be evaluated: --skip N leaves those of
    `holdfast eval --limit N`.
    """
    from holdfast.recipes.draw_refusals import DrawRefusalsOptions, draw_refusals

    draw_refusals(DrawRefusalsOptions(**options))


@commands.command("safety-layers")
@click.option("--model", required=True, help="the aligned model: a directory, an adapter, or a hub id")
@click.option("--harmful", required=True, type=EXISTING_PATH, help="harmful prompts: JSON, JSONL, CSV or Parquet")
@click.option("--benign", required=True, type=EXISTING_PATH, help="ordinary prompts")
@click.option(
    "--guarding", type=EXISTING_PATH, help="harmless prompts that sound harmful (XSTest): refine the range"
)
@click.option(
    "--factor",
    "factors",
    multiple=True,
    type=FiniteFloat(min=0, min_open=True),
    help="what layers are scaled by; of several the first is taken [default: 1.05 to 1.3, the first that tells]",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=2), help="prompts of each sort")
@click.option("--prompt-column", default="prompt", show_default=True)
@click.option(
    "--max-new-tokens", default=16, show_default=True, type=click.IntRange(min=1), help="of a guarded answer"
)
@click.option(
    "--share",
    default=0.25,
    show_default=True,
    type=FiniteFloat(min=0, max=1, min_open=True),
    help="of the steepest rise of the gap, from which a layer is part of it",
)
@click.option(
    "--reach", default=2, show_default=True, type=click.IntRange(min=1), help="layers looked beyond a bound"
)
@click.option("--results", type=EXISTING_PATH, help="write curves, counts and range here, JSON")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(min=1), help="prompts a forward")
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--quantise-4bit", is_flag=True, help="hold the model in 4 bits (extra qlora, a GPU)")
@click.option("--chat-template", type=EXISTING_PATH, help="Jinja file for a tokenizer without a chat template")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def safety_layers_command(**options: Any) -> None:
    """Find the layers that tell harmful prompts apart, for SPPFT to freeze (frozen_layers of train-sarft)."""
    from holdfast.recipes.safety_layers import SafetyLayersOptions, safety_layers

    safety_layers(SafetyLayersOptions(**options))


@commands.command("project")
@click.option("--model", required=True, help="the fine-tuned model or adapter: a directory or a hub id")
@click.option("--unaligned", required=True, help="the model before alignment (the base model), safetensors")
@click.option("--aligned", help="the model that fine-tuning started from; needed for a fully fine-tuned one")
@click.option("--threshold", type=FiniteFloat(0, 1), help="project layers of at most this similarity")
@click.option("--layers", type=click.IntRange(min=1), help="or project so many layers, the least similar ones")
@click.option(
    "--subspace",
    type=click.Choice(["approximate", "exact"]),
    default="approximate",
    show_default=True,
    help="V V^T / ||V||, as published, or the orthogonal projection",
)
@click.option("--output", required=True, type=EXISTING_PATH, help="new directory for the adapter or model")
@click.option("--dtype", default="auto", show_default=True, type=DTYPES, help="type the weights are loaded in")
@click.option("--trust-remote-code", is_flag=True, help="run Python code that comes with the model")
def project_command(**options: Any) -> None:
    """Project a finished fine-tuning onto what alignment changed (SafeLoRA)."""
    from holdfast.recipes.project import ProjectOptions, project

    project(ProjectOptions(**options))


@commands.group("demo")
def demo_commands() -> None:
    """Try a method on the proving ground: offline, on the CPU, in minutes."""


@demo_commands.command("sarft")
@click.option(
    "--output-dir",
    type=EXISTING_PATH,
    default="runs/demo",
    show_default=True,
    help="base models, results.jsonl and index.html go here; what is there already is not run again",
)
@click.option("--seeds", type=click.IntRange(min=1), help="how many base models [default: 3]")
@click.option("--workers", type=click.IntRange(min=1), help="processes [default: the machine's cores]")
def demo_sarft_command(**options: Any) -> None:
    """SaRFT: role-play fine-tuning erodes refusals, and the anchor holds them."""
    from holdfast.recipes.demo_sarft import demo_sarft

    demo_sarft(**options)


@demo_commands.command("mpo")
@click.option(
    "--output-dir",
    type=EXISTING_PATH,
    default="runs/demo-mpo",
    show_default=True,
    help="base models, results.jsonl and index.html go here; what is there already is not run again",
)
@click.option("--seeds", type=click.IntRange(min=1), help="how many base models [default: 1]")
@click.option("--workers", type=click.IntRange(min=1), help="processes [default: the machine's cores]")
def demo_mpo_command(**options: Any) -> None:
    """MPO: refusals carried from English to five languages, beside one baseline of each kind."""
    from holdfast.recipes.demo_mpo import demo_mpo

    demo_mpo(**options)


@demo_commands.command("both")
@click.option(
    "--sarft-dir", type=EXISTING_PATH, default="runs/demo", show_default=True, help="as --output-dir of sarft"
)
@click.option(
    "--mpo-dir", type=EXISTING_PATH, default="runs/demo-mpo", show_default=True, help="as --output-dir of mpo"
)
@click.option("--workers", type=click.IntRange(min=1), help="processes [default: the machine's cores]")
def demo_both_command(**options: Any) -> None:
    """Both experiments by the same workers: what `make demo` runs."""
    from holdfast.provingground.processes import start_method

    start_method()  # what the workers import is imported beside our own imports
    from holdfast.recipes.demo import demo

    demo(**options)


@commands.command("study")
@click.option(
    "--output-dir",
    type=EXISTING_PATH,
    default="runs/study",
    show_default=True,
    help="base models and finished runs; what is there already is not run again",
)
@click.option(
    "--results-dir",
    type=EXISTING_PATH,
    default="docs/results",
    show_default=True,
    help="figures, tables and plots go here",
)
@click.option("--seeds", type=click.IntRange(min=1), help="how many base models a world [default: 8]")
@click.option("--workers", type=click.IntRange(min=1), help="processes [default: the machine's cores]")
def study_command(**options: Any) -> None:
    """Both worlds of the proving ground in full: every method, ablation and idea, eight seeds."""
    from holdfast.recipes.study import study

    study(**options)


class NoteHandler(logging.Handler):
    """Prints what our own modules log, as one line among the others."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        from holdfast.recipes.terminal import note

        note(f"{record.levelname.lower()}: {record.getMessage()}")


def _verbose(context: click.Context, parameter: click.Parameter, shown: bool) -> None:
    if shown:
        show_library_output(True)


def _add_verbose(command: click.Command) -> None:
    """Give a command, and those below it, the option --verbose."""
    command.params.append(
        click.Option(
            ["--verbose"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_verbose,
            help="show what transformers and other libraries print",
        )
    )
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _add_verbose(below)


_add_verbose(commands)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; also the entry point of `python -m holdfast`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _prepare_streams()
    terminated = _end_as_by_ctrl_c()
    show_library_output(False)
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    ours = logging.getLogger("holdfast")
    if not any(isinstance(handler, NoteHandler) for handler in ours.handlers):
        ours.addHandler(NoteHandler(logging.WARNING))
    try:
        _check_working_directory()
        code = commands.main(args=arguments, prog_name="holdfast", standalone_mode=False)
        _flush_output()
        if code:  # that of click's Exit; commands return nothing
            sys.exit(code)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(printable(shown.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        if terminated:
            _fail("terminated; run the same command again and it continues", code=143)
        _fail("interrupted; run the same command again and it continues", code=130)
    except HoldfastError as error:
        _fail(str(error))
    except Exception as error:
        explained = describe_failure(error)
        if explained is None:
            raise
        _fail(explained)


def _prepare_streams() -> None:
    """Let no character that the terminal lacks, and no closed stream, end a command."""
    for descriptor in range(3):  # else the next file that is opened becomes standard output
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller; libraries write to it all the same
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8", errors="replace"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _check_working_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise HoldfastError(
            f"the current directory: {error.strerror}; change to a directory that exists and can be read"
        ) from None


def _flush_output() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError as error:
        silence(sys.stdout)
        raise HoldfastError(describe_os_error(error, "standard output")) from error


def _end_as_by_ctrl_c() -> list[int]:
    """Let SIGTERM end this process as Ctrl-C does, which leaves everything in order; returns the signals that came."""
    came: list[int] = []
    own = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() != own:  # a forked worker ends at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGTERM, end)
    return came


def _fail(message: str, code: int = 2) -> None:
    try:
        click.echo(f"holdfast: {one_line(' '.join(message.split()))}", err=True)
    except OSError:  # nobody reads it
        silence(sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
