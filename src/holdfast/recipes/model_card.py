"""The model card of a fine-tuned model: what was done, what was measured, what was not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from holdfast import __version__
from holdfast.escaping import markdown
from holdfast.files import write_text
from holdfast.recipes.configs import TrainingConfig
from holdfast.results import Figure


@dataclass(frozen=True)
class CardText:
    """What a recipe says of its own result. In `details` and `data`, texts from files or users are escaped already."""

    title: str  # any text
    method: str  # "SaRFT, Safety-Aware Role-Play Fine-Tuning (arXiv 2502.20968)"
    details: str  # sentences on what this run did
    tags: tuple[str, ...]
    switches: tuple[str, ...]  # fields of the config that the table shows
    data: str  # what it was trained on, counted


def write_model_card(directory: Path, config: TrainingConfig, text: CardText, figures: Sequence[Figure]) -> None:
    """Write `README.md`, with the front matter that model hubs read."""
    head: dict[str, object] = {"base_model": config.model, "tags": ["holdfast", *text.tags]}
    if config.tuning != "full":
        head |= {"library_name": "peft"}
    settings = config.model_dump(mode="json") | {"learning_rate": config.resolved_learning_rate}
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        f"# {markdown(text.title)} on {markdown(Path(config.model).name)}",
        "",
        f"Fine-tuned with {text.method}, by Holdfast {__version__}. {text.details}",
        "",
        "## Settings",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {markdown(str(settings[name]))} |" for name in text.switches),
        "",
        "All settings are in `config.yaml`; data, versions and commit in `run.json`.",
        "",
        "## Measured in training",
        "",
        f"On {text.data}.",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {markdown(_name(figure, figures))} | {figure.value:.4f} |" for figure in figures),
        "",
        "## Not measured",
        "",
        "Refusals, over-refusal and utility of this model were not measured by the training. "
        "Measure them before you give the model to anyone.",
        "",
    ]
    write_text(directory / "README.md", "\n".join(lines))


def _name(figure: Figure, figures: Sequence[Figure]) -> str:
    """The metric, with its group where the figures have several."""
    several = len({other.group for other in figures}) > 1
    return f"{figure.metric}, {figure.group}" if several else figure.metric
