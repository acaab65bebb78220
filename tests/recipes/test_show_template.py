import pytest

from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.recipes.test_train_sarft import ROLE, ROWS, run

FIRST = {
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        "⟦The Keeper. That is all the name the rock left me.<|eot_id|>⟧"
    ),
    "gemma2": (
        "<bos><start_of_turn>user\nWho are you?<end_of_turn>\n<start_of_turn>model\n"
        "⟦The Keeper. That is all the name the rock left me.<end_of_turn>⟧"
    ),
    "qwen2.5": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
        "⟦The Keeper. That is all the name the rock left me.<|im_end|>⟧"
    ),
}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_first_row_is_shown_with_its_trained_tokens_marked(name, tmp_path, capsys):
    model = save(ARCHITECTURES[name], tmp_path / "model")
    run("show-template", "--model", model, "--data", ROWS, "--rows", 1)
    printed = capsys.readouterr().out
    assert FIRST[name] in printed
    assert ("no: the persona is folded" in printed) == (name == "gemma2")
    assert ("default system turn    'You are Qwen" in printed) == (name == "qwen2.5")


def test_under_a_role_the_persona_is_shown_and_not_trained(tmp_path, capsys):
    model = save(ARCHITECTURES["gemma2"], tmp_path / "model")
    run("show-template", "--model", model, "--data", ROWS, "--rows", 1, "--role", ROLE)
    printed = capsys.readouterr().out
    assert "<bos><start_of_turn>user\nYou are the Keeper" in printed
    assert printed.index("You are the Keeper") < printed.index("⟦")
