"""Does it pay that two answers share their prompt's computation?

    python -m benchmarks.pair_layouts [--vocab 16384 65536] [--rounds 3] [--tuning lora] [--json]

Forward and backward of a DPO step without the optimiser, the same batches in two layouts, taking turns in one process:
two rows a pair (prompt with chosen, prompt with rejected), and one row (prompt, chosen, rejected, the answers blind to
each other). Batches of one pair and of four, drawn at random or of similar lengths; prompts of 20 to 60 tokens with
answers of 30 to 130, and long prompts with short answers. Ratios of time shared / two rows, medians over rounds; beside
them the ratio of the positions that the two forward, padding included.
"""

import json
from dataclasses import replace
from typing import Any

from torch import nn

from benchmarks.paired import interleaved, median_ratio
from benchmarks.step_data import Lengths, preference_pairs
from benchmarks.step_models import StepOptions, llama, policy_of, step_options, step_parser, word_tokenizer, words
from holdfast.data.pair_collator import PairCollator, PairExample, shared_tokens
from holdfast.losses.preference import bind
from holdfast.trainers.pairs import longest_sharing, pair_logps

LENGTHS = {
    "prompts 20-60, answers 30-130": Lengths(),
    "prompts 150-250, answers 30-90": Lengths(question=(150, 250), answer=(30, 90)),
}
BATCH_SIZES = (1, 4)


def make_examples(options: StepOptions, vocabulary: int, lengths: Lengths) -> list[PairExample]:
    """Pairs with reference values, which do not matter for the time."""
    tokenizer = word_tokenizer(vocabulary)
    pairs = preference_pairs(tokenizer, words(len(tokenizer)), options.rows, options.seed, lengths)
    return [
        PairExample(**pair.example, reference_chosen_logps=0.0, reference_rejected_logps=0.0)
        for pair in pairs.encoded_targets
    ]


def epoch(model: nn.Module, collator: PairCollator, batches: list[list[PairExample]]) -> None:
    """Losses and gradients of all batches."""
    loss = bind("dpo")
    for examples in batches:
        batch = {name: tensor.to(next(model.parameters()).device) for name, tensor in collator(examples).items()}
        loss(pair_logps(model, batch)).mean().backward()
        model.zero_grad()


def compare(
    options: StepOptions, model: nn.Module, examples: list[PairExample], size: int, grouped: bool
) -> dict[str, float]:
    """The ratios of one setting."""
    rows = sorted(examples, key=shared_tokens) if grouped else examples
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    apart = PairCollator(0)
    shared = replace(apart, longest_sharing=longest_sharing(model, 0))
    layouts = {"apart": apart, "shared": shared}
    seconds = interleaved(
        {name: lambda index, own=own: epoch(model, own, batches) for name, own in layouts.items()},  # type: ignore[misc]
        options.rounds,
        options.torch_device,
    )
    positions = {name: sum(own(batch)["input_ids"].numel() for batch in batches) for name, own in layouts.items()}
    return {
        "time": round(median_ratio(seconds["shared"], seconds["apart"]), 3),
        "positions": round(positions["shared"] / positions["apart"], 3),
    }


def measure(options: StepOptions, vocabulary: int) -> dict[str, Any]:
    """All settings of one vocabulary."""
    model = policy_of(llama(options, vocabulary), options).train()
    results = {}
    for name, lengths in LENGTHS.items():
        examples = make_examples(options, vocabulary, lengths)
        for size in BATCH_SIZES:
            for grouped in (False, True) if size > 1 else (False,):
                setting = f"{name}, batches of {size}{', similar lengths' if grouped else ''}"
                results[setting] = compare(options, model, examples, size, grouped)
                print(f"vocabulary {vocabulary}, {setting}: {results[setting]}", flush=True)
    return results


def main() -> None:
    """Measure and print."""
    arguments = step_parser(__doc__).parse_args()
    options = step_options(arguments)
    print(options)
    results = {str(vocabulary): measure(options, vocabulary) for vocabulary in options.vocab}
    if arguments.json:
        print(json.dumps({"pair_layouts": results}))


if __name__ == "__main__":
    main()
