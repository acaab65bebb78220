"""Length-grouped batches: every row once an epoch, little padding, the same order for the same seed and epoch."""

import itertools
import random

import pytest
import torch

from holdfast.trainers.batching import LengthGroupedSampler
from tests.trainers.test_sarft import trainer


def batches(sampler, size):
    order = list(sampler)
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded(batches, lengths):
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 103, 1001])
def test_every_row_once(rows):
    assert sorted(LengthGroupedSampler([5] * rows, 4, seed=1)) == list(range(rows))


def test_a_batch_has_little_padding():
    lengths = [random.Random(row).randint(50, 190) for row in range(1001)]
    own = batches(LengthGroupedSampler(lengths, 4, seed=1), 4)
    plain = [list(range(start, min(start + 4, 1001))) for start in range(0, 1001, 4)]
    assert padded(own, lengths) < 1.08 * sum(lengths)
    assert padded(plain, lengths) > 1.25 * sum(lengths)


def test_groups_come_in_no_order_of_length():
    lengths = list(range(10, 410))
    firsts = [lengths[batch[0]] for batch in batches(LengthGroupedSampler(lengths, 4, seed=1), 4)]
    rising = sum(b > a for a, b in itertools.pairwise(firsts))
    assert 0.3 < rising / len(firsts) < 0.7


def test_the_order_is_of_seed_and_epoch():
    lengths = [random.Random(row).randint(50, 190) for row in range(101)]
    one, two = (LengthGroupedSampler(lengths, 4, seed=3) for _ in range(2))
    first = list(one)
    assert first == list(two) == list(one)
    one.set_epoch(1)
    assert list(one) != first
    assert list(LengthGroupedSampler(lengths, 4, seed=4)) != first
    # Other rows come together too, not only the same batches in another order.
    assert {frozenset(batch) for batch in batches(one, 4)} != {frozenset(batch) for batch in batches(two, 4)}


def test_the_trainer_takes_it_and_says_the_epoch(llama, tmp_path):
    built = trainer(llama, tmp_path, rows=10, train_sampling_strategy="group_by_length")
    loader = built.get_train_dataloader()
    shapes = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        shapes.append([tuple(batch["input_ids"].shape) for batch in loader])
    lengths = [len(example["input_ids"]) for example in built.train_dataset]
    for epoch, seen in enumerate(shapes):
        sampler = LengthGroupedSampler(lengths, 4, seed=3)
        sampler.set_epoch(epoch)
        assert seen == [(len(b), max(lengths[row] for row in b)) for b in batches(sampler, 4)]


def test_a_resumed_run_goes_on_in_the_same_order(llama, tmp_path):
    grouped = {"train_sampling_strategy": "group_by_length", "num_train_epochs": 2, "save_strategy": "steps"}
    whole = trainer(llama, tmp_path / "whole", rows=10, save_steps=4, **grouped)
    whole.train()
    resumed = trainer(llama, tmp_path / "other", rows=10, save_steps=4, **grouped)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, rtol=0, atol=1e-6)
