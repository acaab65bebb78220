"""How alike a model's layers see prompts of two sorts: the curves that show where it tells them apart.

Section 3.2 and 3.3 of "Safety Layers in Aligned Large Language Models", https://arxiv.org/abs/2408.17003. With v_p^k
the output of layer k at the last token of prompt p, averages over pairs of normal (N) and malicious (M) prompts:

    N-N curve of layer k  mean cos(v_n^k, v_n'^k)         N-M curve  mean cos(v_n^k, v_m^k)
    angular gap           mean angle(v_n^k, v_m^k) - mean angle(v_n^k, v_n'^k)

The averages are over all pairs, where the paper draws 500 of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example, RoleCollator, positions
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.forward import evaluating, inner_model
from holdfast.models import Policy
from holdfast.parameters.layers import decoder_layers
from holdfast.reference.answers import batches_by_length

Progress = Callable[[int, int], None]  # (prompts done, prompts in all)


class Spread(NamedTuple):
    """A mean over pairs and its standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class LayerCurves:
    """For each layer from 0: cosine similarities of pairs of prompts, and the angular gap in degrees."""

    normal_normal: tuple[Spread, ...]
    malicious_malicious: tuple[Spread, ...]
    normal_malicious: tuple[Spread, ...]
    gap: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def layer_similarities(
    model: Policy,
    chat: ChatFormat,
    benign: Sequence[str],
    harmful: Sequence[str],
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> LayerCurves:
    """The curves of a model for benign (normal) and harmful (malicious) prompts, each asked as a user's turn.

    Nothing is generated. Raises HoldfastError for fewer than two prompts of a sort, or values that are not finite.
    """
    for what, prompts in (("benign", benign), ("harmful", harmful)):
        if len(prompts) < 2:
            raise HoldfastError(f"{what} prompts: {len(prompts)} given; give 2 or more, the paper takes 100")
    vectors = last_token_states(model, chat, [*benign, *harmful], batch_size=batch_size, progress=progress)
    return curves_of(vectors[: len(benign)], vectors[len(benign) :])


def curves_of(normal: Tensor, malicious: Tensor) -> LayerCurves:
    """The curves of last-token states (prompts, layers, hidden)."""
    measured = [_layer(normal[:, k], malicious[:, k]) for k in range(normal.shape[1])]
    nn_pairs, mm_pairs, nm_pairs, gap = zip(*measured, strict=True)
    return LayerCurves(nn_pairs, mm_pairs, nm_pairs, gap)


def last_token_states(
    model: Policy,
    chat: ChatFormat,
    prompts: Sequence[str],
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Tensor:
    """(P, L, H) in float32 on the CPU: what each layer gives the last token of each prompt, before the last norm."""
    examples = [(place, chat.prompt_ids([Message("user", prompt)])) for place, prompt in enumerate(prompts)]
    collate = RoleCollator(chat.tokenizer.pad_token_id or 0)
    found: dict[int, Tensor] = {}
    for batch in batches_by_length(examples, batch_size, lambda example: len(example[1])):
        padded = collate([Example(input_ids=ids, trained=[False] * len(ids)) for _, ids in batch])
        states = _forward(model, padded["input_ids"], padded["attention_mask"])  # (B, L, H)
        if not states.isfinite().all():
            raise HoldfastError("the model's hidden states are not finite; load it in float32 or bfloat16")
        found |= {place: row for (place, _), row in zip(batch, states, strict=True)}
        if progress:
            progress(len(found), len(prompts))
    return torch.stack([found[place] for place in range(len(prompts))])


def _forward(model: Policy, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(B, L, H) the layers' outputs at the last position; padding is on the left, so that is every prompt's end."""
    states: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output  # (B, T, H)
        states.append(hidden[:, -1].float().cpu())

    handles = [layer.register_forward_hook(keep) for layer in decoder_layers(model)]
    try:
        with torch.no_grad(), evaluating(model):
            inner_model(model)(
                input_ids=input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                position_ids=positions(attention_mask).to(model.device),
                logits_to_keep=1,
                use_cache=False,
            )
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(states, dim=1)


def _layer(normal: Tensor, malicious: Tensor) -> tuple[Spread, Spread, Spread, float]:
    """One layer's points of the curves, from (N, H) and (M, H)."""
    n = torch.nn.functional.normalize(normal.double(), dim=-1)
    m = torch.nn.functional.normalize(malicious.double(), dim=-1)
    nn_cosines = _pairs(n @ n.T)
    nm_cosines = (n @ m.T).flatten().clamp(-1, 1)
    gap = nm_cosines.acos().mean() - nn_cosines.acos().mean()
    return _spread(nn_cosines), _spread(_pairs(m @ m.T)), _spread(nm_cosines), torch.rad2deg(gap).item()


def _pairs(cosines: Tensor) -> Tensor:
    """The entries above the diagonal: each pair of different prompts once."""
    rows, columns = torch.triu_indices(len(cosines), len(cosines), 1)
    return cosines[rows, columns].clamp(-1, 1)


def _spread(cosines: Tensor) -> Spread:
    return Spread(cosines.mean().item(), cosines.std(correction=0).item())
