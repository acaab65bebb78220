"""What SaRFT loses when the reference is kept as its k likeliest tokens instead of whole.

    python -m benchmarks.top_k_reference [--model DIR] [--k 8 32 64 256] [--selector rds] [--json]

The model is a base of the proving ground, made here (a minute or two) or any aligned chat model; it is fine-tuned on a
villain of that world, every weight, one epoch, once with the whole reference and once for each k. Printed are

  the error of the divergence, at the anchored positions of the flagged rows, forward and reverse, for two policies:
  the one trained with the whole reference, and one trained without any (`sft`), which is further from it
    left_out        1 - sum over positions of the KL over k + 1 outcomes / sum of the full KL
    mean, worst     of the relative differences of single positions, those with a full KL of 0.001 nats or more
    worst_nats      the largest difference at any position
  the difference to the trained model, from the same weights with the same batches
    weights         distance from the weights trained with the whole reference / the distance these went
    logps           mean |log p - log p'| of the trained tokens, in nats, p' trained with the whole reference
    kl              mean full KL(reference || policy) at the anchored positions: what the anchor is there to hold
  beside two measures of what such differences mean: `reordered` was trained with the whole reference on the same rows
  in another order, `sft` without an anchor
  and the bytes of the cache: a position's, and all of them beside the copy of the model that they replace.
"""

import argparse
import copy
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, TrainingArguments

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example, RoleCollator, forward_inputs
from holdfast.data.truncation import LengthLimits
from holdfast.forward import deferred_logits
from holdfast.losses.logprobs import answer_tokens
from holdfast.losses.sarft import divergence_from_reference
from holdfast.losses.top_k import Direction, divergence_from_top_k, top_k_of
from holdfast.methods.role import Preparation, RoleData, RoleMethod, role_examples
from holdfast.models import Policy, load_model, load_tokenizer
from holdfast.provingground.pretrain import PretrainingSettings, aligned_model
from holdfast.provingground.roles.cells import role_with
from holdfast.provingground.roles.characters import draw_character
from holdfast.provingground.roles.experiment import WORLD
from holdfast.provingground.roles.world import UNSAFE_SUFFIX, draw_role_rows
from holdfast.reference.top_k import with_reference_top_k
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

DIRECTIONS: tuple[Direction, ...] = ("forward", "reverse")
COUNTED_NATS = 1e-3  # below that a relative difference says nothing
MEASURED_ROWS = 8  # in a forward


@dataclass(frozen=True)
class Case:
    """The aligned model, its flagged rows, and how it is fine-tuned. Nothing here is ever changed."""

    aligned: Policy
    pad_token_id: int
    examples: Sequence[Example]
    settings: SaRFTSettings
    learning_rate: float
    epochs: int
    batch_size: int
    seed: int

    @property
    def flagged(self) -> list[Example]:
        """The anchored rows."""
        return [example for example in self.examples if example["harmful"]]

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.aligned.get_output_embeddings().out_features


def make_case(model: Path, options: argparse.Namespace, folder: Path) -> Case:
    """The rows are drawn by the seed and flagged by the selector."""
    aligned = load_model(str(model), dtype="float32", device=options.device)
    chat = ChatFormat(load_tokenizer(str(model)))
    character = draw_character(random.Random(f"top k {options.seed}"), "villain")
    rows, _ = draw_role_rows(character, options.rows, options.seed)
    data = RoleData(role_with(character, UNSAFE_SUFFIX), rows)
    preparation = Preparation(LengthLimits(), batch_size=64, cache_dir=folder / "cache", seed=options.seed)
    made = role_examples(RoleMethod(selector=options.selector), aligned, chat, data, preparation)
    settings = SaRFTSettings(beta=options.beta, kl_direction=options.kl_direction)
    rates = (options.learning_rate, options.epochs, options.batch_size, options.seed)
    return Case(aligned, chat.tokenizer.pad_token_id, made.examples, settings, *rates)


# --- training


