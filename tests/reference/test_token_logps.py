"""The reference's log-probability of each trained token: against a float64 loop, cached and resumed."""

import json

import pytest
import torch

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.reference import answers as module
from holdfast.reference.token_logps import score_trained_tokens


def examples(architecture, count=5):
    """Conversations of uneven lengths; every other one has two answers."""
    chat = ChatFormat(architecture.tokenizer())
    rows = []
    for i in range(count):
        turns = [Message("user", "Why? " * (1 + i % 3)), Message("assistant", "Ha! The sea. " * (1 + i % 4))]
        if i % 2:
            turns += [Message("user", "Who are you?"), Message("assistant", "I am the keeper.")]
        encoded = chat.encode(turns)
        rows.append({"input_ids": encoded.input_ids, "trained": encoded.trained})
    return rows


def test_each_token_is_a_float64_loop_s(architecture):
    rows = examples(architecture)
    pad = architecture.tokenizer().pad_token_id
    scored = score_trained_tokens(architecture.model(), pad, rows, batch_size=3)
    exact = architecture.model().double()
    for row, logps in zip(rows, scored, strict=True):
        ids = row["input_ids"]
        with torch.no_grad():
            expected = exact(torch.tensor([ids])).logits[0].log_softmax(-1)
        own = [expected[t - 1, ids[t]].item() for t in range(1, len(ids)) if row["trained"][t]]
        assert logps == pytest.approx(own, rel=1e-4, abs=1e-3)


def test_the_model_keeps_its_mode_and_gets_no_gradient(llama):
    model = llama.model().train()
    score_trained_tokens(model, 0, examples(llama, 2))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_cache_answers_without_the_model(llama, tmp_path, monkeypatch):
    rows, model = examples(llama), llama.model()
    first = score_trained_tokens(model, 0, rows, batch_size=2, cache_dir=tmp_path)
    monkeypatch.setattr(model, "forward", None)
    assert score_trained_tokens(model, 0, rows, batch_size=2, cache_dir=tmp_path) == first


def test_another_model_or_other_rows_are_computed_anew(llama, tmp_path):
    rows, model = examples(llama), llama.model()
    score_trained_tokens(model, 0, rows, cache_dir=tmp_path)
    score_trained_tokens(llama.model(seed=1), 0, rows, cache_dir=tmp_path)
    score_trained_tokens(model, 0, rows[1:], cache_dir=tmp_path)
    less_trained = [rows[0] | {"trained": [False, *rows[0]["trained"][:-1]]}, *rows[1:]]
    score_trained_tokens(model, 0, less_trained, cache_dir=tmp_path)
    assert len(list((tmp_path / "token_logps").iterdir())) == 4


def test_a_killed_run_goes_on_with_the_same_digits(llama, tmp_path, monkeypatch):
    rows, model = examples(llama), llama.model()
    whole = score_trained_tokens(model, 0, rows, batch_size=2)

    def kill(done, of):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_trained_tokens(model, 0, rows, batch_size=2, cache_dir=tmp_path, progress=kill)
    cut = next((tmp_path / "token_logps").iterdir()) / "rows.jsonl"
    assert len(cut.read_text().splitlines()) == 4

    asked, score = [], module.answer_logps
    monkeypatch.setattr(module, "answer_logps", lambda *given: asked.append(given) or score(*given))
    assert score_trained_tokens(model, 0, rows, batch_size=2, cache_dir=tmp_path) == whole
    assert len(asked) == 1, "only the missing batch is computed"


def test_a_record_of_another_length_is_corrupt(llama, tmp_path):
    rows, model = examples(llama, 2), llama.model()
    score_trained_tokens(model, 0, rows, cache_dir=tmp_path)
    path = next((tmp_path / "token_logps").iterdir()) / "rows.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["logps"].pop()
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(HoldfastError, match=r"the cache is corrupt .* delete the directory"):
        score_trained_tokens(model, 0, rows, cache_dir=tmp_path)


def test_a_number_that_is_not_finite_is_refused(llama):
    model = llama.model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(HoldfastError, match=r"encoded row [12]: .*not finite"):
        score_trained_tokens(model, 0, examples(llama, 2))
