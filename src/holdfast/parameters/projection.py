"""Post-hoc projections: what is done to a model's update once training has ended.

A projection is a function of a layer's name and its update. The update of a fully fine-tuned layer is the difference
of two matrices; that of an adapted one is a product of thin factors and stays one, so that adapters stay adapters.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from holdfast.errors import HoldfastError
from holdfast.forward import inner_model
from holdfast.models import Policy
from holdfast.parameters.masks import aligned_name

Weights = Callable[[str], Tensor]
"""A model's weights by name, such as `holdfast.parameters.weights.WeightsOnDisk`."""


@dataclass(frozen=True)
class Update:
    """What training added to one layer's weight, in float32: `left @ right`, or `left` alone where `right` is None.

    Shapes: left (outputs, rank) and right (rank, inputs) of an adapter; left (outputs, inputs) of a full update.
    """

    left: Tensor
    right: Tensor | None = None

    def multiplied(self, by: Callable[[Tensor], Tensor]) -> "Update":
        """The update with a linear map applied from the left: C (B A) = (C B) A, which keeps the rank."""
        return Update(by(self.left), self.right)

    def dense(self) -> Tensor:
        """(outputs, inputs)."""
        return self.left if self.right is None else self.left @ self.right

    def inner(self, other: "Update") -> float:
        """The Frobenius inner product, without making dense matrices of factors."""
        if self.right is None or other.right is None:
            return _sum(self.dense() * other.dense())
        return _sum((self.left.T @ other.left) * (self.right @ other.right.T))

    def norm(self) -> float:
        """The Frobenius norm."""
        return math.sqrt(max(0.0, self.inner(self)))

    def similarity(self, other: "Update") -> float | None:
        """The cosine of the angle between the two as vectors; 0 where `other` is 0, None where this one is."""
        own, others = self.norm(), other.norm()
        if own == 0.0:
            return None
        return 0.0 if others == 0.0 else max(-1.0, min(1.0, self.inner(other) / (own * others)))


Projection = Callable[[str, Update], Update]
"""From a layer's weight's name and its update to what shall be left of it; the same object leaves it alone.

An adapter's projection gives factors of the same shapes again.
"""


@dataclass(frozen=True)
class LayerProjection:
    """One layer's projection.

    `similarity` is the cosine between the update and its projection, None where there is no update or nothing to
    project on. `kept` is the projection's norm over the update's.
    """

    name: str
    similarity: float | None
    kept: float | None
    projected: bool


@dataclass(frozen=True)
class ProjectionReport:
    """Every layer in the model's order, and in `left_alone` trained parameters that no projection reaches.

    These are embeddings, heads, norms, biases, and modules saved whole beside adapters.
    """

    layers: tuple[LayerProjection, ...]
    left_alone: tuple[str, ...]

    @property
    def projected(self) -> tuple[LayerProjection, ...]:
        """The layers whose update was replaced."""
        return tuple(layer for layer in self.layers if layer.projected)

    def __str__(self) -> str:
        return f"{len(self.projected)} of {len(self.layers)} layers projected"


@dataclass(frozen=True)
class TrainedLayer:
    """One linear layer of a trained model, called as its weight in the aligned model.

    `adapter` names the adapter that holds the update, None where the weight itself was trained.
    """

    name: str
    module: Any
    adapter: str | None

    @property
    def device(self) -> torch.device:
        """Where the update is, and is projected."""
        return self._trained[0].device

    def update(self, aligned: Weights | None) -> Update:
        """What training added; `aligned` is not asked about adapted layers."""
        if self.adapter is not None:
            b, a = self._trained
            return Update(b.detach().float() * self.module.scaling[self.adapter], a.detach().float())
        if aligned is None:
            raise HoldfastError("a fully fine-tuned model's update is told from the aligned model: give aligned")
        weight = self.module.weight.detach().float()
        return Update(weight - fetch(aligned, self.name, weight))

    def replace(self, update: Update, aligned: Weights | None) -> None:
        """Put this update in the place of what training added."""
        with torch.no_grad():
            if self.adapter is None:
                weight = self.module.weight
                assert aligned is not None  # update() has raised otherwise
                weight.copy_(fetch(aligned, self.name, weight) + update.dense())
                return
            b, a = self._trained
            if update.right is None or (update.left.shape, update.right.shape) != (b.shape, a.shape):
                raise HoldfastError(f"{self.name}: the projection gave no factors of the adapter's shapes")
            b.copy_(update.left / self.module.scaling[self.adapter])
            a.copy_(update.right)

    def aligned_weight(self) -> Tensor:
        """An adapted layer's own base weight, in memory."""
        weight = self.module.get_base_layer().weight
        if not weight.is_floating_point():
            raise HoldfastError(
                f"{self.name}: the base model's weights are quantised; name the aligned model, whose weights are read"
            )
        return weight.detach()

    @property
    def _trained(self) -> tuple[Tensor, ...]:
        if self.adapter is None:
            return (self.module.weight,)
        return self.module.lora_B[self.adapter].weight, self.module.lora_A[self.adapter].weight


