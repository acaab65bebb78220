"""Losses as pure functions: tensors in, per-row terms out. Nothing here reads a config, a file or a model."""

from holdfast.losses.deferred import DeferredLogits, Logits
from holdfast.losses.logprobs import IGNORED, mean_logps, summed_logps
from holdfast.losses.mpo import MPOLoss, mpo_loss, reward_gaps
from holdfast.losses.preference import PREFERENCE_LOSSES, PairLogps, PreferenceLoss
from holdfast.losses.sarft import SaRFTLoss, sarft_loss

__all__ = [
    "IGNORED",
    "PREFERENCE_LOSSES",
    "DeferredLogits",
    "Logits",
    "MPOLoss",
    "PairLogps",
    "PreferenceLoss",
    "SaRFTLoss",
    "mean_logps",
    "mpo_loss",
    "reward_gaps",
    "sarft_loss",
    "summed_logps",
]