def trained(
    case: Case, folder: Path, *, k: int | None = None, beta: float | None = None, order: int | None = None
) -> Policy:
    """A fine-tuned copy; `k` keeps so many tokens of the reference, None the whole of it."""
    settings = case.settings if beta is None else replace(case.settings, beta=beta)
    examples = case.examples if k is None else with_top_k(case, k, folder)
    policy = copy.deepcopy(case.aligned)
    arguments = TrainingArguments(
        output_dir=str(folder / "training"),
        num_train_epochs=case.epochs,
        per_device_train_batch_size=case.batch_size,
        learning_rate=case.learning_rate,
        lr_scheduler_type="constant",
        seed=case.seed if order is None else order,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=case.aligned.device.type == "cpu",
    )
    trainer = SaRFTTrainer(
        policy, arguments, settings=settings, train_dataset=examples, pad_token_id=case.pad_token_id
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return policy.eval()


def with_top_k(case: Case, k: int, folder: Path) -> list[Example]:
    """The rows with what is kept of the reference."""
    return with_reference_top_k(
        case.aligned,
        case.pad_token_id,
        case.examples,
        k,
        span=case.settings.kl_span,
        first_tokens=case.settings.kl_first_tokens,
        cache_dir=folder / "cache",
    )


# --- measuring


def at_answers(
    case: Case, models: Sequence[Policy], rows: Sequence[Example]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The trained tokens (N,) of some rows, and each model's logits (N, V) for them, batch by batch.

    These are the anchored positions of flagged rows: every trained token's.
    """
    for start in range(0, len(rows), MEASURED_ROWS):
        collated = RoleCollator(case.pad_token_id)(rows[start : start + MEASURED_ROWS])
        batch = {key: value.to(case.aligned.device) for key, value in collated.items()}
        tokens = answer_tokens(batch["labels"])
        logits = [deferred_logits(model, batch["labels"].shape[1], **forward_inputs(batch)) for model in models]
        yield tokens.labels, [own.head(own.at(tokens.place)) for own in logits]


@torch.no_grad()
def kl_errors(case: Case, policy: Policy, ks: Sequence[int]) -> dict[str, dict[int, dict[str, float]]]:
    """The error of the divergence by direction and k."""
    full: dict[Direction, list[Tensor]] = {direction: [] for direction in DIRECTIONS}
    kept: dict[tuple[Direction, int], list[Tensor]] = {(d, k): [] for d in DIRECTIONS for k in ks}
    for _, (policy_logits, reference_logits) in at_answers(case, (policy, case.aligned), case.flagged):
        # float64, so that what is measured is what is left out and not the rounding of either sum
        policy_logits, reference_logits = policy_logits.double(), reference_logits.double()
        for d in DIRECTIONS:
            full[d].append(divergence_from_reference(policy_logits, reference_logits, kind="kl", direction=d))
            for k in ks:
                outcomes = top_k_of(reference_logits, k)
                kept[d, k].append(divergence_from_top_k(policy_logits.log_softmax(-1), outcomes, direction=d))
    return {d: {k: errors(torch.cat(full[d]), torch.cat(kept[d, k])) for k in ks} for d in DIRECTIONS}


def errors(full: Tensor, kept: Tensor) -> dict[str, float]:
    """Of the KL over k + 1 outcomes, both (N,)."""
    counted = full >= COUNTED_NATS
    relative = 1 - kept[counted] / full[counted]
    return {
        "full_kl": full.mean().item(),
        "left_out": 1 - (kept.sum() / full.sum()).item(),
        "mean": relative.mean().item(),
        "worst": relative.max().item(),
        "worst_nats": (full - kept).max().item(),
    }


@torch.no_grad()
def difference(case: Case, policy: Policy, whole: Policy) -> dict[str, float]:
    """Of a trained model from the one trained with the whole reference."""
    gone = distance(whole, case.aligned)
    logps = []
    for tokens, both in at_answers(case, (policy, whole), case.examples):
        own, other = (logits.log_softmax(-1).gather(1, tokens.unsqueeze(1)) for logits in both)
        logps.append((own - other).abs())
    return {
        "weights": distance(policy, whole) / gone,
        "logps": torch.cat(logps).mean().item(),
        "kl": mean_kl(case, policy),
    }


@torch.no_grad()
def mean_kl(case: Case, policy: Policy) -> float:
    """Of the reference from the policy, at the anchored positions, in nats."""
    divergences = [
        divergence_from_reference(own, reference, kind="kl", direction="forward")
        for _, (own, reference) in at_answers(case, (policy, case.aligned), case.flagged)
    ]
    return torch.cat(divergences).mean().item()


def distance(first: nn.Module, second: nn.Module) -> float:
    """Euclidean, over all weights."""
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return sum(((a - b).double() ** 2).sum().item() for a, b in pairs) ** 0.5


# --- all of it


def measure(case: Case, ks: Sequence[int], folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """All figures; `tell` gets a line for each as it is there."""
    positions = sum(sum(example["trained"]) for example in case.flagged)
    tell(
        f"{len(case.examples)} rows, {len(case.flagged)} flagged, {positions} anchored positions, "
        f"vocabulary {case.vocabulary}"
    )
    whole, sft = trained(case, folder), trained(case, folder, beta=0.0)
    result: dict[str, Any] = {"vocabulary": case.vocabulary, "anchored_positions": positions, "divergence": {}}
    for name, policy in (("sarft", whole), ("sft", sft)):
        result["divergence"][name] = kl_errors(case, policy, ks)
        for direction, by_k in result["divergence"][name].items():
            for k, found in by_k.items():
                tell(
                    f"{name:5} {direction}, k {k:3}: {found['left_out']:.3%} of {found['full_kl']:.4f} nats left out; "
                    f"a position mean {found['mean']:.3%}, worst {found['worst']:.1%}, {found['worst_nats']:.5f} nats"
                )

    others = {"reordered": lambda: trained(case, folder, order=case.seed + 1), "sft": lambda: sft}
    others |= {f"k {k}": lambda k=k: trained(case, folder, k=k) for k in ks}  # type: ignore[misc]
    result["trained"] = {"whole": {"weights": 0.0, "logps": 0.0, "kl": mean_kl(case, whole)}}
    result["trained"] |= {name: difference(case, make(), whole) for name, make in others.items()}
    for name, found in result["trained"].items():
        tell(
            f"trained {name:9}: weights {found['weights']:.5f}, logps {found['logps']:.5f} nats, "
            f"kl {found['kl']:.5f} nats"
        )
    result["bytes"] = {k: cache_bytes(case, k, folder) for k in ks}
    copied = sum(weight.numel() * weight.element_size() for weight in case.aligned.parameters())
    for k, found in result["bytes"].items():
        tell(f"cache k {k:3}: {found['position']:.0f} bytes a position, {found['all'] / 1e6:.2f} MB in all")
    tell(f"the copy of the model: {copied / 1e6:.2f} MB")
    return result | {"copy_bytes": copied}


def cache_bytes(case: Case, k: int, folder: Path) -> dict[str, float]:
    """Of a position's tensors, and of the files."""
    stored = [example["reference_top_k"] for example in with_top_k(case, k, folder) if example["harmful"]]
    held = [values for own in stored for values in own()]
    positions = sum(own.positions for own in stored)
    return {
        "position": sum(values.nbytes for values in held) / positions,
        "all": sum(shard.stat().st_size for shard in {own.shard for own in stored}),
    }


def parser() -> argparse.ArgumentParser:
    """The options; the defaults are the proving ground's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an aligned chat model; default: a base of the proving ground")
    parser.add_argument("--k", type=int, nargs="+", default=[8, 32, 64, 256])
    parser.add_argument("--selector", choices=("rds", "all"), default="rds")
    parser.add_argument(
        "--kl-direction", choices=("forward", "reverse"), default="forward", help="that is trained"
    )
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--beta", type=float, default=0.25)
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/top_k"), help="where a base is kept")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    return parser


def main() -> None:
    """Print the figures."""
    options = parser().parse_args()
    model = options.model or aligned_model(options.output_dir, WORLD, PretrainingSettings(), options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        case = make_case(model, options, Path(scratch))
        result = measure(case, [k for k in options.k if k <= case.vocabulary], Path(scratch), print)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
