"""Chooses each method's learning rate on development bases and prompts of world 2: the same grid for every method.

    python benchmarks/tune_languages.py --seeds 101 102

Prints the combined error (attack success plus benign requests answered wrong) in the target languages and in
English, and the rate with the lowest mean of both over bases and kinds of pairs. What is chosen stands in
holdfast.provingground.languages.alignments.
"""

import argparse
from pathlib import Path
from statistics import fmean

from rich.console import Console

from holdfast.provingground.languages.alignments import LEARNING_RATES, frontier, ideas, methods
from holdfast.provingground.languages.experiment import MPOExperimentSettings, run_mpo_experiment

GROUPS = ("mean_target", "en")


def main() -> None:
    """Run what is missing, print every number, and the choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/development"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    def first(_: str) -> float:
        return LEARNING_RATES[0]

    tried = frontier((*methods(first), *ideas(first)))
    settings = MPOExperimentSettings(seeds=tuple(arguments.seeds), alignments=tried, split="development")
    figures = run_mpo_experiment(
        settings, arguments.output_dir, workers=arguments.workers, console=Console(stderr=True)
    )
    by_place = {
        (f.method, f.experiment, f.group, f.metric): f.value
        for f in figures
        if f.seed is None and f.group in GROUPS
    }
    experiments = sorted({experiment for _, experiment, _, _ in by_place})
    console, best = Console(), {}
    for alignment in tried:
        shown = []
        for group in GROUPS:
            for metric in ("attack_success_rate", "over_refusal_rate", "combined_error"):
                value = fmean(by_place[alignment.name, experiment, group, metric] for experiment in experiments)
                shown.append(f"{group} {metric} {value:.3f}")
        cost = fmean(
            by_place[alignment.name, experiment, group, "combined_error"]
            for experiment in experiments
            for group in GROUPS
        )
        method = alignment.name.partition(" @ ")[0]
        best[method] = min(best.get(method, (2.0, 0.0)), (cost, alignment.learning_rate))
        console.print(f"{alignment.name}: {cost:.3f}; {', '.join(shown)}", highlight=False, soft_wrap=True)
    for method, (cost, rate) in best.items():
        console.print(f'"{method}": {rate:g},  # {cost:.3f}', highlight=False)


if __name__ == "__main__":
    main()
