"""docs/configuration.md is made from the config classes: `make docs` writes it, the test holds it to them."""

from pathlib import Path

from holdfast.config import allowed_values, default_text
from holdfast.recipes.configs import OFFICIAL, SaRFTConfig

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"


def configuration_page() -> str:
    lines = [
        "# Configuration",
        "",
        "Made from the config classes by `make docs`; `holdfast train-sarft --help` says the same. Every field can",
        "stand in the YAML file or be passed as `--field-name value`, which wins. Unknown fields fail.",
        "",
        "## `holdfast train-sarft`",
        "",
        "| field | values | default | `preset: official` | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, field in SaRFTConfig.model_fields.items():
        default = "required" if field.is_required() else f"`{default_text(field.default)}`"
        official = f"`{default_text(OFFICIAL[name])}`" if name in OFFICIAL else ""
        values = allowed_values(field).replace("|", ", ")
        lines.append(f"| `{name}` | {values} | {default} | {official} | {field.description} |".replace("||", "‖"))
    return "\n".join(lines) + "\n"


def test_configuration_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `make docs`"


if __name__ == "__main__":
    PAGE.write_text(configuration_page(), encoding="utf-8")
