"""Judging what was answered; what a model judge said is kept as it comes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from holdfast.evals.answering import Progress
from holdfast.evals.journal import Journal, digest_of
from holdfast.evals.judges.base import Exchange, Judge
from holdfast.evals.model_names import identity_of
from holdfast.samples import Judgement, Verdict

NO_ANSWER = Judgement("unscored", "no answer")


async def judge_all(
    judge: Judge,
    exchanges: Sequence[Exchange | None],
    journal: Journal,
    progress: Progress = lambda done, total: None,
) -> list[Judgement]:
    """A judgement for each exchange, in order; None stands for an answer that never came.

    What a model said (`raw`) is kept in the journal and not asked for again, unless it could not judge. Rules are
    quick and may change, so they are applied anew.
    """
    identity = _identity(judge)
    keys = [None if exchange is None else _key(identity, exchange) for exchange in exchanges]
    judgements = [NO_ANSWER if key is None else journal.read(key, _kept) for key in keys]
    missing = [index for index, judgement in enumerate(judgements) if judgement is None]
    done = len(exchanges) - len(missing)
    progress(done, len(exchanges))
    wanted = [exchange for index in missing if (exchange := exchanges[index]) is not None]
    async for position, judgement in judge.judge(wanted):
        index = missing[position]
        judgements[index] = judgement
        key = keys[index]
        if judgement.raw is not None and judgement.verdict != "unscored" and key is not None:
            journal.append(key, asdict(judgement))
        done += 1
        progress(done, len(exchanges))
    return [judgement or Judgement("unscored", "judge failed") for judgement in judgements]


def _identity(judge: Judge) -> list[str]:
    """The judge's name and, where its model is a directory, what is in it."""
    model = getattr(judge, "model", None)
    return [judge.name, identity_of(model)] if model and Path(model).is_dir() else [judge.name]


def _key(identity: list[str], exchange: Exchange) -> str:
    return digest_of("judgement", identity, exchange.prompt, exchange.completion, exchange.language)


def _kept(verdict: Verdict, reason: str | None = None, raw: str | None = None) -> Judgement:
    """The judgement of a journal's entry; raises TypeError or ValueError where the entry is none."""
    typed = isinstance(raw, str) and (reason is None or isinstance(reason, str))
    if not typed or verdict not in get_args(Verdict) or verdict == "unscored":
        raise ValueError("no judgement")
    return Judgement(verdict, reason, raw)
