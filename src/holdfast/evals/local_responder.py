"""Answers of models in this process: a Hugging Face model, or adapters that share one base in memory."""

import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.decoding import Prompts
from holdfast.errors import HoldfastError
from holdfast.evals.generation import BatchLimits, BranchSource, Generation, generate
from holdfast.evals.responders import Answer, Decoding
from holdfast.models import (
    DType,
    Policy,
    adapter_base,
    attach_adapter,
    brings_embeddings,
    context_tokens,
    load_model,
    load_tokenizer,
)


class LoadedModel:
    """A model in memory with its chat format, and the adapters on it, of which one at a time speaks.

    `base` is the directory or hub id that it was loaded from, if any, without adapters; `load` loads an expert of
    SafeDecoding on another base.
    """

    def __init__(
        self,
        model: Policy,
        chat: ChatFormat,
        *,
        base: str | None = None,
        load: Callable[[str], Policy] = load_model,
    ):
        self.model = model
        self.chat = chat
        self.base = base
        self._load = load
        self._attached: dict[str, str] = {}  # what an adapter is called in the model, by the name it was asked for
        self._elsewhere: dict[str, Policy] = {}  # experts that are no adapters of this base

    @property
    def own_adapter(self) -> str | None:
        """What the adapter that the model was loaded with is called in it, None where there is none."""
        return "default" if isinstance(self.model, PeftModel) and "default" in self.model.peft_config else None

    def attach(self, name: str) -> str:
        """Load the adapter `name` onto the base, unless it is there; returns what it is called in the model."""
        if name not in self._attached:
            called = f"adapter_{len(self._attached)}"  # a module's name: no dots, as a path may have
            self.model = attach_adapter(self.model, name, called)
            self._attached[name] = called
        return self._attached[name]

    def expert(self, name: str, chat: ChatFormat) -> tuple[Policy, str | None]:
        """The model in which the expert `name` speaks, and its adapter there.

        An adapter's name in this model, or an adapter of this base, needs no second copy of it. Any other expert, an
        adapter of another base or a model, is loaded beside this model, as it was trained: its adapter would mean
        something else on other weights. Raises HoldfastError where it has another vocabulary than `chat`.
        """
        if isinstance(self.model, PeftModel) and name in self.model.peft_config:
            return self.model, name
        base = _shared_base(name)
        if base is not None and self.base is not None and _identity(base) == _identity(self.base):
            adapter = self.attach(name)
            return self.model, adapter
        if name not in self._elsewhere:
            if load_tokenizer(name).get_vocab() != chat.tokenizer.get_vocab():
                raise HoldfastError(
                    f"{name}: an expert with another vocabulary; it must be tuned from the same model"
                )
            self._elsewhere[name] = self._load(name)
        return self._elsewhere[name], None

    @contextmanager
    def speaking_as(self, adapter: str | None) -> Iterator[None]:
        """Switch this adapter on inside the block; None switches all adapters off, so the base speaks."""
        if not isinstance(self.model, PeftModel):
            yield
        elif adapter is None:
            with self.model.disable_adapter():
                yield
        else:
            if self.model.active_adapter != adapter:
                self.model.set_adapter(adapter, inference_mode=True)
            yield


