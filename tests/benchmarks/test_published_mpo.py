"""The restatement against plain float64 loops over rows without padding, and against our trainer's `padded_mean`."""

import pytest
import torch

from benchmarks.published_mpo import IGNORED, PADDED_TO, ParallelPair, collate, mpo_step_loss
from benchmarks.step_data import preference_pairs
from benchmarks.step_models import frozen_copy, llama, word_tokenizer, words
from holdfast.chat import ChatFormat
from holdfast.data.pair_collator import PairExample
from holdfast.reference.pairs import compute_anchors, dominant_anchors, score_pairs
from holdfast.trainers.mpo import MPOSettings, MPOTrainer

CPU = torch.device("cpu")
BETA = 1.3


@pytest.fixture
def pairs(options, lengths):
    return preference_pairs(word_tokenizer(64), words(64), options.rows, options.seed, lengths)


@pytest.fixture
def rows(pairs):
    return [
        ParallelPair(pairs.encoded_dominants[dominant].example, target.example)
        for target, dominant in zip(pairs.encoded_targets, pairs.dominant_of, strict=True)
    ]


@pytest.fixture
def models(options):
    """Policy and reference, unlike each other."""
    policy, reference = llama(options, 64), frozen_copy(llama(options, 64))
    torch.manual_seed(3)
    with torch.no_grad():
        for model in (policy, reference):
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return policy, reference


def mean_logp(model, example):
    """One row without padding, in a loop."""
    ids = example["input_ids"]
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [logps[t - 1, ids[t]].item() for t in range(1, len(ids)) if example["trained"][t]]
    return sum(own) / len(own)


def gap(model, pair):
    return mean_logp(model, pair["chosen"]) - mean_logp(model, pair["rejected"])


def test_chosen_come_first_padded_on_the_right_to_a_multiple_of_8(rows):
    _, target = collate(rows[:2], 0, CPU)
    examples = [row.target[side] for side in ("chosen", "rejected") for row in rows[:2]]
    width = target["input_ids"].shape[1]
    assert width % PADDED_TO == 0
    assert 0 <= width - max(len(example["input_ids"]) for example in examples) < PADDED_TO
    for index, example in enumerate(examples):
        own = example["input_ids"]
        assert target["input_ids"][index].tolist() == own + [0] * (width - len(own))
        assert target["attention_mask"][index].sum() == len(own)
        learnt = [t for t, wanted in zip(own, example["trained"], strict=True) if wanted]
        assert [label for label in target["labels"][index].tolist() if label != IGNORED] == learnt


def test_the_loss_is_the_published_formula(rows, models):
    """float64 against the loop; the restatement's logits are cast to float32: 1e-5 relative."""
    policy, reference = (model.double() for model in models)
    dominant, target = collate(rows, 0, CPU)
    l1 = sum((BETA * gap(policy, row.target) - gap(reference, row.dominant)) ** 2 for row in rows) / len(rows)
    with torch.no_grad():
        hidden = [
            model.model(input_ids=dominant["input_ids"], attention_mask=dominant["attention_mask"])[0]
            for model in (policy, reference)
        ]
    l2 = 0.0
    positions = dominant["input_ids"].shape[1]
    for own, asked in zip(*hidden, strict=True):  # padding counts in the mean over positions
        l2 += ((own - asked).sum(0) / positions).square().mean().item() / len(hidden[0])
    assert l1 > 1e-4
    assert l2 > 1e-4
    assert mpo_step_loss(policy, reference, dominant, target, beta=BETA).item() == pytest.approx(l1 + l2, rel=1e-5)


def test_one_pair_a_batch_is_our_trainer_under_padded_mean(pairs, rows, models, options, tmp_path):
    """The published runs put one pair on a device. float32, 1e-5 relative."""
    policy, reference = models
    chat = ChatFormat(word_tokenizer(64))
    scores = score_pairs(reference, chat, pairs.dominants, pairs.encoded_dominants)
    sets = dominant_anchors(len(pairs.dominants), pairs.encoded_dominants, "padded_mean")
    examples = [
        PairExample(**target.example, reference_dominant_gaps=scores[dominant].reward_gap(), anchor=dominant)
        for target, dominant in zip(pairs.encoded_targets, pairs.dominant_of, strict=True)
    ]
    trainer = MPOTrainer(
        policy,
        options.training_arguments(str(tmp_path)),
        settings=MPOSettings(beta=BETA),
        train_dataset=examples,
        pad_token_id=0,
        anchors=compute_anchors(reference, chat, sets),
    )
    for example, row in zip(examples, rows, strict=True):
        with torch.no_grad():
            ours = trainer.compute_loss(policy, trainer.data_collator([example]))
            published = mpo_step_loss(policy, reference, *collate([row], 0, CPU), beta=BETA)
        torch.testing.assert_close(published, ours, rtol=1e-5, atol=1e-7)


def test_the_reference_gets_no_gradient_and_dominant_answers_pull_through_hidden_states_alone(rows, models):
    policy, reference = models
    reference.requires_grad_(True)
    mpo_step_loss(policy, reference, *collate(rows, 0, CPU), beta=BETA).backward()
    assert all(parameter.grad is None for parameter in reference.parameters())
    policy.zero_grad()
    mpo_step_loss(policy, reference, *collate(rows, 0, CPU), beta=0.0).backward()
    assert not policy.lm_head.weight.grad.any()
    assert policy.model.embed_tokens.weight.grad.any()
