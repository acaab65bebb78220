"""Values that cannot work are refused in one line before anything is loaded."""

import pytest

from holdfast.cli import main

CONFIG = "model: nowhere\ndata: nowhere.jsonl\nrole: nowhere.yaml\noutput_dir: run\n"


def told(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: 4294967296", "field 'seed'"),
        ("seed: -1", "field 'seed'"),
        ("beta: .nan", "field 'beta'"),
        ("learning_rate: .inf", "field 'learning_rate'"),
        ("training_arguments: {push_to_hub: true}", "push_to_hub does not work here; nothing is uploaded"),
        ("training_arguments: {hub_model_id: a/b}", "push_to_hub does not work here"),
        ("training_arguments: {fsdp: full_shard}", "fsdp needs several processes"),
        ("training_arguments: {eval_strategy: steps}", "eval_strategy does not work here; give eval_data"),
        ("training_arguments: {torch_compile: true}", "torch_compile does not work here"),
        ("training_arguments: {report_to: wandb}", "for report_to use the field report_to"),
        ("training_arguments: {output_dir: elsewhere}", "for output_dir use the field output_dir"),
        ("training_arguments: {adam_epsilon: .nan}", "adam_epsilon nan is no finite number"),
        ("selector: seal\nselector_settings: {epochs: many}", "selector_settings': epochs"),
        ("selector: seal\nselector_settings: {epochs: 0}", "epochs 0; give at least 1"),
        ("selector: seal\nselector_settings: {epochs: 100000000000}", "epochs 100000000000 is not between"),
        ("selector: seal\nselector_settings: {learning_rate: .nan}", "learning_rate nan is not between"),
        ("selector: gradient\nselector_settings: {target_modules: 5}", "selector_settings': target_modules"),
        ("selector: persona_vector\nselector_settings: {baseline: x}", "selector_settings': baseline"),
    ],
)
def test_configs(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        CONFIG + "safety_data: nowhere.jsonl\nunsafe_data: nowhere.jsonl\n" + line + "\n"
    )
    assert message in told(["train-sarft", "c.yaml"], capsys)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_options(value, capsys):
    arguments = ["eval", "--model", "m", "--benchmarks", "xstest", "--temperature", value]
    error = told(arguments, capsys)
    assert "--temperature" in error
