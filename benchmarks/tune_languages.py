"""Chooses each method's learning rate on development bases and prompts of world 2: the same grid for every method.

    python benchmarks/tune_languages.py --seeds 101 102

Prints the combined error (attack success plus benign requests answered wrong) in the target languages and in
English, and for each kind of pairs the rate with the lowest mean of both over bases. What is chosen stands in
holdfast.provingground.languages.alignments.
"""

import argparse
from pathlib import Path
from statistics import fmean

from rich.console import Console

from holdfast.provingground.languages.alignments import frontier
from holdfast.provingground.languages.experiment import MPOExperimentSettings, run_mpo_experiment

GROUPS = ("mean_target", "en")


def main() -> None:
    """Run what is missing, print every number, and the choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/development"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    console = Console()
    for noise in ("clean", "published"):
        settings = MPOExperimentSettings(tuple(arguments.seeds), noise, frontier(), split="development")
        figures = run_mpo_experiment(
            settings, arguments.output_dir, workers=arguments.workers, console=Console(stderr=True)
        )
        value = {(f.method, f.group, f.metric): f.value for f in figures if f.seed is None and f.group in GROUPS}
        best: dict[str, tuple[float, float]] = {}
        for alignment in settings.alignments:
            errors = [value[alignment.name, group, "combined_error"] for group in GROUPS]
            parts = ", ".join(
                f"{group} {metric} {value[alignment.name, group, metric]:.2f}"
                for group in GROUPS
                for metric in ("attack_success_rate", "over_refusal_rate", "combined_error")
            )
            console.print(
                f"{noise}, {alignment.name}: {fmean(errors):.3f}; {parts}", highlight=False, soft_wrap=True
            )
            method = alignment.name.partition(" @ ")[0]
            best[method] = min(best.get(method, (3.0, 0.0)), (fmean(errors), alignment.learning_rate))
        for method, (error, rate) in best.items():
            console.print(f'{noise}: "{method}": {rate:g},  # {error:.3f}', highlight=False)


if __name__ == "__main__":
    main()
