"""The reference's likeliest tokens at the anchored positions: against a float64 loop, cached, resumed, mapped."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from holdfast.errors import HoldfastError
from holdfast.reference import top_k as module
from holdfast.reference.top_k import score_top_k, with_reference_top_k
from tests.reference.test_token_logps import examples

RESPONSE = {"span": "response", "first_tokens": None}
SEQUENCE = {"span": "sequence", "first_tokens": None}
FIRST = {"span": "response", "first_tokens": 3}


def score(model, rows, cache, k=5, pad=0, options=RESPONSE, **more):
    return score_top_k(model, pad, rows, k, cache_dir=cache, **options, **more)


def read(stored):
    return [own() for own in stored]


def assert_same(first, second):
    for one, other in zip(read(first), read(second), strict=True):
        for name, values in one._asdict().items():
            assert torch.equal(values, getattr(other, name)), name


def directories(cache):
    return list((cache / "top_k_logps").iterdir())


def anchored_places(row, options):
    """Positions of the row, one by one."""
    trained = row["trained"]
    if options["span"] == "sequence":
        places = list(range(len(trained)))
    else:
        places = [t for t in range(len(trained) - 1) if trained[t + 1]]
    return places[: options["first_tokens"]]


@pytest.mark.parametrize("options", [RESPONSE, SEQUENCE, FIRST])
def test_each_position_is_a_float64_loop_s(architecture, tmp_path, options):
    rows = examples(architecture)
    pad = architecture.tokenizer().pad_token_id
    scored = score(architecture.model(), rows, tmp_path, pad=pad, options=options, batch_size=3)
    exact = architecture.model().double()
    for row, stored in zip(rows, scored, strict=True):
        with torch.no_grad():
            logps = exact(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        own, places = stored(), anchored_places(row, options)
        assert own.tokens.shape == own.logps.shape == (len(places), 5)
        assert own.tokens.dtype == torch.int32
        assert own.logps.dtype == own.rest.dtype == torch.float32
        for position, place in enumerate(places):
            best = logps[place].topk(5)
            others = logps[place].exp().sum() - best.values.exp().sum()
            assert own.logps[position].tolist() == pytest.approx(best.values.tolist(), abs=1e-3)
            at_tokens = logps[place][own.tokens[position].long()]  # ties may be told apart otherwise in float32
            assert at_tokens.tolist() == pytest.approx(best.values.tolist(), abs=1e-3)
            assert own.rest[position].exp().item() == pytest.approx(others.item(), abs=1e-4)


@pytest.mark.parametrize("options", [RESPONSE, SEQUENCE])
def test_chunks_of_positions_change_nothing(llama, tmp_path, monkeypatch, options):
    rows, model = examples(llama), llama.model()
    whole = score(model, rows, tmp_path / "whole", options=options)
    monkeypatch.setattr(module, "SCORED_BYTES", 4 * model.config.vocab_size * 7)  # seven positions at a time
    chunked = score(model, rows, tmp_path / "chunks", options=options)
    for one, other in zip(read(chunked), read(whole), strict=True):
        torch.testing.assert_close(one.logps, other.logps, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.rest, other.rest, rtol=0, atol=1e-5)


def test_the_model_keeps_its_mode_and_gets_no_gradient(llama, tmp_path):
    model = llama.model().train()
    score(model, examples(llama, 2), tmp_path)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_cache_answers_without_the_model(llama, tmp_path, monkeypatch):
    rows, model = examples(llama), llama.model()
    first = score(model, rows, tmp_path, batch_size=2)
    monkeypatch.setattr(model, "forward", None)
    assert score(model, rows, tmp_path, batch_size=4) == first
    assert read(first)


def test_another_model_k_span_or_other_rows_are_computed_anew(llama, tmp_path):
    rows, model = examples(llama), llama.model()
    score(model, rows, tmp_path)
    other = score(llama.model(seed=1), rows, tmp_path)
    score(model, rows, tmp_path, k=6)
    score(model, rows, tmp_path, options=SEQUENCE)
    score(model, rows, tmp_path, options=FIRST)
    score(model, rows[1:], tmp_path)
    less_trained = [rows[0] | {"trained": [False, *rows[0]["trained"][:-1]]}, *rows[1:]]
    score(model, less_trained, tmp_path)
    assert len(directories(tmp_path)) == 7
    assert_same(other, score(llama.model(seed=1), rows, tmp_path / "fresh"))


@pytest.mark.parametrize("written", [True, False])
def test_a_killed_run_goes_on_with_the_same_digits(llama, tmp_path, monkeypatch, written):
    """Killed after a batch, or between a batch's shard and its records."""
    rows, model = examples(llama), llama.model()
    whole = score(model, rows, tmp_path / "whole", batch_size=2)

    def kill(done, of):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(model, rows, tmp_path, batch_size=2, progress=kill)
    (cut,) = directories(tmp_path)
    assert sorted(path.name for path in cut.glob("*.safetensors")) == ["000000.safetensors", "000001.safetensors"]
    records = (cut / "rows.jsonl").read_text().splitlines()
    assert len(records) == 4
    if not written:
        (cut / "rows.jsonl").write_text("".join(line + "\n" for line in records[:2]))

    asked, score_batch = [], module._score_batch
    monkeypatch.setattr(module, "_score_batch", lambda *given: asked.append(given) or score_batch(*given))
    assert_same(score(model, rows, tmp_path, batch_size=2), whole)
    assert len(asked) == (1 if written else 2), "only the missing batches are computed"


