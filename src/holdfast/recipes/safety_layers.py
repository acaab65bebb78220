"""`holdfast safety-layers`: which layers of a model tell harmful prompts apart, for SPPFT to freeze."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from holdfast.chat import ChatFormat, load_chat_model
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.evals.benchmarks import BenchmarkOptions, user_benchmark
from holdfast.evals.generation import BatchLimits, generate
from holdfast.evals.judges.refusal import judge_refusal
from holdfast.evals.responders import Decoding
from holdfast.files import check_outputs, write_json
from holdfast.models import DType, Policy
from holdfast.parameters.safety_layers import (
    PAPER_FACTORS,
    PAPER_SPREAD,
    OverRefusals,
    SafetyLayers,
    find_safety_layers,
)
from holdfast.recipes.terminal import count, note, out, progress_bar, warn_of_unknown_tokens
from holdfast.samples import Kind


@dataclass(frozen=True)
class SafetyLayersOptions:
    """The options of `holdfast safety-layers`; the command line documents them."""

    model: str
    harmful: Path
    benign: Path
    guarding: Path | None = None
    factors: tuple[float, ...] = ()
    limit: int = 100
    prompt_column: str = "prompt"
    max_new_tokens: int = 16
    share: float = 0.25
    reach: int = 2
    results: Path | None = None
    batch_size: int = 16
    dtype: DType = "auto"
    quantise_4bit: bool = False
    chat_template: Path | None = None
    trust_remote_code: bool = False


def safety_layers(options: SafetyLayersOptions) -> SafetyLayers:
    """Search, write what was asked for, and print the curves and the range."""
    check_outputs(
        {"--results": options.results},
        inputs=(options.harmful, options.benign, options.guarding, options.model, options.chat_template),
    )
    harmful = read_prompts(options.harmful, "harmful", options.prompt_column, options.limit)
    benign = read_prompts(options.benign, "benign", options.prompt_column, options.limit)
    guarding = None
    if options.guarding is not None:
        guarding = read_prompts(options.guarding, "benign", options.prompt_column, None)
    model, chat = load_chat_model(
        options.model,
        chat_template=options.chat_template,
        dtype=options.dtype,
        quantise_4bit=options.quantise_4bit,
        trust_remote_code=options.trust_remote_code,
    )
    warn_of_unknown_tokens(chat, ([Message("user", prompt)] for prompt in (*harmful, *benign)))
    found = search(model, chat, benign, harmful, guarding, options)
    if options.results is not None:
        described = {"model": options.model, "prompts": [len(benign), len(harmful)], **found.as_dict()}
        write_json(options.results, described)
        note(f"wrote {options.results}")
    print_layers(found, guarding)
    return found


def search(
    model: Policy,
    chat: ChatFormat,
    benign: Sequence[str],
    harmful: Sequence[str],
    guarding: Sequence[str] | None,
    options: SafetyLayersOptions,
) -> SafetyLayers:
    """The paper's procedure; with no factor given, the paper's search for one too."""
    over_refusals, spread = None, 0.0
    if guarding is not None:
        over_refusals = refusal_counter(chat, guarding, options.max_new_tokens, options.batch_size)
        spread = 0.0 if options.factors else PAPER_SPREAD * len(guarding)
        note("counting refusals with ranges of layers scaled; this generates many short answers")
    with progress_bar("reading prompts") as progress:
        return find_safety_layers(
            model,
            chat,
            benign,
            harmful,
            over_refusals=over_refusals,
            factors=options.factors or PAPER_FACTORS,
            spread=spread,
            share=options.share,
            reach=options.reach,
            batch_size=options.batch_size,
            progress=progress,
        )


def read_prompts(path: Path, kind: Kind, column: str, limit: int | None) -> list[str]:
    """The file's prompts; where it says harmful or benign itself (XSTest's `label`), those of this kind only."""
    prompts = user_benchmark(f"file:{path}").load(BenchmarkOptions(prompt_column=column, kind=kind))
    wanted = [prompt.text for prompt in prompts if prompt.kind == kind]
    if not wanted:
        raise HoldfastError(f"{path}: none of its {count(len(prompts), 'prompt')} is {kind}; give another file")
    return wanted[:limit]


def refusal_counter(
    chat: ChatFormat, prompts: Sequence[str], max_new_tokens: int, batch_size: int
) -> OverRefusals:
    """Counts the prompts that a model refuses in the first tokens of its greedy answer, in full or in part."""
    ids = [chat.prompt_ids([Message("user", prompt)]) for prompt in prompts]
    decoding, limits = Decoding(max_new_tokens=max_new_tokens), BatchLimits(rows=batch_size)

    def refused(model: Policy) -> int:
        number = 0
        for batch in generate(
            model,
            ids,
            decoding,
            stop_token_ids=chat.stop_token_ids,
            pad_token_id=chat.tokenizer.pad_token_id,
            limits=limits,
        ):
            for place, written in batch:
                if written is None:
                    raise HoldfastError("a prompt does not fit the GPU's memory; leave it out, or load in 4 bits")
                answer = str(chat.tokenizer.decode(written.tokens, skip_special_tokens=True))
                verdict = judge_refusal(answer, prompts[place]).verdict
                number += verdict in ("refusal", "partial_refusal")
        return number

    return refused


def print_layers(found: SafetyLayers, guarding: Sequence[str] | None) -> None:
    """A line a layer, the range marked; then what scaling did, and the range in words."""
    table = Table("layer", "N-N", "M-M", "N-M", "gap", "")
    for layer, gap in enumerate(found.curves.gap):
        curves = (
            found.curves.normal_normal,
            found.curves.malicious_malicious,
            found.curves.normal_malicious,
        )
        similarities = [f"{curve[layer].mean:.3f} ± {curve[layer].deviation:.3f}" for curve in curves]
        mark = "safety" if found.first <= layer <= found.last else ""
        table.add_row(str(layer), *similarities, f"{gap:.2f}°", mark)
    out.print(table)
    if found.refined is not None and guarding is not None:
        scaled = Table("layers scaled", f"refused of {len(guarding)}")
        scaled.add_row("none", str(found.baseline))
        for (first, last), number in found.refined.counts.items():
            scaled.add_row(f"{first} to {last}", str(number))
        out.print(scaled)
        out.print(f"factor {found.refined.factor:g}, standard deviation of the counts {found.refined.spread:.1f}")
    else:
        note("this is the initial range; with --guarding its bounds are refined")
    out.print(f"safety layers: {found.first} to {found.last}, of 0 to {len(found.curves.gap) - 1}")
