"""Vaccine's perturbation and the proximal term: their formulas, and the equivalences that a user relies on."""

import types
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from holdfast.data.collator import RoleCollator, positions
from holdfast.errors import HoldfastError
from holdfast.losses.logprobs import mean_logps
from holdfast.models import AdaptersOff, FrozenCopy, LoraSettings, add_lora
from holdfast.parameters.layers import decoder_layers
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.regularisers import Perturbation, Proximal
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer
from tests.trainers.test_sarft import StopAfter, arguments, assert_same, examples, weights

SETTINGS = SaRFTSettings(beta=0.5)


def policy(architecture, lora=False):
    model = architecture.model()
    if lora:
        torch.manual_seed(5)
        model = add_lora(model, LoraSettings(rank=4, alpha=8))
    return model


def adapters_moved(model):
    """Adapters away from the identity, so that their update and all its gradients are not 0."""
    torch.manual_seed(6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    return model


def trainer(architecture, path, *, model=None, hook=None, rows=8, callbacks=(), **overrides):
    tokenizer = architecture.tokenizer()
    return SaRFTTrainer(
        model or architecture.model(),
        arguments(path, **overrides),
        settings=SETTINGS,
        train_dataset=examples(tokenizer, rows),
        pad_token_id=tokenizer.pad_token_id,
        loss_hook=hook,
        callbacks=[*callbacks, *([hook] if isinstance(hook, Proximal) else [])],
    )


def with_sgd(built, lr=1e-2):
    built.optimizer = torch.optim.SGD(built.model.parameters(), lr=lr)
    built.train()
    return weights(built.model)


def cross_entropy(model, tokenizer, rows=3):
    """A function that computes the mean loss of a batch of padded rows; SaRFT's without an anchor."""
    batch = RoleCollator(tokenizer.pad_token_id)(examples(tokenizer, rows))

    def loss():
        mask = batch["attention_mask"]
        logits = model(
            batch["input_ids"], attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).logits
        return -mean_logps(logits, batch["labels"]).mean()

    return loss


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --- Perturbation


def shifted(model, tokenizer, rho, norm_over):
    """The definition, without hooks: each layer's forward is replaced by one that adds a leaf tensor.

    The leaves are 0 for the first gradient and the worst shift for the second. Returns loss and weights' gradients.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    shifts = [torch.zeros(1, requires_grad=True)] * len(inner.model.layers)
    for index, layer in enumerate(inner.model.layers):

        def forward(self, *args, original=layer.forward, index=index, **kwargs):
            return original(*args, **kwargs) + shifts[index]

        layer.forward = types.MethodType(forward, layer)
    loss = cross_entropy(model, tokenizer)
    batch = RoleCollator(tokenizer.pad_token_id)(examples(tokenizer, 3))
    shape = (*batch["input_ids"].shape, model.config.hidden_size)
    shifts[:] = [torch.zeros(shape, requires_grad=True) for _ in shifts]
    found = torch.autograd.grad(loss(), shifts)
    if norm_over == "batch":
        length = sum(g.square().sum() for g in found).sqrt()
        shifts[:] = [rho * g / length for g in found]
    else:
        lengths = [sum(g[row].square().sum() for g in found).sqrt() for row in range(3)]
        shifts[:] = [torch.stack([rho * g[row] / lengths[row] for row in range(3)]) for g in found]
    value = loss()
    value.backward()
    return value.item(), gradients(model)


@pytest.mark.parametrize("norm_over", ["row", "batch"])
@pytest.mark.parametrize("lora", [False, True])
def test_the_loss_is_that_of_the_worst_shift(architecture, lora, norm_over):
    tokenizer = architecture.tokenizer()
    expected, wanted = shifted(policy(architecture, lora), tokenizer, 0.3, norm_over)
    model = policy(architecture, lora)
    plain = cross_entropy(model, tokenizer)().item()
    value = Perturbation(0.3, norm_over=norm_over)(model, cross_entropy(model, tokenizer))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert abs(expected - plain) > 1e-3
    value.backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4 * wanted[name].abs().max().item())


def test_the_loss_rises_by_rho_times_the_gradient_s_length(llama):
    """To first order no shift of that length raises the loss by more."""
    model = policy(llama).double()
    loss = cross_entropy(model, llama.tokenizer(), rows=1)  # in float64 transformers' mask makes padding NaN
    embeddings = []
    handles = [
        layer.register_forward_hook(lambda module, args, output: embeddings.append(output))
        for layer in model.model.layers
    ]
    before = loss()
    length = torch.cat([g.flatten() for g in torch.autograd.grad(before, embeddings)]).norm().item()
    for handle in handles:
        handle.remove()
    rho = 1e-3  # transformers normalises in float32 whatever the weights' type, so not much smaller
    after = Perturbation(rho, norm_over="batch")(model, loss)
    assert (after - before).item() / rho == pytest.approx(length, rel=1e-2)


def test_padding_is_not_shifted_and_rows_do_not_meet(llama):
    """A row alone and the same row beside longer ones: the same perturbed loss."""
    model, tokenizer = policy(llama), llama.tokenizer()
    rows = examples(tokenizer, 3)

    def perturbed(chosen):
        batch = RoleCollator(tokenizer.pad_token_id)(chosen)

        def loss():
            mask = batch["attention_mask"]
            logits = model(batch["input_ids"], attention_mask=mask, position_ids=positions(mask)).logits
            return -mean_logps(logits, batch["labels"]).sum()

        return Perturbation(0.3)(model, loss).item()

    assert perturbed(rows) == pytest.approx(sum(perturbed([row]) for row in rows), rel=1e-5)


@pytest.mark.parametrize("rows", [8, 7])
@pytest.mark.parametrize("lora", [False, True])
def test_perturbed_two_by_four_is_eight_by_one(llama, tmp_path, rows, lora):
    splits = ((8, 1), (2, 4))
    ends = [
        with_sgd(
            trainer(
                llama,
                tmp_path,
                model=policy(llama, lora),
                hook=Perturbation(0.3),
                rows=rows,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
            )
        )
        for size, steps in splits
    ]
    assert_same(*ends, atol=2e-6)
    plain = with_sgd(trainer(llama, tmp_path, model=policy(llama, lora), rows=rows, per_device_train_batch_size=8))
    assert max((plain[name] - ends[0][name]).abs().max() for name in plain) > 1e-5


@pytest.mark.parametrize("lora", [False, True])
def test_perturbed_gradient_checkpointing_changes_nothing(architecture, tmp_path, lora):
    options = {"per_device_train_batch_size": 4}
    ends = [
        with_sgd(
            trainer(
                architecture,
                tmp_path,
                model=policy(architecture, lora),
                hook=Perturbation(0.3),
                activation_checkpointing=checkpointing,
                **options,
            )
        )
        for checkpointing in (False, True)
    ]
    assert_same(*ends, atol=1e-6)


def test_reentrant_checkpointing_is_refused(llama, tmp_path):
    built = trainer(
        llama,
        tmp_path,
        hook=Perturbation(0.3),
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"use_reentrant": True},
    )
    with pytest.raises(HoldfastError, match="set use_reentrant to false"):
        built.train()


def test_gradients_that_wait_in_an_accumulation_are_left_alone(llama):
    model, tokenizer = policy(llama), llama.tokenizer()
    hook, loss = Perturbation(0.3), cross_entropy(model, tokenizer)
    hook(model, loss).backward()
    once = gradients(model)
    hook(model, loss).backward()
    assert_same(gradients(model), {name: 2 * gradient for name, gradient in once.items()}, atol=1e-6)


def test_layers_below_the_first_trained_one_are_perturbed_too(llama):
    """Nothing asks for a gradient there, so the hook must."""
    tokenizer, ends = llama.tokenizer(), []
    for frozen in (False, True):
        model = policy(llama)
        if frozen:
            model.requires_grad_(False).model.layers[-1].requires_grad_(True)
        value = Perturbation(0.3)(model, cross_entropy(model, tokenizer))
        value.backward()
        ends.append((value.item(), {n: g for n, g in gradients(model).items() if ".layers.1." in n}))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-6)
    assert_same(ends[0][1], ends[1][1], atol=1e-6)


def test_a_reference_on_the_same_layers_is_not_perturbed(architecture, tmp_path):
    """Adapters off and a frozen copy of the base are the same reference, under the hook as well."""
    built = trainer(architecture, tmp_path, model=adapters_moved(policy(architecture, lora=True)))
    batch = RoleCollator(built.data_collator.pad_token_id)(examples(architecture.tokenizer(), 4))
    built.loss_hook = Perturbation(0.3)
    built.model.train()
    values = []
    for reference in (AdaptersOff(built.model), FrozenCopy(architecture.model())):
        built.reference = reference
        values.append(built.compute_loss(built.model, dict(batch)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_loss_with_several_forwards_is_perturbed_in_each(llama, tmp_path, pair_data):
    """MPO forwards pairs and anchors: a small shift raises the whole loss, no shift of that length much more."""
    model = llama.model()
    rows, anchors = pair_data(llama, llama.model(seed=9))
    built = MPOTrainer(
        model,
        arguments(tmp_path),
        settings=MPOSettings(beta=1.0),
        train_dataset=rows,
        anchors=anchors,
        pad_token_id=llama.tokenizer().pad_token_id,
    )
    batch = built.data_collator(rows[:4])
    built.model.train()
    plain = built.compute_loss(built.model, dict(batch))
    built.loss_hook = Perturbation(1e-3)
    shifted_loss = built.compute_loss(built.model, dict(batch))
    assert shifted_loss > plain
    shifted_loss.backward()
    assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_hooks_are_gone_afterwards_even_when_the_loss_fails(llama):
    model = policy(llama)

    def failing():
        raise KeyError("no")

    with pytest.raises(KeyError):
        Perturbation(0.3)(model, failing)
    Perturbation(0.3)(model, cross_entropy(model, llama.tokenizer()))
    assert all(not layer._forward_hooks for layer in model.model.layers)


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel_reduces_the_second_pass_alone(llama, one_process):
    """The reducer must not wait for the first pass's weights, unused ones too, and must see the second's."""
    tokenizer, reductions, ends = llama.tokenizer(), [], []

    def reduce(state, bucket):
        reductions.append(bucket.index())
        return allreduce_hook(state, bucket)

    for wrap in (False, True):
        model = policy(llama)
        proximal, perturbation = Proximal(model, 1.0), Perturbation(0.3)
        model.unused = torch.nn.Parameter(torch.ones(1))
        wrapped = DistributedDataParallel(model, find_unused_parameters=True) if wrap else model
        if wrap:
            wrapped.register_comm_hook(None, reduce)
        unwatched, synchronised = cross_entropy(wrapped, tokenizer), []

        def loss(wrapped=wrapped, unwatched=unwatched, synchronised=synchronised):
            synchronised.append(
                not isinstance(wrapped, DistributedDataParallel) or wrapped.require_backward_grad_sync
            )
            return unwatched()

        for _ in range(2):
            proximal.on_step_begin(None, None, None)
            proximal(wrapped, partial(perturbation, wrapped, loss)).backward()
        assert synchronised == [not wrap, True] * 2
        ends.append(gradients(model))
    assert_same(*ends, atol=1e-6)
    assert reductions.count(0) == 2, "one reduction of each bucket a backward"


# --- Proximal


def dense_update(model, aligned):
    """Half the squared distance of the merged model's weights, in float64."""
    merged = dict(model.double().merge_and_unload().named_parameters())
    return sum((merged[name] - weight.double()).square().sum() for name, weight in aligned.named_parameters()) / 2


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("down_proj", "embed_tokens")])
def test_lora_s_distance_is_that_of_the_merged_weights(architecture, targets):
    model = adapters_moved(add_lora(architecture.model(), LoraSettings(rank=4, alpha=8, target_modules=targets)))
    distance = Proximal(model, 1.0).half_squared_distance(model).item()
    expected = dense_update(model, architecture.model()).item()
    assert distance == pytest.approx(expected, rel=1e-5)
    assert distance > 1


