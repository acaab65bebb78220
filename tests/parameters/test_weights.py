import json
import shutil
from pathlib import Path

import pytest
import torch

from holdfast.errors import HoldfastError
from holdfast.parameters.weights import WeightsOnDisk


def test_reads_one_file_and_shards_alike(architecture, tmp_path):
    model = architecture.model()
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = WeightsOnDisk(str(tmp_path / "whole")), WeightsOnDisk(str(tmp_path / "shards"))
    for name, parameter in model.named_parameters():  # a tied head is not among them
        assert torch.equal(whole(name), parameter)
        assert torch.equal(shards(name), parameter)
    assert "lm_head.bias" not in whole


def test_the_bare_decoder_has_the_same_weights(llama, tmp_path):
    model = llama.model()
    model.model.save_pretrained(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(WeightsOnDisk(str(tmp_path))(name), model.model.layers[0].mlp.up_proj.weight)
    assert name in WeightsOnDisk(str(tmp_path))


def test_a_hub_id_is_found_in_the_cache(llama, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--tiny/snapshots/abc"
    llama.model().save_pretrained(snapshot)
    refs = tmp_path / "models--someone--tiny/refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert WeightsOnDisk("someone/tiny")("model.norm.weight").shape == (32,)


def test_errors_are_one_line_and_name_the_place(llama, tmp_path):
    directory = tmp_path / "model"
    llama.model().save_pretrained(directory)
    with pytest.raises(HoldfastError, match=r"there is no weight model\.layers\.7"):
        WeightsOnDisk(str(directory))("model.layers.7.mlp.up_proj.weight")
    with pytest.raises(HoldfastError, match="no such directory, and the hub has no such model"):
        WeightsOnDisk("nobody/nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(HoldfastError, match=r"neither model\.safetensors nor"):
        WeightsOnDisk(str(empty))("x")
    (empty / "model.safetensors.index.json").write_text(json.dumps({"weights": {}}))
    with pytest.raises(HoldfastError, match="not an index of weights"):
        WeightsOnDisk(str(empty))("x")


def test_a_damaged_file_is_named(llama, tmp_path):
    llama.model().save_pretrained(tmp_path, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(HoldfastError, match=r"model-0000.*cannot read the weight model\.norm\.weight"):
        WeightsOnDisk(str(tmp_path))("model.norm.weight")


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base"}))
    with pytest.raises(HoldfastError, match="this is an adapter"):
        WeightsOnDisk(str(tmp_path))


def test_a_file_in_the_place_of_the_directory(llama, tmp_path):
    llama.model().save_pretrained(tmp_path)
    copy = Path(shutil.copy(tmp_path / "model.safetensors", tmp_path / "other.safetensors"))
    with pytest.raises(HoldfastError, match="is a file; give a model directory"):
        WeightsOnDisk(str(copy))("model.norm.weight")
