"""The model card of a fine-tuned model: what was done, what was measured, what was not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from holdfast import __version__
from holdfast.escaping import markdown
from holdfast.files import write_text
from holdfast.model_files import ADAPTER_CONFIG, local_directory
from holdfast.models import adapter_base
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
    warnings: tuple[str, ...] = ()  # any text, a sentence each
    not_measured: str = "how often the model refuses, over-refusal, or utility"


def write_model_card(directory: Path, config: TrainingConfig, text: CardText, figures: Sequence[Figure]) -> None:
    """Write `README.md`, with the front matter that model hubs read."""
    base = base_on_hub(config.model)
    head: dict[str, object] = {} if base is None else {"base_model": base}
    head |= {"tags": ["holdfast", *text.tags]}
    head |= {"library_name": "peft" if (directory / ADAPTER_CONFIG).exists() else "transformers"}
    settings = config.model_dump(mode="json") | {"learning_rate": config.resolved_learning_rate}
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        f"# {markdown(text.title)} on {markdown(Path(config.model).name)}",
        "",
        f"This model was fine-tuned with {text.method}, using Holdfast {__version__}. {text.details}",
        "",
        "## Settings",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {markdown(str(settings[name]))} |" for name in text.switches),
        "",
        "`config.yaml` holds all settings; `run.json` holds the data, library versions and commit.",
        "",
        "## Measured in training",
        "",
        f"Trained on {text.data}.",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {markdown(_name(figure, figures))} | {figure.value:.4f} |" for figure in figures),
        "",
        *(
            ["## Warnings", "", *(f"- {markdown(warning)}" for warning in text.warnings), ""]
            if text.warnings
            else []
        ),
        "## Not measured",
        "",
        f"Training does not measure {text.not_measured}. Measure them before you give the model to anyone.",
        "",
    ]
    write_text(directory / "README.md", "\n".join(lines))


def base_on_hub(model: str) -> str | None:
    """Return the hub id of the model, or of a local adapter's base; None for a directory, which the hub rejects."""
    if local_directory(model) is None:
        return model
    base = adapter_base(model)
    return base if base is not None and local_directory(base) is None else None


def _name(figure: Figure, figures: Sequence[Figure]) -> str:
    """The metric, with its group where the figures have several, and with its method where that tells two apart."""
    several = len({other.group for other in figures}) > 1
    methods = {f.method for f in figures if (f.metric, f.group) == (figure.metric, figure.group)}
    parts = [figure.metric, *([figure.group] if several else []), *([figure.method] if len(methods) > 1 else [])]
    return ", ".join(parts)
