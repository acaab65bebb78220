"""What every jailbreak wrapper is: it changes how a request is put, never what is asked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.files import shortened
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.samples import Prompt


def as_it_is(completion: str) -> str:
    """The answer unchanged, for wrappers whose answers are plain."""
    return completion


@dataclass(frozen=True)
class Wrapper:
    """One wrapper, ready for use.

    `name` is how it was asked for and stands in the samples. `wrap` gives the turns to send, of which the last is the
    user's; it is a pure function of the request and raises HoldfastError for a request that it cannot wrap. `decode`
    turns an answer back into plain text, for judges; what is plain already stays as it is.
    """

    name: str
    wrap: Callable[[str], tuple[Message, ...]]
    decode: Callable[[str], str] = as_it_is


@dataclass(frozen=True)
class WrapperKind:
    """What can be asked for by name. docs/benchmarks.md is made from these.

    `file` says what the file holds that the kind needs (`NAME:PATH`), None where it needs none. `make` gets its path
    and the name for the wrapper.
    """

    name: str
    title: str
    source: str
    citation: str
    file: str | None
    make: Callable[[str, Path | None], Wrapper]


def user_turn(text: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return (Message("user", text),)


def wrap_prompts(wrapper: Wrapper, prompts: Iterable[Prompt]) -> list[tuple[Message, ...]]:
    """The turns of each prompt, in order. Raises HoldfastError with the prompt's id where one cannot be wrapped."""
    wrapped = []
    for prompt in prompts:
        try:
            wrapped.append(wrapper.wrap(prompt.text))
        except HoldfastError as error:
            raise HoldfastError(f"{error} (prompt {shortened(prompt.id)})") from None
    return wrapped
