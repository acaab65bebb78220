"""Scoring real RoleBench rows: ours beside the published two forwards a row.

    python -m benchmarks.scoring [--roles 95] [--hidden 256] [--layers 4] [--data ../shared/data] [--json]

4,750 rows, 50 for each of 95 roles with their real persona prompts, through a small Llama with random weights and a
BPE tokenizer made of that very text. Role by role the two take turns:
  published  each row under the persona and under the persona with the unsafe suffix: two forwards over prompt and
             answer in random batches of 4, all logits kept, a log-softmax over all of them (`published_sarft`)
  ours       `reference.rds.score_role_rows` with `base=False`: the flags, as a training asks for them
Both start from texts: the published collator tokenises its rows at every step as well. The ratio is of the sums over
all roles; the median over roles and how many rows both flag alike are printed beside. A first role warms up untimed.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from benchmarks.paired import median_ratio, timed
from benchmarks.published_sarft import padded, rds_flags
from benchmarks.step_models import SPECIAL, TEMPLATE, StepOptions, llama
from holdfast.chat import ChatFormat
from holdfast.data import load_role_rows
from holdfast.data.roles import Role, find_role, load_roles
from holdfast.data.rows import RoleRows
from holdfast.data.truncation import LengthLimits
from holdfast.reference.rds import encode_row, score_role_rows

ROLES = Path("sarft/roles_95.json")
ROWS = Path("rolebench/rolebench-eng/instruction-generalization/role_specific/test.jsonl")
LIMITS = LengthLimits(long_prompts="keep_start")  # the published 512 and 128 tokens, and where it cuts
BATCH_SIZE = 4  # of the published step


@dataclass(frozen=True)
class RoleCase:
    """One role with its rows."""

    role: Role
    rows: RoleRows


@dataclass(frozen=True)
class Outcome:
    """What both ways took for one role, and what they flagged."""

    published_seconds: float
    own_seconds: float
    rows: int
    flagged: int  # ours
    flagged_alike: int


def real_roles(data: Path) -> list[RoleCase]:
    """The 95 roles, each with its 50 rows: of a question with several answers the first."""
    roles = load_roles(data / ROLES)
    loaded = load_role_rows(data / ROWS)
    lines: dict[str, Any] = {}
    for row in loaded:
        lines.setdefault(row.location.partition("#")[0], row)
    first = RoleRows(tuple(lines.values()), loaded.source)
    names = dict.fromkeys(row.role for row in first if row.role is not None)
    return [RoleCase(find_role(roles, name, ROLES), first.with_role(name)) for name in names]


def bpe_tokenizer(cases: Sequence[RoleCase], vocabulary: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE of the cases' own text, with the step benchmarks' chat template."""

    def texts() -> Iterator[str]:
        for case in cases:
            yield case.role.unsafe_prompt
            yield from (message.content for row in case.rows for message in row.messages)

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<begin>", eos_token="<end>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def published_flags(model: PreTrainedModel, chat: ChatFormat, case: RoleCase, seed: int) -> list[bool]:
    """The published forwards over all rows of a role; the flags in row order."""
    order = list(range(len(case.rows)))
    random.Random(seed).shuffle(order)
    flags: dict[int, bool] = {}
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        role, unsafe = (
            padded(
                [encoded for i in chosen if (encoded := encode_row(chat, case.rows[i], LIMITS, system=prompt))],
                chat.tokenizer.pad_token_id,
                model.device,
            )
            for prompt in (case.role.persona_prompt, case.role.unsafe_prompt)
        )
        flags.update(zip(chosen, rds_flags(model, role, unsafe).tolist(), strict=True))
    return [flags[index] for index in sorted(flags)]


def own_flags(model: PreTrainedModel, chat: ChatFormat, case: RoleCase) -> list[bool]:
    """Ours, in row order."""
    scores = score_role_rows(model, chat.tokenizer, case.rows, case.role, base=False, chat=chat, limits=LIMITS)
    return [score.harmful for score in scores]


def compare(model: PreTrainedModel, chat: ChatFormat, case: RoleCase, index: int) -> Outcome:
    """Both ways over one role; which goes first changes from role to role."""
    flags: dict[str, list[bool]] = {}

    def published() -> None:
        flags["published"] = published_flags(model, chat, case, index)

    def ours() -> None:
        flags["ours"] = own_flags(model, chat, case)

    ways = [published, ours] if index % 2 else [ours, published]
    seconds = {way.__name__: timed(way, model.device) for way in ways}
    alike = sum(a == b for a, b in zip(flags["published"], flags["ours"], strict=True))
    return Outcome(seconds["published"], seconds["ours"], len(case.rows), sum(flags["ours"]), alike)


def measure(model: PreTrainedModel, chat: ChatFormat, cases: Sequence[RoleCase]) -> dict[str, Any]:
    """All figures."""
    compare(model, chat, RoleCase(cases[0].role, cases[0].rows[:BATCH_SIZE]), 0)
    outcomes = [compare(model, chat, case, index) for index, case in enumerate(cases)]
    published, own = ([getattr(o, name) for o in outcomes] for name in ("published_seconds", "own_seconds"))
    rows = sum(outcome.rows for outcome in outcomes)
    return {
        "published_over_ours": round(sum(published) / sum(own), 3),
        "median_over_roles": round(median_ratio(published, own), 3),
        "rows": rows,
        "roles": len(outcomes),
        "flagged_share": round(sum(outcome.flagged for outcome in outcomes) / rows, 4),
        "flagged_alike": round(sum(outcome.flagged_alike for outcome in outcomes) / rows, 5),
        "seconds": {"published": round(sum(published), 2), "ours": round(sum(own), 2)},
    }


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--roles", type=int, default=None, help="only the first N roles")
    parser.add_argument("--vocab", type=int, default=16_384)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--device", default="cpu", help="cpu (float32) or cuda (bfloat16)")
    parser.add_argument("--json", action="store_true", help="one JSON line with the ratio at the end")
    arguments = parser.parse_args()
    if not (arguments.data / ROWS).is_file():
        raise SystemExit(f"{arguments.data / ROWS}: no such file; give the folder of real data with --data")
    cases = real_roles(arguments.data)
    chat = ChatFormat(bpe_tokenizer(cases, arguments.vocab))
    options = StepOptions(hidden=arguments.hidden, layers=arguments.layers, device=arguments.device)
    model = llama(options, arguments.vocab).eval()
    chosen = cases[: arguments.roles]
    figures = measure(model, chat, chosen)
    print(
        f"{figures['rows']} rows of {figures['roles']} of {len(cases)} roles; Llama, hidden {options.hidden}, "
        f"{options.layers} layers, BPE of {len(chat.tokenizer)}, {torch.get_num_threads()} threads on "
        f"{options.device}\n"
        f"  {figures['published_over_ours']:.2f} x faster than the published two forwards a row (median over roles "
        f"{figures['median_over_roles']:.2f} x; {figures['seconds']['published']:.1f} s against "
        f"{figures['seconds']['ours']:.1f} s)\n"
        f"  {figures['flagged_share']:.1%} of the rows flagged, {figures['flagged_alike']:.2%} alike in both"
    )
    if arguments.json:
        print(json.dumps({"scoring": figures}))


if __name__ == "__main__":
    main()
