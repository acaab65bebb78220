import torch

from holdfast.data.collator import RoleCollator, answer_span, positions, top_k_in
from holdfast.losses.top_k import TopKLogps


def test_the_docstring_s_example():
    batch = RoleCollator(pad_token_id=0)(
        [
            {"input_ids": [5, 6, 7], "trained": [False, False, True], "harmful": True},
            {"input_ids": [8, 9], "trained": [False, True]},
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 7], [-100, -100, 9]]
    assert batch["harmful"].tolist() == [True, False]
    assert positions(batch["attention_mask"]).tolist() == [[0, 1, 2], [0, 0, 1]]


def test_answer_span_reaches_back_to_the_first_predicting_position():
    labels = torch.tensor([[-100, -100, -100, 4], [-100, -100, 5, 6]])
    assert answer_span(labels) == 3
    assert answer_span(torch.tensor([[-100, 1]])) == 2
    assert answer_span(torch.tensor([[2, 1]])) == 2


def test_reference_values_stand_at_their_tokens():
    batch = RoleCollator(pad_token_id=0)(
        [
            {"input_ids": [5, 6, 7, 8], "trained": [False, True, False, True], "reference_logps": [-0.5, -1.5]},
            {"input_ids": [8, 9], "trained": [False, True], "reference_logps": [-2.0]},
        ]
    )
    assert batch["reference_logps"].tolist() == [[0, -0.5, 0, -1.5], [0, 0, 0, -2.0]]
    assert (batch["reference_logps"] != 0).tolist() == (batch["labels"] != -100).tolist()


def test_top_k_values_of_flagged_rows_are_joined_in_the_rows_order():
    def row(tokens, **more):
        ids = list(range(2, 3 + tokens))
        values = TopKLogps(
            torch.arange(2 * tokens, dtype=torch.int32).view(tokens, 2) + 10 * tokens,
            -torch.arange(2.0 * tokens).view(tokens, 2),
            torch.full((tokens,), -float(tokens)),
        )
        return {"input_ids": ids, "trained": [False] + [True] * tokens, "reference_top_k": lambda: values, **more}

    plain = {"input_ids": [5, 6], "trained": [False, True], "harmful": False}
    unused = row(4, harmful=False)
    batch = RoleCollator(pad_token_id=0)([row(2, harmful=True), plain, unused, row(1, harmful=True)])
    assert batch["top_k_tokens"].tolist() == [[20, 21], [22, 23], [10, 11]]
    assert batch["top_k_logps"].tolist() == [[0, -1], [-2, -3], [0, -1]]
    assert batch["top_k_rest"].tolist() == [-2, -2, -1]
    kept = top_k_in(batch)
    assert kept.tokens is batch["top_k_tokens"]
    assert kept.rest is batch["top_k_rest"]
    assert top_k_in(RoleCollator(pad_token_id=0)([plain, unused])) is None
