"""Losses as pure functions: tensors in, per-row terms out. Nothing here reads a config, a file or a model."""

from holdfast.losses.logprobs import IGNORED, mean_logps, summed_logps
from holdfast.losses.sarft import SaRFTLoss, sarft_loss

__all__ = ["IGNORED", "SaRFTLoss", "mean_logps", "sarft_loss", "summed_logps"]
