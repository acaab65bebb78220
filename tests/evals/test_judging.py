import anyio

from holdfast.evals.journal import Journal
from holdfast.evals.judges.base import Exchange
from holdfast.evals.judging import judge_all
from holdfast.samples import Judgement


class Counting:
    """Says unsafe of everything but what it fails at; `raw` as a model judge has it, or None as a rule."""

    verdicts = ("safe", "unsafe")

    def __init__(self, name="llm:m", raw="unsafe", fails=()):
        self.name, self.raw, self.fails = name, raw, fails
        self.judged = []

    async def judge(self, exchanges):
        for index, exchange in reversed(list(enumerate(exchanges))):
            self.judged.append(exchange.completion)
            failed = exchange.completion in self.fails
            yield index, Judgement("unscored", "judge failed") if failed else Judgement("unsafe", raw=self.raw)


def exchanges(*completions):
    return [None if text is None else Exchange("q", text, "en") for text in completions]


def run(judge, wanted, path):
    with Journal(path) as journal:
        return anyio.run(judge_all, judge, wanted, journal)


def test_an_answer_that_never_came_is_unscored_and_not_judged(tmp_path):
    judge = Counting()
    judgements = run(judge, exchanges("a", None, "b"), tmp_path / "j")
    assert [judgement.verdict for judgement in judgements] == ["unsafe", "unscored", "unsafe"]
    assert judgements[1].reason == "no answer"
    assert judge.judged == ["b", "a"]


def test_verdicts_of_a_model_are_kept_and_failures_tried_again(tmp_path):
    first = run(Counting(fails="a"), exchanges("a", "b"), tmp_path / "j")
    assert first[0] == Judgement("unscored", "judge failed")
    judge = Counting()
    assert [j.verdict for j in run(judge, exchanges("a", "b"), tmp_path / "j")] == ["unsafe", "unsafe"]
    assert judge.judged == ["a"]


def test_rules_are_applied_anew(tmp_path):
    run(Counting(raw=None), exchanges("a"), tmp_path / "j")
    judge = Counting(raw=None)
    run(judge, exchanges("a"), tmp_path / "j")
    assert judge.judged == ["a"]


def test_two_judges_do_not_share_verdicts(tmp_path):
    run(Counting("llm:one"), exchanges("a"), tmp_path / "j")
    judge = Counting("llm:two")
    run(judge, exchanges("a"), tmp_path / "j")
    assert judge.judged == ["a"]


def test_another_model_in_the_judges_directory_judges_anew(tmp_path):
    directory = tmp_path / "judge"
    directory.mkdir()
    (directory / "config.json").write_text("{}", encoding="utf-8")
    judge = Counting()
    judge.model = str(directory)
    for _ in ("first", "again"):
        run(judge, exchanges("a"), tmp_path / "j")
    assert judge.judged == ["a"]
    (directory / "config.json").write_text("[]", encoding="utf-8")
    run(judge, exchanges("a"), tmp_path / "j")
    assert judge.judged == ["a", "a"]