def test_resumed_with_another_batch_size_each_row_is_kept_once(llama, tmp_path):
    rows, model = examples(llama), llama.model()
    whole = score(model, rows, tmp_path / "whole")

    def kill(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(model, rows, tmp_path, batch_size=2, progress=kill)
    resumed = score(model, rows, tmp_path, batch_size=3)
    assert sum(own.positions for own in resumed) == sum(own.positions for own in whole)
    for one, other in zip(read(resumed), read(whole), strict=True):
        torch.testing.assert_close(one.logps, other.logps, rtol=0, atol=1e-4)  # padded to another width


def test_a_stored_row_can_be_sent_to_another_process(llama, tmp_path):
    stored = score(llama.model(), examples(llama, 3), tmp_path)
    assert_same(pickle.loads(pickle.dumps(stored)), stored)


def test_flagged_rows_alone_are_scored(llama, tmp_path):
    rows = [row | {"harmful": i % 2 == 1} for i, row in enumerate(examples(llama))]
    model = llama.model()
    scored = with_reference_top_k(model, 0, rows, 5, cache_dir=tmp_path, **RESPONSE)
    expected = iter(score(model, rows[1::2], tmp_path))
    for row, own in zip(rows, scored, strict=True):
        assert {name: own[name] for name in row} == row
        assert own.get("reference_top_k") == (next(expected) if row["harmful"] else None)
    unflagged = [row | {"harmful": False} for row in rows]
    assert with_reference_top_k(model, 0, unflagged, 5, cache_dir=tmp_path / "none", **RESPONSE) == unflagged
    assert not (tmp_path / "none").exists()


def test_all_tokens_leave_no_rest_and_more_are_refused(llama, tmp_path):
    rows, model = examples(llama, 2), llama.model()
    vocabulary = model.config.vocab_size
    for own in read(score(model, rows, tmp_path, k=vocabulary)):
        assert (own.rest == -torch.inf).all()
        torch.testing.assert_close(own.logps.exp().sum(-1), torch.ones(len(own.logps)))
    for k in (0, vocabulary + 1):
        with pytest.raises(HoldfastError, match=rf"reference_top_k {k}: give 1 to {vocabulary}"):
            score(model, rows, tmp_path, k=k)


def test_a_missing_or_short_shard_is_corrupt(llama, tmp_path):
    rows, model = examples(llama, 3), llama.model()
    stored = score(model, rows, tmp_path)
    shard = stored[0].shard
    values = load_file(shard)
    save_file({name: value[:-1].contiguous() for name, value in values.items()}, shard)
    with pytest.raises(HoldfastError, match=r"the cache is corrupt \(it has no positions .* delete the directory"):
        read(stored)
    shard.write_bytes(b"torn")
    with pytest.raises(HoldfastError, match=r"the cache is corrupt .* delete the directory"):
        score(model, rows, tmp_path)
    shard.unlink()
    with pytest.raises(HoldfastError, match=r"the cache is corrupt .* delete the directory"):
        score(model, rows, tmp_path)


def test_the_manifest_says_what_was_asked(llama, tmp_path):
    score(llama.model(), examples(llama, 2), tmp_path, k=4, options=FIRST)
    (path,) = directories(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["k"], manifest["span"], manifest["first_tokens"]) == (4, "response", 3)


def test_a_number_that_is_not_finite_is_refused(llama, tmp_path):
    model = llama.model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(HoldfastError, match=r"flagged row [12]: .*not finite"):
        score(model, examples(llama, 2), tmp_path)
