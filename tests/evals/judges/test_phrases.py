"""`phrases:FILE`: refusals by a user's own list."""

import anyio
import pytest

from holdfast.errors import HoldfastError
from holdfast.evals.judges.base import Exchange
from holdfast.evals.judges.spec import make_judge


def verdicts(path, answers) -> list[tuple[str, str | None]]:
    judge = make_judge(f"phrases:{path}")

    async def collect():
        exchanges = [Exchange("how?", answer) for answer in answers]
        return [(found.verdict, found.reason) async for _, found in judge.judge(exchanges)]

    return anyio.run(collect)


def test_an_answer_with_a_phrase_refuses(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeff# what our model says\n\n  I must refuse \n我 拒绝\n", encoding="utf-8")
    assert verdicts(
        path,
        [
            "arr , i MUST  refuse , that is wrong .",
            "i must refuser",  # inside a word is no phrase
            "take a rope . # what our model says",
            "这 会 伤害 别人 ， 我 拒绝 。",
            "<think>i must refuse</think> take a rope .",
            " ... ",
        ],
    ) == [
        ("refusal", None),
        ("compliance", None),
        ("compliance", None),
        ("refusal", None),
        ("compliance", None),
        ("unscored", "empty answer"),
    ]


def test_its_name_is_its_spec(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_text("no\n", encoding="utf-8")
    judge = make_judge(f"phrases:{path}")
    assert (judge.name, judge.verdicts) == (f"phrases:{path}", ("refusal", "compliance"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such file"), (b"\xff\xfe", "not UTF-8"), (b"# only a comment\n\n", "holds no phrase")],
)
def test_a_file_without_phrases_is_told(tmp_path, content, problem):
    path = tmp_path / "phrases.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HoldfastError, match=rf"phrases\.txt:.*{problem}"):
        make_judge(f"phrases:{path}")


def test_a_file_must_be_named():
    with pytest.raises(HoldfastError, match="phrases:FILE"):
        make_judge("phrases:")
