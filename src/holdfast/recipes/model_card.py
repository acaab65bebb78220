"""The model card of a fine-tuned model: what was done, what was measured, what was not."""

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from holdfast import __version__
from holdfast.data.roles import Role
from holdfast.recipes.configs import SaRFTConfig
from holdfast.results import Figure

if TYPE_CHECKING:
    from holdfast.recipes.train_sarft import TrainingData

_SWITCHES = (
    "preset",
    "selector",
    "beta",
    "ce_normaliser",
    "kl_span",
    "kl_direction",
    "safe_loss",
    "tuning",
    "learning_rate",
    "epochs",
    "seed",
)


def write_model_card(
    directory: Path, config: SaRFTConfig, role: Role, figures: list[Figure], data: "TrainingData"
) -> None:
    """Write `README.md`, with the front matter that model hubs read."""
    head: dict[str, object] = {"base_model": config.model, "tags": ["holdfast", "sarft", "role-play"]}
    if config.tuning != "full":
        head |= {"library_name": "peft"}
    settings = config.model_dump(mode="json") | {"learning_rate": config.resolved_learning_rate}
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        f"# {_escaped(role.name)} on {_escaped(Path(config.model).name)}",
        "",
        f"Fine-tuned with SaRFT, Safety-Aware Role-Play Fine-Tuning (arXiv 2502.20968), by Holdfast {__version__}. "
        + _what_was_anchored(config, data),
        "",
        "## Settings",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {_escaped(str(settings[name]))} |" for name in _SWITCHES),
        "",
        "All settings are in `config.yaml`; data, versions and commit in `run.json`.",
        "",
        "## Measured in training",
        "",
        f"On {len(data.examples)} rows of training data ({data.truncated}).",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {figure.metric} | {figure.value:.4f} |" for figure in figures),
        "",
        "## Not measured",
        "",
        "Refusals, over-refusal, role fidelity and utility of this model were not measured by the training. "
        "Measure them before you give the model to anyone.",
        "",
    ]
    (directory / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _what_was_anchored(config: SaRFTConfig, data: "TrainingData") -> str:
    if config.selector == "none" or config.beta == 0:
        return "No row was anchored to the aligned model: this is plain fine-tuning."
    return f"{data.flagged_share:.1%} of the rows were anchored to the aligned model (selector {config.selector})."


def _escaped(text: str) -> str:
    """Text of a file or a user that must not become Markdown or HTML."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
