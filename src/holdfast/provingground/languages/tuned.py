"""What is compared in world 2, and at which learning rates: chosen by benchmarks/tune_languages.py, then fixed."""

from holdfast.provingground.languages.cells import Alignment
from holdfast.provingground.languages.experiment import mpo

# Ideas for a better point than the paper's, tried with the same budget as every method; docs/proving_ground.md.
IDEAS: tuple[Alignment, ...] = (
    mpo("mpo_one_sided", 1e-3, one_sided=True),
    mpo("mpo_huber", 1e-3, huber_delta=0.5),
    mpo("mpo_retention_16", 1e-3, retention_weight=16.0),
    mpo("mpo_benign", 1e-3, benign_prompts=100, retention_weight=16.0),
    mpo("mpo_benign_one_sided", 1e-3, benign_prompts=100, retention_weight=16.0, one_sided=True),
)