def project_update(model: Policy, aligned: Weights | None, projection: Projection) -> ProjectionReport:
    """Put `projection` of each linear layer's update in the update's place, in the model.

    Args:
        model: fine-tuned, whole or with one active LoRA adapter, which stays an adapter of the same rank.
        aligned: the weights training started from; not needed for adapters.
        projection: see `Projection`.

    Every linear layer is projected but the head. Raises HoldfastError for adapters that are no plain LoRA, and for
    aligned weights that do not fit.
    """
    found = []
    for layer in trained_layers(model):
        update = layer.update(aligned)
        result = projection(layer.name, update)
        if result is not update:
            layer.replace(result, aligned)
        found.append(described(layer.name, update, result, projected=result is not update))
    return ProjectionReport(tuple(found), left_alone(model))


def described(name: str, update: Update, result: Update, *, projected: bool) -> LayerProjection:
    """One line of the report."""
    similarity = update.similarity(result)
    kept = None if similarity is None else result.norm() / update.norm()
    return LayerProjection(name, similarity, kept, projected)


def trained_layers(model: Policy) -> list[TrainedLayer]:
    """The layers with an update that can be projected, in the model's order; HoldfastError where there are none."""
    inner = inner_model(model)
    if isinstance(model, PeftModel):
        layers = list(_adapted_layers(inner))
    else:
        head = model.get_output_embeddings()
        layers = [
            TrainedLayer(f"{name}.weight", module, None)
            for name, module in inner.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        ]
    if not layers:
        raise HoldfastError(
            f"{type(inner).__name__}: there is no linear layer to project in it; give a trained model"
        )
    return layers


def left_alone(model: Policy) -> tuple[str, ...]:
    """The trained parameters' names that are no layer's update."""
    reached = {layer.name for layer in trained_layers(model)}
    if isinstance(model, PeftModel):  # an adapter that was read for use is frozen, so that is no guide
        own = [name for name, _ in model.named_parameters() if ".lora_" in name or ".modules_to_save." in name]
    else:
        own = [name for name, _ in model.named_parameters()]
    return tuple(dict.fromkeys(name for name in map(aligned_name, own) if name not in reached))


def fetch(weights: Weights, name: str, like: Tensor) -> Tensor:
    """A weight in float32 on the device of `like`; HoldfastError where it has another shape."""
    weight = weights(name)
    if weight.shape != like.shape:
        raise HoldfastError(
            f"{name}: shape {tuple(weight.shape)} here and {tuple(like.shape)} in the trained model; give a model of "
            "the same architecture and size"
        )
    return weight.to(device=like.device, dtype=torch.float32)


def _adapted_layers(inner: nn.Module) -> Iterator[TrainedLayer]:
    found: list[tuple[str, Any]] = [(n, m) for n, m in inner.named_modules() if isinstance(m, LoraLayer)]
    for name, module in found:
        active = [adapter for adapter in module.active_adapters if adapter in module.lora_A]
        if len(active) > 1 or module.merged:
            raise HoldfastError(
                f"{name}: several adapters are active or merged; load one adapter alone, and do not merge it"
            )
        if not active:
            continue
        if active[0] in module.lora_variant or module.lora_B[active[0]].weight.dim() != 2:
            raise HoldfastError(
                f"{name}: only plain LoRA on linear layers can be projected (no DoRA, no convolution)"
            )
        yield TrainedLayer(f"{name}.weight", module, active[0])


def _sum(products: Tensor) -> float:
    return products.sum(dtype=torch.float64 if products.device.type != "mps" else torch.float32).item()
