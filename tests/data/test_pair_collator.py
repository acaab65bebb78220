"""Pairs as one row each: where they are put, and what is shared."""

import pytest

from holdfast.data.pair_collator import PairCollator, shared_tokens


def pair(chosen, rejected, trained_from=1):
    """Each side as its tokens and where its trained part begins; one number stands for both."""
    starts = trained_from if isinstance(trained_from, tuple) else (trained_from, trained_from)
    return {
        side: {"input_ids": ids, "trained": [index >= start for index in range(len(ids))]}
        for side, ids, start in zip(("chosen", "rejected"), (chosen, rejected), starts, strict=True)
    }


def test_two_answers_share_a_row_as_documented():
    batch = PairCollator(0, longest_sharing=4)([pair([5, 6, 7], [5, 6, 8, 9], 2), pair([5, 7], [5, 8], 1)])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 6, 8, 9], [0, 0, 5, 7, 5, 8]],
        "answer": [[0, 1, 1, 2, 2, 2], [-1, -1, 1, 1, 2, 2]],
        "labels": [[-100, -100, 7, -100, 8, 9], [-100, -100, -100, 7, -100, 8]],
        "row": [0, 1],
    }


@pytest.mark.parametrize(
    ("example", "ids", "answer"),
    [
        # prompts that differ in their second token
        (pair([5, 6, 7], [5, 9, 8], 2), [5, 6, 7, 5, 9, 8], [1, 1, 1, 2, 2, 2]),
        # and from the first one on
        (pair([6, 7], [9, 8]), [6, 7, 9, 8], [1, 1, 2, 2]),
        # an answer of an earlier turn is trained: the prompt ends before it
        (pair([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], 2), [1, 2, 3, 4, 5, 2, 3, 4, 6], [0, 1, 1, 1, 1, 2, 2, 2, 2]),
        # on one side only
        (pair([1, 2, 3, 4], [1, 2, 3, 5], (3, 2)), [1, 2, 3, 4, 2, 3, 5], [0, 1, 1, 1, 2, 2, 2]),
        # answers that begin alike are trained, so they are not shared
        (pair([1, 2, 3, 4], [1, 2, 3, 5], 2), [1, 2, 3, 4, 2, 3, 5], [0, 1, 1, 1, 2, 2, 2]),
        # one is the beginning of the other
        (pair([1, 2, 3], [1, 2, 3, 4], (2, 2)), [1, 2, 3, 2, 3, 4], [0, 1, 1, 2, 2, 2]),
    ],
)
def test_what_is_common_and_untrained_is_shared(example, ids, answer):
    batch = PairCollator(0, longest_sharing=9)([example])
    assert batch["input_ids"].tolist() == [ids]
    assert batch["answer"].tolist() == [answer]
    assert shared_tokens(example) == len(ids)


def test_a_batch_with_a_row_that_is_too_long_is_two_rows_a_pair():
    examples = [pair([5, 6, 7], [5, 6, 8, 9], 2), pair([5, 7], [5, 8])]
    batch = PairCollator(0, longest_sharing=3)(examples)
    assert "answer" not in batch
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7], [0, 0, 5, 7], [5, 6, 8, 9], [0, 0, 5, 8]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch["row"].tolist() == [0, 1]
    assert "answer" in PairCollator(0, longest_sharing=3)(examples[1:])
