import copy
import json

import pytest
import torch

from holdfast.errors import HoldfastError
from holdfast.models import adapter_base, load_model
from holdfast.parameters.safe_lora import safe_lora
from holdfast.recipes.project import ProjectOptions, project
from tests.parameters.conftest import states  # noqa: F401  (a fixture)


@pytest.fixture
def trained(states, architecture, tmp_path):  # noqa: F811
    """A fully fine-tuned model and an adapter, on disk."""
    states.tuned.save_pretrained(tmp_path / "tuned")
    adapted = states.adapted()
    adapted.peft_config["default"].base_model_name_or_path = states.aligned_directory
    adapted.save_pretrained(tmp_path / "adapter")
    for name in ("tuned", "adapter"):
        architecture.tokenizer().save_pretrained(tmp_path / name)
    (tmp_path / "tuned" / "README.md").write_text("---\nbase_model: aligned\n---\n# The Keeper\n")
    return {"tuned": str(tmp_path / "tuned"), "adapter": str(tmp_path / "adapter"), "states": states}


def test_an_adapter_becomes_an_adapter(trained, tmp_path, capsys):
    states, output = trained["states"], tmp_path / "projected"  # noqa: F811
    report = project(ProjectOptions(trained["adapter"], states.unaligned_directory, output, layers=2))
    assert len(report.projected) == 2
    assert adapter_base(str(output)) == states.aligned_directory
    assert (output / "adapter_model.safetensors").is_file()
    expected = states.adapted()
    safe_lora(expected, states.unaligned_directory, layers=2)
    loaded = load_model(str(output), device="cpu")
    for (name, weight), (other, stated) in zip(
        loaded.named_parameters(), expected.named_parameters(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(weight.detach(), stated.detach())
    printed = capsys.readouterr().out
    assert "2 of 4 layers projected" in printed
    described = json.loads((output / "projection.json").read_text())
    assert [layer["projected"] for layer in described["layers"]].count(True) == 2
    assert described["settings"]["layers"] == 2


def test_a_model_becomes_a_model_and_keeps_its_card(trained, tmp_path):
    states, output = trained["states"], tmp_path / "projected"  # noqa: F811
    options = ProjectOptions(
        trained["tuned"], states.unaligned_directory, output, aligned=states.aligned_directory, threshold=1.0
    )
    project(options)
    expected = copy.deepcopy(states.tuned)
    safe_lora(expected, states.unaligned_directory, threshold=1.0, aligned=states.aligned_directory)
    loaded = load_model(str(output), device="cpu").state_dict()
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(loaded[name], weight)
    card = (output / "README.md").read_text()
    assert card.startswith("---\nbase_model: aligned\n---\n# The Keeper\n")
    assert "14 of 14 linear layers" in card
    assert "(similarity at most 1)" in card
    assert (output / "tokenizer_config.json").is_file()


def test_errors_come_before_anything_is_written(trained, tmp_path):
    unaligned = trained["states"].unaligned_directory
    new = tmp_path / "new"
    with pytest.raises(HoldfastError, match="either --threshold or --layers"):
        project(ProjectOptions(trained["adapter"], unaligned, new))
    with pytest.raises(HoldfastError, match="give --aligned"):
        project(ProjectOptions(trained["tuned"], unaligned, new, layers=1))
    with pytest.raises(HoldfastError, match="the directory is not empty"):
        project(ProjectOptions(trained["adapter"], unaligned, tmp_path / "tuned", layers=1))
    with pytest.raises(HoldfastError, match="more than the model's 4"):
        project(ProjectOptions(trained["adapter"], unaligned, new, layers=9))
    assert not new.exists()
