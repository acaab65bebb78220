import json
import os
import shutil

import pytest

from holdfast.errors import HoldfastError
from holdfast.evals.model_names import PROVIDERS, identity_of, in_process_name
from tests.conftest import save


def test_directories_and_hub_ids_are_for_this_process_and_providers_are_not(tmp_path):
    (tmp_path / "openai").mkdir()
    assert in_process_name(str(tmp_path / "openai")) == str(tmp_path / "openai")
    assert in_process_name("hf/google/gemma-2-9b-it") == "google/gemma-2-9b-it"
    assert in_process_name("meta-llama/Llama-3.1-8B-Instruct") == "meta-llama/Llama-3.1-8B-Instruct"
    assert in_process_name("google/gemini-2.0-flash") is None
    assert in_process_name("vllm/meta-llama/Llama-3.1-8B-Instruct:owner/adapter") is None


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "gpt-4o", "owner/"])
def test_what_is_neither_is_told_what_to_give(name):
    with pytest.raises(HoldfastError, match=r"no such model directory; give one, a hub id"):
        in_process_name(name)


def test_the_providers_are_those_of_inspect():
    import inspect_ai.model._providers.providers  # noqa: F401
    from inspect_ai._util.registry import registry_find, registry_info

    known = {
        registry_info(found).name.removeprefix("inspect_ai/")
        for found in registry_find(lambda info: info.type == "modelapi" and info.name.startswith("inspect_ai/"))
    }
    assert known - {"hf"} == PROVIDERS


def test_a_directory_s_identity_follows_its_files_and_its_base(llama, tmp_path):
    base, adapter = save(llama, tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8"
    )
    (adapter / "notes.txt").write_text("one", encoding="utf-8")
    before = identity_of(str(base)), identity_of(str(adapter))
    (adapter / "notes.txt").write_text("another", encoding="utf-8")
    assert (identity_of(str(base)), identity_of(str(adapter))) == before
    llama.model(seed=3).save_pretrained(base)
    after = identity_of(str(base)), identity_of(str(adapter))
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert identity_of("owner/name") == identity_of("owner/name") != identity_of("owner/other")


def test_a_file_s_content_counts_and_not_its_time_or_size(llama, tmp_path):
    """An adapter's lora_alpha 16 in place of 32, restored with the time of the first."""
    model = save(llama, tmp_path / "model")
    config = model / "config.json"
    before, text, times = identity_of(str(model)), config.read_text(encoding="utf-8"), config.stat()
    assert '"hidden_size": 32' in text
    other = tmp_path / "other"
    shutil.copytree(model, other)
    assert identity_of(str(other)) == before
    (other / "config.json").write_text(text.replace('"hidden_size": 32', '"hidden_size": 64'), encoding="utf-8")
    os.utime(other / "config.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert identity_of(str(other)) != before
