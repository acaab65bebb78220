"""Holdfast: fine-tune a language model without losing its safety."""

__version__ = "0.1.0"
