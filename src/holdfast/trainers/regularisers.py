"""Regularisers as hooks around a trainer's loss (`row_mean.LossHook`): Vaccine's perturbation, Lisa's proximal term."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.errors import HoldfastError
from holdfast.forward import unwrapped
from holdfast.losses.deferred import at_least_float32
from holdfast.parameters.layers import decoder_layers

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


# --- Vaccine


class Perturbation:
    """Vaccine: the loss under the worst small shift of every layer's hidden embeddings.

    Paper: "Vaccine: Perturbation-aware Alignment for Large Language Models against Harmful Fine-tuning Attack",
    https://arxiv.org/abs/2402.01109. With e_1 .. e_L the outputs of the L decoder layers and g_l = dLoss/de_l, the
    loss that is minimised is computed a second time with e_l + rho * g_l / ||(g_1, ..., g_L)|| in the place of e_l.

    The first pass stops at the hidden embeddings: no weight gets a gradient from it, so the gradients that wait in an
    accumulation, and DistributedDataParallel's bookkeeping, are left alone. Kept between the passes is one tensor
    (B, T, H) a layer. Gradient checkpointing is fine as long as it is not reentrant (transformers' default is not).

    Args:
        rho: length of the shift, above 0.
        norm_over: what the length is of: one `row`'s embeddings over all layers and positions, so that rows may be
            split into micro-batches at will, or the whole micro-`batch`'s, as the published code has it.

    Raises HoldfastError under reentrant gradient checkpointing, and for a model whose decoder layers are not found.
    """

    def __init__(self, rho: float, *, norm_over: Literal["row", "batch"] = "row"):
        if rho <= 0:
            raise ValueError(f"rho is {rho}; give a length above 0")
        self.rho = rho
        self.norm_over = norm_over

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
        """The perturbed loss, with its graph."""
        layers = decoder_layers(unwrapped(model))
        shifts = iter(self._shifts(model, layers, loss))

        def shift(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if not torch.is_grad_enabled():  # a reference that shares the layers (adapters off) is not perturbed
                return None
            if isinstance(output, tuple):
                return (output[0] + next(shifts), *output[1:])
            return output + next(shifts)

        with _hooked(layers, shift):
            return loss()

    def _shifts(self, model: nn.Module, layers: nn.ModuleList, loss: Callable[[], Tensor]) -> list[Tensor]:
        """What is added to each layer's output, in the order in which the layers are run."""
        hidden: list[Tensor] = []

        def remember(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if torch.is_grad_enabled():
                embedding = output[0] if isinstance(output, tuple) else output
                # Below the first trained layer nothing else asks for a gradient.
                hidden.append(embedding.requires_grad_())

        with _unsynchronised(model):
            with _hooked(layers, remember):
                value = loss()
            try:
                gradients = torch.autograd.grad(value, hidden, materialize_grads=True)
            except RuntimeError as error:
                if "use_reentrant" not in str(error):
                    raise
                raise HoldfastError(
                    "perturbation: reentrant gradient checkpointing cannot give the embeddings' gradients; "
                    "set use_reentrant to false"
                ) from None
        if self.norm_over == "batch":
            return _of_length(self.rho, gradients, dims=(0, 1, 2))
        shifts = []
        for start in range(0, len(gradients), len(layers)):  # a loss may run the model more than once
            shifts += _of_length(self.rho, gradients[start : start + len(layers)], dims=(1, 2))
        return shifts


def _of_length(rho: float, gradients: tuple[Tensor, ...], dims: tuple[int, ...]) -> list[Tensor]:
    """Each g_l (B, T, H) times rho over the length of all of them together, over `dims`; a gradient of 0 stays 0."""
    first = gradients[0]
    wide = torch.promote_types(first.dtype, torch.float32)
    lengths = [torch.linalg.vector_norm(g, dim=dims, keepdim=True, dtype=wide).to(first.device) for g in gradients]
    length = torch.linalg.vector_norm(torch.stack(lengths), dim=0)  # (B, 1, 1) or (1, 1, 1)
    scale = torch.where(length > 0, rho / length, 0.0)
    return [(gradient * scale.to(gradient.device)).to(gradient.dtype) for gradient in gradients]


@contextmanager
def _hooked(layers: nn.ModuleList, hook: ForwardHook) -> Iterator[None]:
    with ExitStack() as stack:
        for layer in layers:
            # Outside the layer's checkpoint (transformers checkpoints `forward`), so backward never runs it again.
            stack.callback(layer.register_forward_hook(hook).remove)
        yield


def _unsynchronised(model: nn.Module) -> AbstractContextManager[Any]:
    """A forward that no backward of weights follows must not make DistributedDataParallel wait for one."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


# --- Lisa's proximal term


class Proximal(TrainerCallback):
    """loss + weight / 2 * ||W - W_aligned||^2 over the trained weights: they may not drift far from the aligned model.

    Paper: "Lisa: Lazy Safety Alignment for Large Language Models against Harmful Fine-tuning Attack",
    https://arxiv.org/abs/2405.18641, whose two states each hold on to the other's last weights. Here the anchor is the
    aligned model throughout. The distance is of weights, not of adapter factors: a LoRA layer's update is s * B A, and
    ||B A||^2 = tr(B^T B A A^T) needs no matrix of the weight's size.

    The term is counted once an optimiser step, whatever the number of its micro-batches (a callback tells where a
    step begins) and of devices (DistributedDataParallel averages what all of them add). Hand it to the trainer twice,
    and put it outside other hooks, which may compute the loss they wrap more than once:

        proximal = Proximal(model, weight=1.0)
        SaRFTTrainer(model, ..., loss_hook=proximal, callbacks=[proximal])

    Args:
        model: the policy before training, with adapters and masks in place. Trained weights that are not LoRA factors
            are copied, on their device and in their type; under LoRA the aligned model is the one without adapters.
        weight: of the term; Lisa's rho.

    Raises HoldfastError for adapters whose update is not s * B A (DoRA, convolutions), and where weights are sharded.
    """

    def __init__(self, model: nn.Module, weight: float):
        if weight < 0:
            raise ValueError(f"the weight is {weight}; give 0 or more")
        self.weight = weight
        in_adapters = {
            id(factor) for layer in _lora_layers(model) for down, up, _ in _factors(layer) for factor in (down, up)
        }
        self._aligned = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and id(parameter) not in in_adapters
        }
        self._step_begun: bool | None = None  # None until the trainer has told of a step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The next micro-batch is an optimiser step's first."""
        self._step_begun = True

    def __call__(self, model: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
        """The loss, on a step's first micro-batch with the term."""
        if self._step_begun is None:
            raise RuntimeError("Proximal was not told of the step; pass it to the trainer's `callbacks` as well")
        value = loss()
        if not self._step_begun:
            return value
        self._step_begun = False
        return value + self.weight * self.half_squared_distance(model).to(value.device)

    def half_squared_distance(self, model: nn.Module) -> Tensor:
        """||W - W_aligned||^2 / 2 over the trained weights, a scalar with its graph."""
        model = unwrapped(model)
        parameters = dict(model.named_parameters())
        terms = []
        for name, aligned in self._aligned.items():
            if name not in parameters or parameters[name].shape != aligned.shape:
                raise HoldfastError(
                    f"proximal_weight: {name} is sharded over devices; train with whole weights (DDP)"
                )
            weight = parameters[name]
            if aligned.device != weight.device:  # the trainer has moved the model
                aligned = self._aligned[name] = aligned.to(weight.device)
            terms.append(_HalfSquaredDistance.apply(weight, aligned))
        terms += [_squared_update(layer) / 2 for layer in _lora_layers(model)]
        return torch.stack([term.to(terms[0].device) for term in terms]).sum()


class _HalfSquaredDistance(torch.autograd.Function):
    """||w - a||^2 / 2; its gradient w - a is computed in the backward pass, so that no difference is kept till then."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, aligned: Tensor) -> Tensor:
        ctx.save_for_backward(weight, aligned)
        wide = torch.promote_types(weight.dtype, torch.float32)
        return torch.linalg.vector_norm(weight - aligned, dtype=wide).square() / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weight, aligned = ctx.saved_tensors
        return ((weight - aligned) * gradients[0]).to(weight.dtype), None


def _lora_layers(model: nn.Module) -> list[LoraLayer]:
    """The layers with an active LoRA adapter."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return [layer for layer in layers if _factors(layer)]


def _squared_update(layer: LoraLayer) -> Tensor:
    """||sum over active adapters of s * B A||^2: side by side, their factors are those of one adapter."""
    factors = _factors(layer)
    down = torch.cat([at_least_float32(a) for a, _, _ in factors])  # (R, in)
    up = torch.cat([at_least_float32(b) * scaling for _, b, scaling in factors], dim=1)  # (out, R)
    return ((up.T @ up) * (down @ down.T)).sum()


def _factors(layer: Any) -> list[tuple[Tensor, Tensor, float]]:
    """A (r, in), B (out, r) and s of each active adapter; of an embedding's, whose update is (B A)^T, just as long."""
    factors = []
    for name in layer.active_adapters:
        if name in layer.lora_A:
            down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        elif name in layer.lora_embedding_A:
            down, up = layer.lora_embedding_A[name], layer.lora_embedding_B[name]
        else:
            continue
        if name in layer.lora_variant or down.dim() != 2:
            raise HoldfastError(
                f"proximal_weight: the adapter {name!r} is not plain LoRA on linear layers; "
                "train without DoRA and without adapters on convolutions"
            )
        factors.append((down, up, float(layer.scaling[name])))
    return factors