def test_active_adapters_are_summed_before_their_length_is_taken(llama):
    model = policy(llama, lora=True)
    model.add_adapter("other", LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.base_model.set_adapter(["default", "other"])
    adapters_moved(model)
    distance = Proximal(model, 1.0).half_squared_distance(model)
    distance.backward()
    expected = 0
    for layer in decoder_layers(model):
        for projection in (layer.self_attn.q_proj, layer.self_attn.v_proj):
            update = sum(projection.get_delta_weight(name) for name in projection.lora_A)
            expected = expected + update.square().sum() / 2
    found = gradients(model)
    model.zero_grad()
    expected.backward()
    assert distance.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(found) == 2 * 2 * 2 + 2 * 2
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-3)


def test_full_tuning_measures_the_trained_weights_alone(architecture):
    model = architecture.model()
    model.lm_head.requires_grad_(False)
    model.model.embed_tokens.requires_grad_(False)
    proximal = Proximal(model, 1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    distance = proximal.half_squared_distance(model)
    distance.backward()
    moved = {n: p.detach() - before[n] for n, p in model.named_parameters() if p.requires_grad}
    assert distance.item() == pytest.approx(sum(d.square().sum() for d in moved.values()).item() / 2, rel=1e-5)
    assert_same(gradients(model), moved)
    assert 0 < len(moved) < len(before)


def test_weights_beside_the_adapters_are_held_too(llama):
    """A head trained as a whole, peft's modules_to_save, is not s * B A."""
    model = get_peft_model(
        llama.model(),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    )
    proximal = Proximal(model, 1.0)
    assert proximal.half_squared_distance(model).item() == 0
    head = next(p for n, p in model.named_parameters() if "modules_to_save" in n)
    with torch.no_grad():
        head[0, 0] += 3
    assert proximal.half_squared_distance(model).item() == pytest.approx(4.5)


class Still(SaRFTTrainer):
    """Rows without a loss: what moves the weights is the hook alone."""

    def row_losses(self, model, inputs):
        logits = model(inputs["input_ids"], logits_to_keep=1).logits
        return 0 * logits.sum((1, 2))


@pytest.mark.parametrize(("size", "accumulated"), [(8, 1), (2, 4), (2, 3), (1, 8)])
def test_a_step_counts_the_term_once(llama, tmp_path, size, accumulated):
    """Without another loss a step of SGD leaves (1 - lr * weight) of the way to the aligned weights.

    10 rows: the last step of each epoch has fewer micro-batches, and 2 x 3 leaves a step of two micro-batches.
    """
    tokenizer = llama.tokenizer()
    model = llama.model()
    proximal = Proximal(model, weight=2.0)
    aligned = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    built = Still(
        model,
        arguments(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            num_train_epochs=2,
            max_grad_norm=0,
        ),
        settings=SETTINGS,
        train_dataset=[row | {"harmful": False} for row in examples(tokenizer, 10)],
        pad_token_id=tokenizer.pad_token_id,
        loss_hook=proximal,
        callbacks=[proximal],
    )
    with_sgd(built, lr=0.1)
    left = 0.8**4
    assert built.state.global_step == 4
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), aligned[name] + left, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_proximal_two_by_four_is_eight_by_one(llama, tmp_path, lora, inner):
    """Three epochs of ten rows, the last step of each with two; around the perturbation too."""
    ends = []
    for size, steps in ((8, 1), (2, 4)):
        model = policy(llama, lora)
        proximal = Proximal(model, weight=5.0)
        built = trainer(
            llama,
            tmp_path,
            model=model,
            hook=proximal,
            rows=10,
            num_train_epochs=3,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        if inner:
            perturbation = Perturbation(0.3)
            built.loss_hook = lambda m, loss, p=proximal, q=perturbation: p(m, lambda: q(m, loss))
        ends.append(with_sgd(built))
    assert_same(*ends, atol=5e-6)


def test_a_larger_weight_holds_the_model_nearer(llama, tmp_path):
    distances = []
    for weight in (0.0, 50.0):
        model = policy(llama, lora=True)
        proximal = Proximal(model, weight)
        trainer(llama, tmp_path, model=model, hook=proximal, num_train_epochs=6, learning_rate=1e-2).train()
        distances.append(proximal.half_squared_distance(model).item())
    assert 0 < distances[1] < 0.2 * distances[0]


@pytest.mark.parametrize("lora", [False, True])
def test_proximal_killed_and_resumed_is_uninterrupted(llama, tmp_path, lora):
    """The anchor is the aligned model, not the checkpoint that training goes on from."""

    def build(folder, callbacks=()):
        model = policy(llama, lora)
        return trainer(
            llama,
            tmp_path / folder,
            model=model,
            hook=Proximal(model, 5.0),
            rows=12,
            callbacks=callbacks,
            per_device_train_batch_size=2,
            save_strategy="steps",
            save_steps=2,
        )

    whole = build("whole")
    whole.train()
    build("cut", [StopAfter(2)]).train()
    second = build("cut")
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 6
    assert_same(weights(whole.model), weights(second.model))


def test_a_hook_that_is_told_of_no_step_says_so(llama, tmp_path):
    model = llama.model()
    built = trainer(llama, tmp_path, model=model)
    built.loss_hook = Proximal(model, 1.0)
    with pytest.raises(RuntimeError, match="callbacks"):
        built.train()


def test_adapters_with_another_update_are_refused(llama):
    model = get_peft_model(llama.model(), LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(HoldfastError, match="not plain LoRA"):
        Proximal(model, 1.0)


def test_sharded_weights_are_refused(llama):
    model = llama.model()
    proximal = Proximal(model, 1.0)
    model.lm_head.weight.data = model.lm_head.weight.data[:0]  # what a shard leaves on the other devices
    with pytest.raises(HoldfastError, match="sharded"):
        proximal.half_squared_distance(model)


@pytest.mark.parametrize("wrong", [lambda model: Perturbation(0.0), lambda model: Proximal(model, -1.0)])
def test_weights_that_mean_nothing_are_refused(llama, wrong):
    with pytest.raises(ValueError, match="give"):
        wrong(llama.model())
