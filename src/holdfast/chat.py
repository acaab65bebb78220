"""What a tokenizer's chat template does: how it writes a conversation, and which tokens the assistant says.

A template is probed once per sequence of speakers with placeholder turns; the literal text between them is then
known, so an answer's exact place is known too, without guessing from a model's name. Every row's rendering is
checked against the template itself.
"""

import hashlib
import json
import math
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from holdfast.data.rows import Message, Speaker
from holdfast.errors import HoldfastError
from holdfast.models import DType, Policy, context_tokens, embedding_rows, load_model, load_tokenizer
from holdfast.templates import check_template, render

EndOfTurn = Literal["template", "eos"]


class EncodedRow(NamedTuple):
    """A conversation as tokens; `trained[i]` says whether token i is one the assistant says."""

    input_ids: list[int]
    trained: list[bool]

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the first trained one."""
        return self.trained.index(True) if True in self.trained else len(self.trained)


class Segment(NamedTuple):
    """A stretch of rendered text; tokens are made per segment, so a prompt has the tokens it has at generation."""

    text: str
    trained: bool


@dataclass(frozen=True)
class _Shape:
    """The literal text that a template writes around the turns of one sequence of speakers."""

    literals: tuple[str, ...]  # one more than turns: before, between and after them
    trimmed: tuple[bool, ...]  # whether the template strips the turn's content


class ChatFormat:
    """One tokenizer's chat template, with its facts.

    Args:
        tokenizer: must have a chat template.
        end_of_turn: `template` trains what the template puts at the end of an assistant turn; `eos` appends
            `tokenizer.eos_token` to the untrimmed answer instead, as SaRFT's published code does (on Gemma-2
            that is not its `<end_of_turn>`).
        fold_separator: joins the system text and the first user turn where the template has no system role.

    Attributes:
        supports_system: False where the template raises on a system turn or leaves it out (Gemma 1 and 2).
        default_system: the system text that the template inserts by itself when there is none (Qwen2.5), or None.
        end_of_turn_ids: the tokens that end an assistant turn.
        stop_token_ids: the tokens that end a generation: the end of turn and eos.
        context: the most tokens that the model reads; infinite until `of_model` has told it.
        embeddings: how many tokens the model has embeddings for; none is beyond that until `of_model` has told it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_of_turn: EndOfTurn = "template",
        fold_separator: str = "\n\n",
    ):
        if not tokenizer.chat_template:
            raise HoldfastError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template, so it is not a chat model; "
                "use the model's instruct version, or pass a Jinja file with --chat-template"
            )
        check_template(tokenizer)
        self.tokenizer = tokenizer
        self.context: float = math.inf
        self.embeddings = sys.maxsize
        self.end_of_turn = end_of_turn
        self.fold_separator = fold_separator
        self._shapes: dict[tuple[Speaker, ...], _Shape] = {}
        self.supports_system = self._probe_system()
        self.default_system = self._probe_default_system() if self.supports_system else None
        self.end_of_turn_text = self._probe_end_of_turn()
        self.end_of_turn_ids: list[int] = self._tokens(self.end_of_turn_text)
        # Where answers end with eos, a turn as the template ends it still is one.
        written = self._tokens(self._after_assistant()[1] or "") if end_of_turn == "eos" else []
        self.stop_token_ids = sorted({self.end_of_turn_ids[0], *written, *_as_list(tokenizer.eos_token_id)})

    # -- what callers use

    def of_model(self, model: Policy) -> "ChatFormat":
        """Return this format, which from now on rejects tokens that the model has no embedding for."""
        self.context, self.embeddings = context_tokens(model), embedding_rows(model)
        return self

    def with_system(self, messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
        """The conversation under this system text; None leaves the row's own, if it has one.

        Where the template has no system role, the text is folded into the first user turn.
        """
        own, turns = _split_system(messages)
        text = own if system is None else system
        if text is None:
            return turns
        if self.supports_system:
            return (Message("system", text), *turns)
        if not turns or turns[0].speaker != "user":
            raise HoldfastError(
                "this chat template has no system role and the conversation has no user turn to fold it into"
            )
        return (Message("user", text + self.fold_separator + turns[0].content), *turns[1:])

    def segments(
        self, messages: Sequence[Message], *, system: str | None = None, last_answer_only: bool = False
    ) -> list[Segment]:
        """The rendered conversation, cut where the assistant starts and stops to speak.

        With `last_answer_only` earlier assistant turns belong to the prompt, as the template writes them.
        Raises HoldfastError where the template rejects the conversation or rewrites its text.
        """
        turns = self.with_system(messages, system)
        shape = self._shape(tuple(turn.speaker for turn in turns))
        contents = [t.content.strip() if cut else t.content for t, cut in zip(turns, shape.trimmed, strict=True)]
        self._check_rendering(turns, shape, contents)

        segments, prompt = [], shape.literals[0]
        for index, turn in enumerate(turns):
            following = shape.literals[index + 1]
            if turn.speaker != "assistant" or (last_answer_only and index + 1 < len(turns)):
                prompt += contents[index] + following
                continue
            if self.end_of_turn == "eos":
                answer, rest = turn.content + self._eos_token(), ""
                if index + 1 < len(turns):
                    rest = following.removeprefix(self.end_of_turn_text)
            else:
                written = following.startswith(self.end_of_turn_text)
                # A template that ends no turn still has to teach the model to stop: eos after the last answer.
                end = self.end_of_turn_text if written or index + 1 == len(turns) else ""
                answer, rest = contents[index] + end, following.removeprefix(end)
            segments += [Segment(prompt, False), Segment(answer, True)]
            prompt = rest
        # What follows the last end of turn (a newline, mostly) is never seen by a model that stops there.
        return segments

    def encode(
        self, messages: Sequence[Message], *, system: str | None = None, last_answer_only: bool = False
    ) -> EncodedRow:
        """Tokens of the conversation; the assistant's turns, or the last one only, are marked as trained."""
        input_ids: list[int] = []
        trained: list[bool] = []
        segments = self.segments(messages, system=system, last_answer_only=last_answer_only)
        texts = [segment.text for segment in segments]  # one call: it costs more than the few tokens
        tokens = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for segment, ids in zip(segments, tokens, strict=True):
            input_ids += self._known(ids)
            trained += [segment.trained] * len(ids)
        return EncodedRow(input_ids, trained)

    def prompt_ids(self, messages: Sequence[Message], *, system: str | None = None) -> list[int]:
        """Tokens of a conversation that ends with a user turn, ready for the assistant to speak.

        Raises HoldfastError where they leave no room for an answer in the model's context.
        """
        answered = [*messages, Message("assistant", "x")]
        segments = self.segments(answered, system=system)
        ids = [token for segment in segments[:-1] for token in self._known(self._tokens(segment.text))]
        if len(ids) >= self.context:
            raise HoldfastError(f"prompt longer than the context ({len(ids):,} tokens of {self.context:,})")
        return ids

    def unknown_share(self, conversations: Iterable[Sequence[Message]]) -> float:
        """The share of the texts' tokens that the tokenizer does not know; 0 where it knows every character."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return 0.0
        texts = (message.content for conversation in conversations for message in conversation)
        tokens = [token for text in texts for token in self._tokens(text)]
        return tokens.count(unknown) / max(1, len(tokens))

    def fingerprint(self) -> str:
        """SHA-256 over everything that decides how text becomes tokens."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else repr(sorted(self.tokenizer.get_vocab().items()))
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        parts = [vocabulary, special, str(self.tokenizer.chat_template), self.end_of_turn, self.fold_separator]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    # -- probing

    def _render(self, turns: Sequence[Message]) -> str:
        return render(self.tokenizer, [{"role": turn.speaker, "content": turn.content} for turn in turns])

    def _probe(self, speakers: Sequence[Speaker], padding: str) -> list[str]:
        """The literal text around placeholder turns, each wrapped in `padding`."""
        marks = [f"{padding}mark{uuid.UUID(int=index).hex}{padding}" for index in range(len(speakers))]
        rest = self._render([Message(s, mark) for s, mark in zip(speakers, marks, strict=True)])
        literals = []
        for mark in marks:
            before, found, rest = rest.partition(mark.strip())
            if not found:
                raise HoldfastError(f"the chat template leaves out a turn of {', '.join(speakers)}")
            literals.append(before)
        return [*literals, rest]

    def _shape(self, speakers: tuple[Speaker, ...]) -> _Shape:
        if speakers not in self._shapes:
            bare, padded = self._probe(speakers, ""), self._probe(speakers, " ")
            trimmed = tuple(bare[i] == padded[i] or len(padded[i]) == len(bare[i]) for i in range(len(speakers)))
            self._shapes[speakers] = _Shape(tuple(bare), trimmed)
        return self._shapes[speakers]

    def _probe_system(self) -> bool:
        try:
            self._probe(("system", "user"), "")
        except HoldfastError:
            return False
        return True

    def _probe_default_system(self) -> str | None:
        before, after, _ = self._probe(("system", "user"), "")
        plain = self._probe(("user",), "")[0]
        if len(plain) > len(before) + len(after) and plain.startswith(before) and plain.endswith(after):
            return plain[len(before) : len(plain) - len(after)]
        return None

    def _probe_end_of_turn(self) -> str:
        """Text from the end of an assistant turn to its first special token, inclusive; eos if there is none."""
        if self.end_of_turn == "eos":
            return self._eos_token()
        text, first = self._after_assistant()
        return text[: text.index(first)] + first if first else text.rstrip() or self._eos_token()

    def _after_assistant(self) -> tuple[str, str | None]:
        """What the template writes after an assistant turn, and the first special token in it."""
        text = self._probe(("user", "assistant"), "")[-1]
        special = [token for token in self.tokenizer.get_added_vocab() if token in text]
        return text, min(special, key=lambda token: (text.index(token), -len(token)), default=None)

    def _eos_token(self) -> str:
        if not self.tokenizer.eos_token:
            raise HoldfastError(
                f"{self.tokenizer.name_or_path}: neither the chat template nor the tokenizer ends a turn; set eos_token"
            )
        return str(self.tokenizer.eos_token)

    def _check_rendering(self, turns: Sequence[Message], shape: _Shape, contents: Sequence[str]) -> None:
        expected = shape.literals[0] + "".join(
            content + literal for content, literal in zip(contents, shape.literals[1:], strict=True)
        )
        if self._render(turns) != expected:
            raise HoldfastError(
                "the chat template rewrites this conversation's text (a think block or a control token in it?), "
                "so its answer cannot be located; clean the row"
            )

    def _known(self, ids: list[int]) -> list[int]:
        """The ids, if the model has an embedding for each."""
        highest = max(ids, default=0)
        if highest >= self.embeddings:
            token = self.tokenizer.convert_ids_to_tokens(highest)
            raise HoldfastError(
                f"{self.tokenizer.name_or_path}: token {highest} ({token!r:.40}) is beyond "
                f"the model's {self.embeddings:,} embeddings; use the tokenizer that belongs to the model"
            )
        return ids

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_chat_model(
    name: str,
    *,
    chat_template: Path | None = None,
    end_of_turn: EndOfTurn = "template",
    fold_separator: str = "\n\n",
    dtype: DType = "auto",
    quantise_4bit: bool = False,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> tuple[Policy, ChatFormat]:
    """Load a model or adapter and its chat format; see `load_model` and `load_tokenizer`.

    The template is looked at before the weights are read.
    """
    tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
    chat = ChatFormat(tokenizer, end_of_turn=end_of_turn, fold_separator=fold_separator)
    model = load_model(
        name, dtype=dtype, quantise_4bit=quantise_4bit, trust_remote_code=trust_remote_code, device=device
    )
    return model, chat.of_model(model)


def _split_system(messages: Sequence[Message]) -> tuple[str | None, tuple[Message, ...]]:
    if messages and messages[0].speaker == "system":
        return messages[0].content, tuple(messages[1:])
    return None, tuple(messages)


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
