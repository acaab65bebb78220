"""Trainers: subclasses of transformers.Trainer that override its public methods only."""

from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

__all__ = ["SaRFTSettings", "SaRFTTrainer"]
