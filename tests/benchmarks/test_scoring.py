import pytest

from benchmarks import scoring
from benchmarks.step_models import StepOptions, llama
from holdfast.chat import ChatFormat
from holdfast.data.roles import UNSAFE_SUFFIX, Role
from holdfast.data.rows import Message, RoleRow, RoleRows


def made_role(rows):
    texts = [("Who are you?", "I am the keeper of the sea."), ("Why?", "The storm is my brother, and so I stay.")]
    made = tuple(
        RoleRow((Message("user", question), Message("assistant", answer)), f"row {index}")
        for index, (question, answer) in enumerate((texts * rows)[:rows])
    )
    return scoring.RoleCase(
        Role("keeper", "You keep a light.", f"You keep a light. {UNSAFE_SUFFIX}"), RoleRows(made, "")
    )


def test_both_ways_flag_the_same_rows_in_the_same_order():
    case = made_role(7)
    chat = ChatFormat(scoring.bpe_tokenizer([case], 400))
    model = llama(StepOptions(hidden=32, layers=1), 400).eval()
    for parameter in model.parameters():
        parameter.data.mul_(8)
    own = scoring.own_flags(model, chat, case)
    assert len(own) == 7
    assert scoring.published_flags(model, chat, case, seed=1) == own
    figures = scoring.measure(model, chat, [case, case])
    assert (figures["rows"], figures["roles"], figures["flagged_alike"]) == (14, 2, 1.0)
    assert figures["flagged_share"] == pytest.approx(sum(own) / 7, abs=1e-4)


def test_the_real_rows_are_4750_of_95_roles(real_data):
    cases = scoring.real_roles(real_data)
    assert len(cases) == 95
    assert {len(case.rows) for case in cases} == {50}
    assert all(case.role.unsafe_prompt.endswith(UNSAFE_SUFFIX[-40:]) for case in cases)


def test_real_roles_are_compared_and_the_last_line_holds_the_ratio(run, real_data):
    tiny = ("--roles", "1", "--hidden", "32", "--layers", "1", "--vocab", "1000")
    printed, figures = run(scoring.main, "--data", str(real_data), *tiny)
    measured = figures["scoring"]
    assert printed.startswith("50 rows of 1 of 95 roles")
    assert (measured["rows"], measured["roles"]) == (50, 1)
    seconds = measured["seconds"]
    assert measured["published_over_ours"] == pytest.approx(seconds["published"] / seconds["ours"], rel=0.1)


def test_missing_data_are_named(run, tmp_path):
    with pytest.raises(SystemExit, match="give the folder of real data with --data"):
        run(scoring.main, "--data", str(tmp_path))
