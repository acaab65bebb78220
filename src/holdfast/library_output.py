"""What transformers and other libraries print: nothing beside our own lines, unless the user asks for it."""

import logging
import os
import sys
import warnings
from typing import Any

_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
_show_warning = warnings.showwarning


def show_library_output(shown: bool) -> None:
    """Turn progress bars, log messages and warnings of libraries on or off, in this process and its children.

    Libraries that are not imported yet read the environment; the others are told. Errors are always shown.
    """
    level = "warning" if shown else "error"
    os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DATASETS_VERBOSITY"] = level
    for name in _BARS:
        os.environ[name] = "0" if shown else "1"
    warnings.showwarning = _show_warning if shown else _ignore
    if logging.lastResort is not None:  # prints what a library logs without a handler
        logging.lastResort.setLevel(logging.WARNING if shown else logging.ERROR)
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_warning() if shown else transformers_logging.set_verbosity_error()
        transformers_logging.enable_progress_bar() if shown else transformers_logging.disable_progress_bar()
    if "datasets" in sys.modules:
        import datasets

        datasets.enable_progress_bars() if shown else datasets.disable_progress_bars()


def _ignore(*_: Any, **__: Any) -> None:
    """Show no warning; filters that make errors of warnings still do."""
