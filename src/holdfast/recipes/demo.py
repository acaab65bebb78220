"""`make demo`: both experiments of the proving ground by the same workers, so that none waits for the other's end."""

import os
from pathlib import Path

from holdfast.provingground.languages.experiment import demo_parts, mpo_plan
from holdfast.provingground.roles.experiment import SaRFTExperimentSettings, sarft_plan
from holdfast.provingground.runner import run_plans
from holdfast.recipes.demo_mpo import demo_mpo
from holdfast.recipes.demo_sarft import demo_sarft
from holdfast.recipes.terminal import err, note


def demo(sarft_dir: Path, mpo_dir: Path, *, workers: int | None) -> None:
    """Run what is not there yet, then report as `holdfast demo sarft` and `holdfast demo mpo` do."""
    note(
        "the proving ground, offline: two worlds of tiny models, minutes on two cores; Ctrl-C is safe, it continues"
    )
    plans = [
        sarft_plan(SaRFTExperimentSettings.demo(), sarft_dir),
        *(mpo_plan(part, mpo_dir) for part in demo_parts()),
    ]
    run_plans(plans, workers=workers or os.cpu_count() or 1, console=err)
    demo_sarft(sarft_dir, seeds=None, workers=workers)
    demo_mpo(mpo_dir, seeds=None, workers=workers)
