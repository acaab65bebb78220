"""Which judge a few characters ask for: `keyword`, `llm:openai/gpt-4o-mini`, `guard:hf/Qwen/Qwen3Guard-Gen-0.6B`."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.evals.judges.base import Judge
from holdfast.evals.judges.classifier import ClassifierJudge, Reads
from holdfast.evals.judges.guard import Controversial, GuardStyle, LocalGuard
from holdfast.evals.judges.labels import parse_label_map
from holdfast.evals.judges.llm import REFUSAL, SAFETY, LabelStyle
from holdfast.evals.judges.model_judge import ModelJudge
from holdfast.evals.judges.phrases import PhraseJudge
from holdfast.evals.judges.refusal import RefusalJudge
from holdfast.evals.model_names import in_process_name
from holdfast.evals.responders import Answer, Decoding, Responder

SPECS = (
    "keyword, advbench, llm:MODEL (safe, unsafe, invalid), refusal:MODEL (XSTest's classes), guard:MODEL, "
    "classifier:MODEL, phrases:FILE (a refusal phrase a line); MODEL is a directory, hf/OWNER/NAME, or a model of "
    "inspect_ai such as openai/gpt-4o-mini"
)
_STYLES: dict[str, LabelStyle] = {"llm": SAFETY, "refusal": REFUSAL}


@dataclass(frozen=True)
class JudgeSettings:
    """What the judges of one run share. `base_url` is the endpoint's, where the environment does not say."""

    max_connections: int = 8
    max_new_tokens: int = 512
    max_retries: int = 5
    attempt_timeout: int = 120
    base_url: str | None = None
    api_key: str | None = None
    controversial: Controversial = "unsafe"
    classifier_labels: tuple[str, ...] = ()
    classifier_reads: Reads = "completion"
    batch_size: int = 16
    trust_remote_code: bool = False


def make_judge(spec: str, settings: JudgeSettings | None = None) -> Judge:
    """The judge that `spec` names; raises HoldfastError where there is none such.

    Models in this process are loaded when they are first needed; a directory that is missing is told at once. The
    judge's name is the spec, with the settings that change its verdicts where they are not the defaults.
    """
    settings = settings or JudgeSettings()
    if spec in ("keyword", "advbench"):
        return RefusalJudge() if spec == "keyword" else RefusalJudge(preset="advbench")
    kind, _, model = spec.partition(":")
    if not model or kind not in (*_STYLES, "phrases", "guard", "classifier"):
        raise HoldfastError(f"--judge {spec!r:.80}: no such judge; choose one of {SPECS}")
    if kind == "phrases":
        return PhraseJudge(Path(model), spec)
    if kind == "classifier":
        return _classifier(spec, in_process_name(model) or model, settings)
    if kind == "guard":
        strict = settings.controversial == "unsafe"
        name = spec if strict else f"{spec} (controversial: {settings.controversial})"
        responder = _responder(model, settings, LocalGuard)
        return ModelJudge(
            name,
            GuardStyle(settings.controversial),
            responder,
            max_new_tokens=settings.max_new_tokens,
            model=in_process_name(model),
        )
    responder = _responder(model, settings, _local_responder)
    return ModelJudge(
        spec,
        _STYLES[kind],
        responder,
        max_new_tokens=settings.max_new_tokens,
        model=in_process_name(model),
    )


def _classifier(spec: str, model: str, settings: JudgeSettings) -> ClassifierJudge:
    changed: list[str] = [*settings.classifier_labels]
    if settings.classifier_reads != "completion":
        changed.append(settings.classifier_reads)
    return ClassifierJudge(
        f"{spec} ({', '.join(changed)})" if changed else spec,
        model,
        labels=parse_label_map(settings.classifier_labels, "--classifier-labels") or None,
        reads=settings.classifier_reads,
        batch_size=settings.batch_size,
        trust_remote_code=settings.trust_remote_code,
    )


def _responder(model: str, settings: JudgeSettings, in_process: Callable[..., Responder]) -> Responder:
    local = in_process_name(model)
    if local is not None:
        return _Lazy(lambda: in_process(local, trust_remote_code=settings.trust_remote_code))
    from holdfast.evals.provider_responder import ProviderResponder

    return ProviderResponder(
        model,
        max_connections=settings.max_connections,
        max_retries=settings.max_retries,
        attempt_timeout=settings.attempt_timeout,
        base_url=settings.base_url,
        api_key=settings.api_key,
    )


def _local_responder(name: str, trust_remote_code: bool) -> Responder:
    from holdfast.evals.local_responder import LocalModels

    return LocalModels(trust_remote_code=trust_remote_code).responder(name)


class _Lazy:
    """A responder that is made when it is first asked."""

    def __init__(self, make: Callable[[], Responder]):
        self.make = make
        self._made: Responder | None = None

    async def respond(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding
    ) -> AsyncIterator[tuple[int, Answer]]:
        self._made = self._made or self.make()
        async for item in self._made.respond(conversations, decoding):
            yield item
