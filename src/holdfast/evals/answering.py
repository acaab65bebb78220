"""Asking a model everything that has not been asked yet; finished answers are kept as they come."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from anyio.lowlevel import checkpoint

from holdfast.evals.journal import Journal, digest_of
from holdfast.evals.requests import Request
from holdfast.evals.responders import Answer, Decoding, Responder

Progress = Callable[[int, int], None]


async def answer_all(
    responder: Callable[[], Responder],
    model_identity: str,
    requests: Sequence[Request],
    decoding: Decoding,
    journal: Journal,
    progress: Progress = lambda done, total: None,
) -> list[Answer]:
    """An answer for each request, in order; those in the journal are not asked for again.

    Args:
        responder: gives the model; called only where something is missing, so that a finished evaluation loads none.
        model_identity: changes when the model's answers may change; part of an answer's key.
        decoding: how answers are drawn; its seed is replaced by each request's own.

    Failures are not kept: a repeated run asks for them again.
    """
    keys = [_key(model_identity, request, decoding) for request in requests]
    answers = [journal.read(key, _kept) for key in keys]
    missing = [index for index, answer in enumerate(answers) if answer is None]
    done = len(requests) - len(missing)
    progress(done, len(requests))
    if not missing:
        return [answer for answer in answers if answer is not None]
    model = responder()
    for seed in sorted({requests[index].seed for index in missing}):
        chosen = [index for index in missing if requests[index].seed == seed]
        conversations = [requests[index].messages for index in chosen]
        async for position, answer in model.respond(conversations, replace(decoding, seed=seed)):
            index = chosen[position]
            answers[index] = answer
            if answer.text is not None:
                journal.append(keys[index], asdict(answer))
            done += 1
            progress(done, len(requests))
            await checkpoint()  # where Ctrl-C gets through, in between a model's batches
    return [answer or Answer(None, "no answer came") for answer in answers]


def _key(model_identity: str, request: Request, decoding: Decoding) -> str:
    turns = [(message.speaker, message.content) for message in request.messages]
    drawn = asdict(replace(decoding, seed=request.seed if decoding.temperature > 0 else 0))
    return digest_of("answer", model_identity, turns, drawn)


def _kept(text: str, error: None = None, cut: bool = False, output_tokens: int = 0) -> Answer:
    """The answer of a journal's entry; raises TypeError or ValueError where the entry is none."""
    typed = isinstance(text, str) and error is None and isinstance(cut, bool) and type(output_tokens) is int
    if not typed or output_tokens < 0:
        raise ValueError("no answer")
    return Answer(text, error, cut, output_tokens)
