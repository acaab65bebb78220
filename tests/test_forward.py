"""Hidden states and a head instead of logits: what the model itself would have said."""

import copy

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM

from holdfast.data.collator import positions
from holdfast.forward import (
    CACHE_NAMES,
    cache_argument,
    deferred_logits,
    head_of,
    inner_model,
    kept_cache,
    last_hidden_states,
)
from holdfast.losses.logprobs import summed_logps
from holdfast.models import AdaptersOff, LoraSettings, add_lora

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def inputs(vocabulary, rows=3, width=7):
    ids = torch.randint(0, vocabulary, (rows, width), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions(mask), "use_cache": False}


def check(model, **tolerance):
    """Logits and gradients are those of the model's own forward."""
    batch = inputs(model.config.get_text_config().vocab_size)
    deferred = deferred_logits(model, 4, **batch)
    ours = deferred.head(deferred.hidden)
    plain = model(**batch, logits_to_keep=4).logits.float()
    torch.testing.assert_close(ours, plain, **tolerance)
    labels = batch["input_ids"].clone()
    labels[:, :4] = -100
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found, expected = (
        torch.autograd.grad(summed_logps(logits, labels[:, -4:]).sum(), weights, allow_unused=True)
        for logits in (deferred, plain)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or {"rtol": 1e-4, "atol": 1e-5}))


def test_full(architecture):
    model = architecture.model()
    check(model)
    assert head_of(model) is not None


def test_adapters_on_the_head_and_off_again(architecture):
    base = architecture.model()
    head_of(base)  # known before the adapters come
    model = add_lora(copy.deepcopy(base), LoraSettings(rank=2, target_modules=("q_proj", "lm_head")))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    check(model)
    batch = inputs(base.config.vocab_size)
    reference = AdaptersOff(model).logits(model, 4, **batch)
    with torch.no_grad():
        torch.testing.assert_close(reference.head(reference.hidden), base(**batch, logits_to_keep=4).logits)
        assert (
            model(**batch, logits_to_keep=4).logits - base(**batch, logits_to_keep=4).logits
        ).abs().max() > 1e-3


def test_half_precision_weights(architecture):
    check(architecture.model().bfloat16(), rtol=0.05, atol=0.05)


def test_mixed_precision(architecture):
    """The body in half precision, as accelerate runs it, and the head asked outside of it."""
    model = architecture.model()
    batch = inputs(model.config.vocab_size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        deferred = deferred_logits(model, 4, **batch)
        plain = model(**batch, logits_to_keep=4).logits
    assert deferred.head.autocast == torch.bfloat16
    torch.testing.assert_close(deferred.head(deferred.hidden), plain.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "build",
    [
        lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.3)),
        lambda: GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=4.0)),
    ],
    ids=["cohere", "granite"],
)
def test_scaled_logits(build):
    torch.manual_seed(0)
    model = build()
    check(model)
    assert head_of(model).shape.scale != 1


def test_a_model_that_changes_its_logits_otherwise_makes_them_itself(llama):
    model = llama.model()
    own = model.forward
    model.forward = lambda *args, **kwargs: _shifted(own(*args, **kwargs))
    assert head_of(model) is None
    batch = inputs(model.config.vocab_size)
    deferred = deferred_logits(model, 4, **batch)
    torch.testing.assert_close(deferred.head(deferred.hidden), own(**batch, logits_to_keep=4).logits + 1.0)


def _shifted(output):
    output.logits = output.logits + 1.0
    return output


def test_hidden_states_are_those_after_the_final_norm(architecture):
    model = architecture.model()
    batch = inputs(model.config.vocab_size)
    expected = model(**batch, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(last_hidden_states(model, **batch), expected)
    assert not inner_model(model).get_decoder()._forward_hooks  # nothing is left behind


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrapper", ["data parallel", "data parallel, unused weights", "fully sharded"])
def test_wrapped_for_several_devices(architecture, one_process, wrapper):
    """Gradients of two steps are the plain model's; sharded weights are asked in the model's own forward."""
    plain = architecture.model()
    wrapped = copy.deepcopy(plain)
    if wrapper == "fully sharded":
        fully_shard(wrapped, mesh=init_device_mesh("cpu", (1,)))
        assert head_of(wrapped) is None
    else:
        unused = wrapper.endswith("unused weights")
        if unused:
            wrapped.unused = torch.nn.Parameter(torch.ones(1))
        wrapped = DistributedDataParallel(wrapped, find_unused_parameters=unused)
    batch = inputs(plain.config.vocab_size)
    labels = batch["input_ids"].clone()
    labels[:, :4] = -100
    for _ in range(2):
        for model in (plain, wrapped):
            summed_logps(deferred_logits(model, 4, **batch), labels[:, -4:]).sum().backward()
    found = {name: weight.grad for name, weight in inner_model(wrapped).named_parameters()}
    for name, weight in plain.named_parameters():
        gradient = found[name].full_tensor() if isinstance(found[name], DTensor) else found[name]
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-5)


def test_the_cache_is_found_by_its_effect(architecture):
    model = architecture.model()
    name = cache_argument(model)
    ids = torch.arange(6).unsqueeze(0)
    with torch.no_grad():
        cache = kept_cache(model(input_ids=ids[:, :4], use_cache=True))
        model(input_ids=ids[:, 4:], use_cache=True, **{name: cache})
    assert cache.get_seq_length() == 6


@pytest.mark.parametrize("known", ["cache", "past_key_values"])
def test_a_forward_that_ignores_other_names(llama, known):
    """A forward with **kwargs swallows a name it does not know."""
    model = llama.model()
    own, forward = cache_argument(model), type(model).forward

    class Renamed(type(model)):
        def forward(self, input_ids=None, **kwargs):
            cache = kwargs.pop(known, None)
            for name in CACHE_NAMES:
                kwargs.pop(name, None)
            return forward(self, input_ids=input_ids, **({} if cache is None else {own: cache}), **kwargs)

    renamed = Renamed(model.config).eval()
    assert cache_argument(renamed) == known


def test_a_model_that_keeps_no_cache(llama):
    model = llama.model()
    forward = type(model).forward

    class Forgetful(type(model)):
        def forward(self, input_ids=None, use_cache=None, **kwargs):
            return forward(self, input_ids=input_ids, use_cache=False)

    assert cache_argument(Forgetful(model.config).eval()) is None