class LocalResponder:
    """A `Responder` whose model is in this process.

    `adapter` is what the speaking adapter is called in the model (`default` for one trained here); None is the base.
    `chat` is the adapter's own chat format; None takes the base's.
    A conversation that the chat template rejects, that fills the model's context or does not fit the memory gets an
    answer with an error; nothing is cut silently. An answer ends at the end of turn or of the context. A defence in
    the decoding reads every conversation twice, and the longer reading must fit.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        adapter: str | None = None,
        chat: ChatFormat | None = None,
        limits: BatchLimits | None = None,
    ):
        self.loaded = loaded
        self.adapter = adapter
        self.chat = chat or loaded.chat
        self.limits = limits

    async def respond(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding
    ) -> AsyncIterator[tuple[int, Answer]]:
        """See `Responder`. Answers come batch by batch, those to the longest prompts first.

        A batch blocks the event loop: it is the process's one heavy task, and a thread would only hold up Ctrl-C.
        """
        defence = decoding.defence
        named = None if defence is None else defence.expert
        expert = None if named is None else self.loaded.expert(named, self.chat)
        context = context_tokens(self.loaded.model)
        indices: list[int] = []
        prompts: list[Prompts] = []
        for index, conversation in enumerate(conversations):
            try:
                prompt = self._prompts(conversation, decoding)
            except HoldfastError as error:
                yield index, Answer(None, error=str(error))
                continue
            tokens = max(map(len, prompt))
            if tokens >= context:
                too_long = f"prompt longer than the context ({tokens} tokens of {context})"
                yield index, Answer(None, error=too_long)
                continue
            indices.append(index)
            prompts.append(prompt)
        branch = None
        if defence is not None:
            branch = BranchSource([prompt.branch for prompt in prompts], *(expert or (self.loaded.model, None)))
        batches = generate(
            self.loaded.model,
            [prompt.main for prompt in prompts],
            decoding,
            stop_token_ids=self.chat.stop_token_ids,
            pad_token_id=self.chat.tokenizer.pad_token_id,
            limits=self.limits,
            branch=branch,
        )
        while True:
            with self.loaded.speaking_as(self.adapter):  # for one batch: between two, another adapter may speak
                batch = next(batches, None)
            if batch is None:
                return
            for place, generation in batch:
                yield indices[place], self._answer(generation)

    def _prompts(self, conversation: Sequence[Message], decoding: Decoding) -> Prompts:
        if decoding.defence is not None:
            return decoding.defence.prompts(self.chat, conversation)
        return Prompts(self.chat.prompt_ids(conversation), [])

    def _answer(self, generation: Generation | None) -> Answer:
        if generation is None:
            return Answer(None, error="out of memory for this prompt alone")
        text = str(self.chat.tokenizer.decode(generation.tokens, skip_special_tokens=True))
        count = len(generation.tokens) + (not generation.cut)  # with the end of turn, as providers count
        return Answer(text, cut=generation.cut, output_tokens=count)


class LocalModels:
    """Models and adapters by name, one base in memory at a time.

    Adapters of the base in memory are attached to it, so that it is read once for all its personas: ask for models
    in the order of `grouped_by_base`, and be done with a responder before asking for one on another base.

    Args:
        dtype, device, trust_remote_code, quantise_4bit: see `holdfast.models.load_model`.
        chat_template: a Jinja file instead of the tokenizers' own templates.
        limits: how much is generated at once.
    """

    def __init__(
        self,
        *,
        dtype: DType = "auto",
        device: str | None = None,
        trust_remote_code: bool = False,
        quantise_4bit: bool = False,
        chat_template: Path | None = None,
        limits: BatchLimits | None = None,
    ):
        self.dtype = dtype
        self.device = device
        self.trust_remote_code = trust_remote_code
        self.quantise_4bit = quantise_4bit
        self.chat_template = chat_template
        self.limits = limits
        self._base: str | None = None
        self._loaded: LoadedModel | None = None

    def responder(self, name: str) -> LocalResponder:
        """The responder of a model or adapter, by directory or hub id; raises HoldfastError where it cannot load.

        An adapter speaks through its own tokenizer and chat template, where it has them.
        """
        shared = _shared_base(name)
        tokenizer = load_tokenizer(
            name, chat_template=self.chat_template, trust_remote_code=self.trust_remote_code
        )
        chat = ChatFormat(tokenizer)  # before the weights: what is wrong with the template is told at once
        loaded = self._load(name if shared is None else shared, chat)
        adapter = loaded.attach(name) if shared is not None else loaded.own_adapter
        return LocalResponder(loaded, adapter=adapter, chat=chat.of_model(loaded.model), limits=self.limits)

    def _load(self, name: str, chat: ChatFormat) -> LoadedModel:
        if self._loaded is None or self._base != _identity(name):
            self._loaded = None
            gc.collect()  # the model before has reference cycles, and both may not fit
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            load = partial(
                load_model,
                dtype=self.dtype,
                device=self.device,
                trust_remote_code=self.trust_remote_code,
                quantise_4bit=self.quantise_4bit,
            )
            self._loaded = LoadedModel(load(name), chat, base=name, load=load)
            self._base = _identity(name)
        return self._loaded


def _shared_base(name: str) -> str | None:
    """The base that an adapter shares with others; None for a model, and for an adapter with its own embeddings."""
    base = adapter_base(name)
    return None if base is None or brings_embeddings(name) else base


def grouped_by_base(names: Sequence[str]) -> list[str]:
    """The names with those of one base side by side, otherwise in their order."""
    bases = [_identity(_shared_base(name) or name) for name in names]
    return [names[index] for index in sorted(range(len(names)), key=lambda index: bases.index(bases[index]))]


def _identity(base: str) -> str:
    """The same for two spellings of one directory."""
    return str(Path(base).resolve()) if Path(base).exists() else base
