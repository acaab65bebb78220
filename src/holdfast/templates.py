"""Rendering chat templates, which are programs of strangers: every failure, endless loops included, is one line.

A template is first tried in a process of its own with little time and memory (`template_trial`), once in each
process. Afterwards it is rendered in this process, and interrupted where it takes too long.
"""

import ctypes
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from holdfast import template_trial
from holdfast.errors import HoldfastError
from holdfast.files import read_text

_SPEAKERS = (
    ("user",),
    ("system", "user"),
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant", "user"),
)
_TRIAL_SECONDS = 60  # of a slow machine; the trial's own limit is processor time
_TICK, _TICKS = 0.5, 20  # a rendering may last ten seconds; a process that stands still does not tick
_CHARACTERS = 2**20  # of a rendering, besides sixteen times its turns


def read_template(path: Path) -> str:
    """Return the text of a Jinja file. Raises HoldfastError."""
    if not path.exists():
        raise HoldfastError(f"{path}: no such chat template file; give the path of a Jinja file")
    return read_text(path, "chat template")


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise HoldfastError where the tokenizer's chat template does not end, or needs much memory."""
    try:
        template = tokenizer.get_chat_template()
        variables = json.dumps(dict(tokenizer.special_tokens_map), default=str)
    except Exception as error:
        raise HoldfastError(f"{tokenizer.name_or_path}: no usable chat template ({_reason(error)})") from error
    problem = _trial(template, variables)
    if problem is not None:
        raise HoldfastError(
            f"{tokenizer.name_or_path}: the chat template {problem}; use the template that belongs to the model"
        )


@cache
def _trial(template: str, variables: str) -> str | None:
    """What is wrong with the template, None where it renders a few turns quickly, or fails quickly."""
    chats = [[{"role": speaker, "content": "text"} for speaker in speakers] for speakers in _SPEAKERS]
    job = {"path": sys.path, "template": template, "variables": json.loads(variables), "chats": chats}
    command = [sys.executable, "-I", str(Path(template_trial.__file__))]
    try:
        done = subprocess.run(
            command, input=json.dumps(job).encode(), capture_output=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "does not end"
    except OSError:  # no process can be started; the limits in this process remain
        return None
    if done.returncode < 0:
        return f"does not end: it took more than {template_trial.SECONDS} seconds for a few words"
    said = done.stdout.decode().strip()
    return {
        "long": f"writes more than {template_trial.MAX_CHARACTERS:,} characters for a few words",
        "memory": f"needs more than {template_trial.MEMORY // 2**20:,} MiB of memory for a few words",
    }.get(said)


def render(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[dict[str, str]], *, add_generation_prompt: bool = False
) -> str:
    """Return the conversation as the tokenizer's chat template writes it. Raises HoldfastError for any failure."""
    order = ", ".join(turn["role"] for turn in chat[:20]) + (", ..." if len(chat) > 20 else "")
    try:
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        text = str(_WATCHDOG.run(lambda: tokenizer.apply_chat_template(list(chat), **options)))
        text.encode()
    except _TooSlow:
        reason = f"it took more than {_TICK * _TICKS:.0f} seconds"
    except UnicodeEncodeError as error:
        reason = f"it writes half a surrogate pair (U+{ord(error.object[error.start]):04X}), which is no text"
    except Exception as error:  # a template can raise anything
        reason = _reason(error)
    else:
        if len(text) <= _CHARACTERS + 16 * sum(len(turn["content"]) for turn in chat):
            return text
        reason = f"it writes {len(text):,} characters"
    raise HoldfastError(f"the chat template rejects a conversation of {order}: {reason}")


def _reason(error: Exception) -> str:
    """The first line of what an error says, with its type where it says little: KeyError's text is the key."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
    return said if " " in said else f"{type(error).__name__} {said}".strip()


class _TooSlow(BaseException):
    """Interrupts a rendering; no Exception, so that nothing between catches it."""


class _Watchdog:
    """Interrupts a call that takes too long, in whatever thread it runs.

    A thread counts half seconds while calls are running and raises `_TooSlow` in the thread of one that has used its
    share. It ends when nothing has run for a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[int, int] = {}  # ticks, by thread
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], object]) -> object:
        """Return what `call` returns. Raises `_TooSlow`."""
        own = threading.get_ident()
        with self._lock:
            self._left[own] = _TICKS
            if self._thread is None or not self._thread.is_alive():  # a forked process has no thread
                self._thread = threading.Thread(target=self._watch, daemon=True, name="chat template watchdog")
                self._thread.start()
        try:
            return call()
        finally:
            with self._lock:
                self._left.pop(own, None)

    def _watch(self) -> None:
        idle = 0
        while idle < _TICKS:
            time.sleep(_TICK)
            with self._lock:
                idle = 0 if self._left else idle + 1
                for thread in list(self._left):
                    self._left[thread] -= 1
                    if self._left[thread] <= 0:
                        del self._left[thread]
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(thread), ctypes.py_object(_TooSlow)
                        )


_WATCHDOG = _Watchdog()
