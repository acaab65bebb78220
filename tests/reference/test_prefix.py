"""A prefix that is forwarded once: which tokens it is, and the same log-probabilities as a forward of every row."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import MambaConfig, MambaForCausalLM

from holdfast.data.collator import Example
from holdfast.forward import head_of
from holdfast.reference.answers import AnswerScorer, answer_logps
from holdfast.reference.prefix import SharedPrefix, can_share, shared_ids, shared_prefix

PERSONA = [5 + (7 * i) % 90 for i in range(100)]  # longer than the tiny Gemma-2's window of 64
SUFFIX = [200 + i for i in range(20)]


def example(prompt: list[int], answer: list[int]) -> Example:
    return Example(input_ids=prompt + answer, trained=[False] * len(prompt) + [True] * len(answer))


def rows(prefix: list[int], count: int = 5) -> list[Example]:
    """Questions and answers of uneven lengths; the second row has two answers."""
    made = []
    for i in range(count):
        question = [100 + (3 * i + k) % 50 for k in range(4 + 3 * i)]
        answer = [150 + (5 * i + k) % 50 for k in range(2 + 5 * ((i * 2) % 3))]
        made.append(example(prefix + question, answer))
    made[1]["input_ids"] += [60, 61, 62]
    made[1]["trained"] += [False, True, True]
    return made


def plain(model, row: Example) -> list[float]:
    """log p of each trained token from one full forward of the row alone."""
    with torch.no_grad():
        logps = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
    pairs = enumerate(zip(row["input_ids"], row["trained"], strict=True))
    return [logps[t - 1, token].item() for t, (token, trained) in pairs if trained]


def adapted(model):
    """With adapters that are not the identity."""
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(model, config).eval()


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([([1, 2, 3, 4], 3), ([1, 2, 5, 6], 3)], [1, 2]),
        ([([1, 2, 3, 4], 3), ([9, 2, 3, 4], 3)], []),
        ([([1, 2, 3, 4], 3), ([1, 2, 3, 5], 3)], [1, 2]),  # 3 predicts a trained token
        ([([1, 2, 3, 4, 5, 6], 5), ([1, 2, 3, 4, 5, 6], 2)], [1]),
        ([([1, 2], 1), ([1, 2], 1)], []),
        ([([1, 2, 3, 4], 3)], [1, 2]),
    ],
)
def test_the_shared_tokens_worked_by_hand(sequences, expected):
    assert shared_ids([example(ids[:start], ids[start:]) for ids, start in sequences]) == expected


@pytest.mark.parametrize("adapters", [False, True])
def test_answers_after_a_prefix_are_those_of_full_forwards(architecture, adapters):
    model = adapted(architecture.model()) if adapters else architecture.model()
    examples = rows(PERSONA)
    prefix = shared_prefix(model, examples)
    assert prefix.ids == PERSONA
    for row, logps in zip(examples, answer_logps(model, 0, examples, prefix), strict=True):
        assert logps == pytest.approx(plain(model, row), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_attention_gives_the_same(llama, implementation):
    model = llama.model()
    model.set_attn_implementation(implementation)
    examples = rows(PERSONA)
    scored = answer_logps(model, 0, examples, shared_prefix(model, examples))
    for row, logps in zip(examples, scored, strict=True):
        assert logps == pytest.approx(plain(model, row), rel=1e-5, abs=1e-5)


def test_a_longer_prefix_goes_on_from_a_shorter_one(architecture):
    model = architecture.model()
    persona = SharedPrefix(model, PERSONA[:90])
    role, unsafe = rows(PERSONA), rows(PERSONA + SUFFIX)
    for examples in (role, unsafe):
        prefix = shared_prefix(model, examples, persona)
        assert prefix.ids[:90] == persona.ids
        for row, logps in zip(examples, answer_logps(model, 0, examples, prefix), strict=True):
            assert logps == pytest.approx(plain(model, row), rel=1e-5, abs=1e-5)


def test_no_batch_changes_the_prefix(architecture):
    model = architecture.model()
    examples = rows(PERSONA)
    prefix = shared_prefix(model, examples, SharedPrefix(model, PERSONA[:50]))
    before = [(layer.keys.clone(), layer.values.clone()) for layer in prefix.cache.layers]
    lengths = [layer.get_seq_length() for layer in prefix.cache.layers]
    first = answer_logps(model, 0, examples, prefix)
    answer_logps(model, 0, examples[:2], prefix)
    assert answer_logps(model, 0, examples, prefix) == first
    for (keys, values), layer in zip(before, prefix.cache.layers, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
    assert [layer.get_seq_length() for layer in prefix.cache.layers] == lengths == [100] * len(lengths)


def test_the_head_s_own_model_call_sees_the_prefix_too(architecture, monkeypatch):
    """Where the head cannot be asked by itself the logits come from the model's own forward."""
    model, examples = architecture.model(), rows(PERSONA)
    monkeypatch.setattr("holdfast.forward.head_of", lambda model: None)
    scored = answer_logps(model, 0, examples, shared_prefix(model, examples))
    for row, logps in zip(examples, scored, strict=True):
        assert logps == pytest.approx(plain(model, row), rel=1e-5, abs=1e-5)


def test_half_precision_shares(architecture):
    """Two bfloat16 forwards that sum in another order; a token forgotten or misplaced costs nats."""
    model, examples = architecture.model().bfloat16(), rows(PERSONA)
    prefix = shared_prefix(model, examples)
    assert prefix is not None
    for row, logps in zip(examples, answer_logps(model, 0, examples, prefix), strict=True):
        exact = plain(model, row)
        assert sum(logps) / len(logps) == pytest.approx(sum(exact) / len(exact), abs=0.5)


def test_what_is_not_worth_sharing_is_not_shared(llama):
    model = llama.model()
    assert shared_prefix(model, rows(PERSONA[:8])) is None
    assert shared_prefix(model, rows(PERSONA)[:1]) is None, "one row shares with nobody"
    persona = SharedPrefix(model, PERSONA)
    assert shared_prefix(model, rows(PERSONA)[:1], persona) is persona


def test_a_recurrent_state_cannot_be_read_by_many_rows():
    """Mamba remembers a state and no keys: rows are forwarded whole, and right."""
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config).eval()
    examples = rows(PERSONA)
    assert not can_share(model)
    sums = AnswerScorer(model, 0, batch_size=2).sums(examples, ["row"] * len(examples))
    for row, total in zip(examples, sums, strict=True):
        assert total == pytest.approx(sum(plain(model, row)), rel=1e-5)


def test_prompt_tuning_puts_its_own_tokens_first_and_cannot_share(llama):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    assert not can_share(get_peft_model(llama.model(), config).eval())
    assert can_share(llama.model())


def test_scoring_forwards_the_persona_once(architecture):
    """In whatever version of transformers: batches forward the tokens after the prefix and no others."""
    model, examples = architecture.model(), rows(PERSONA)
    assert can_share(model)
    assert head_of(model) is not None  # both are tried once, with forward passes of their own
    forwarded = []
    model.get_input_embeddings().register_forward_hook(lambda _, args, out: forwarded.append(args[0].numel()))
    AnswerScorer(model, 0, batch_size=1).sums(examples, ["row"] * len(examples))
    rest = sum(len(example["input_ids"]) - len(PERSONA) for example in examples)
    assert sum(forwarded) == len(PERSONA) + rest


def test_a_model_that_cannot_share_is_reported_once(caplog):
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config).eval()
    assert [can_share(model), can_share(model)] == [False, False]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "every row is forwarded with its whole prompt" in record.getMessage()
