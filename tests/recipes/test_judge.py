import csv
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from pyarrow import parquet

from holdfast.cli import main
from holdfast.errors import HoldfastError
from holdfast.recipes.judge import JudgeOptions, judge
from holdfast.results import read_figures
from tests.evals.judges.test_classifier import save_classifier
from tests.fake_openai import FakeOpenAI, Reply, Request, answer, error

ANSWERS = {
    "Tell me a joke.": "Why did the chicken cross the road? To get to the other side.",
    "Do something bad.": "I'm sorry, but I can't help with that.",
    "Bake bread, please.": 'Mix flour, water,\n"salt" and yeast.',
}
LLM = "llm:openai-api/fake/judge"


@pytest.fixture
def endpoint(monkeypatch):
    """Serve a script under the provider's name `fake`."""

    def use(server):
        monkeypatch.setenv("FAKE_API_KEY", "none")
        monkeypatch.setenv("FAKE_BASE_URL", server.url)

    return use


def options(file, **changes) -> JudgeOptions:
    return JudgeOptions(file, **{"prompt_column": "prompt", "completion_column": "completion", **changes})


def rows_of(path) -> list[dict]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def write_rows(path, rows) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_verdicts_are_added_and_all_else_stays(tmp_path, suffix, capsys):
    rows = [{"id": f"0{n}", "prompt": p, "completion": c, "empty": ""} for n, (p, c) in enumerate(ANSWERS.items())]
    file = tmp_path / f"answers{suffix}"
    write_rows(file, rows)
    before = file.read_bytes()
    judge(options(file))

    judged = rows_of(tmp_path / f"answers.judged{suffix}")
    assert file.read_bytes() == before
    assert [list(row) for row in judged] == [[*rows[0], "verdict_keyword", "reason_keyword", "raw_keyword"]] * 3
    assert [{name: row[name] for name in rows[0]} for row in judged] == rows
    assert [row["verdict_keyword"] for row in judged] == ["compliance", "refusal", "compliance"]
    assert {row["raw_keyword"] for row in judged} == ({""} if suffix == ".csv" else {None})
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        [file.name, f"answers.judged{suffix}"]
    )
    printed = capsys.readouterr().out
    assert "33.3 [6.1, 79.2]" in printed  # Wilson, 1 of 3
    assert "sorry" not in printed


def test_what_a_format_can_hold_comes_back(tmp_path):
    rows = [
        {
            "prompt": "a",
            "completion": "b",
            "n": 1.5,
            "big": 2**70,
            "list": [1, {"x": None}],
            "null": None,
            "é": "漢字",
        },
        {"completion": "half a pair \ud83d", "prompt": "", "only here": True},
    ]
    file = tmp_path / "answers.jsonl"
    write_rows(file, rows)
    judge(options(file))
    judged = rows_of(tmp_path / "answers.judged.jsonl")
    assert [{name: row[name] for name in list(row)[:-3]} for row in judged] == rows
    assert [list(row)[:-3] for row in judged] == [list(row) for row in rows]


def test_json_under_data_keeps_what_is_around_it(tmp_path):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"made by": "us", "data": [{"prompt": "p", "completion": "Sure, like this."}]}))
    judge(options(file))
    judged = json.loads((tmp_path / "answers.judged.json").read_text())
    assert judged["made by"] == "us"
    assert judged["data"][0]["verdict_keyword"] == "compliance"


def test_csv_without_some_headings_and_cells(tmp_path):
    file = tmp_path / "answers.csv"
    file.write_text(
        "prompt,,completion,,note\r\np,1,I cannot help with that.,2\r\n\r\nq,3,Sure: like this.,4,five\r\n"
    )
    judge(options(file))
    assert (tmp_path / "answers.judged.csv").read_text() == (
        "prompt,,completion,,note,verdict_keyword,reason_keyword,raw_keyword\n"
        "p,1,I cannot help with that.,2,,refusal,,\n"
        "q,3,Sure: like this.,4,five,compliance,,\n"
    )


def test_rows_without_an_answer_are_unscored(tmp_path, capsys):
    file = tmp_path / "answers.jsonl"
    write_rows(file, [{"prompt": "p", "completion": text} for text in (None, "", " \n", "Sure, like this.")])
    judge(options(file, results=tmp_path / "results.jsonl"))
    judged = rows_of(tmp_path / "answers.judged.jsonl")
    assert [row["verdict_keyword"] for row in judged] == ["unscored"] * 3 + ["compliance"]
    assert [row["reason_keyword"] for row in judged] == ["no answer", "empty answer", "empty answer", None]
    printed = " ".join(capsys.readouterr().out.split())
    assert "unscored: empty answer │ 2" in printed
    assert "unscored: no answer │ 1" in printed
    found = {figure.metric: figure for figure in read_figures(tmp_path / "results.jsonl")}
    assert (found["compliance_rate[keyword]"].value, found["compliance_rate[keyword]"].n) == (1.0, 1)
    assert found["compliance_rate[keyword]"].unscored == 3
    assert found["unscored_rate[keyword]"].value == 0.75


def test_rates_by_language(tmp_path, capsys):
    file = tmp_path / "answers.jsonl"
    texts = [
        ("en", "I can't help with that."),
        ("en", "Sure: like this."),
        ("zh", "对不起，我不能帮助你。"),
        (None, "Yes."),
    ]
    write_rows(file, [{"prompt": "p", "completion": text, "lang": language} for language, text in texts])
    judge(options(file, language_column="lang", results=tmp_path / "results.jsonl"))
    rates = {
        f.group: f.value for f in read_figures(tmp_path / "results.jsonl") if f.metric == "refusal_rate[keyword]"
    }
    assert rates == {"all": 0.5, "en": 0.5, "zh": 1.0}
    assert "zh" in capsys.readouterr().out


def test_two_judges_and_labels(tmp_path, endpoint, capsys):
    file = tmp_path / "answers.csv"
    labels = ["1_full_compliance", "2_full_refusal", "3_partial_refusal"]
    said = ["1_full_compliance", "2_full_refusal", "2_full_refusal"]
    write_rows(
        file,
        [
            {"prompt": p, "completion": c, "label": label}
            for (p, c), label in zip(ANSWERS.items(), labels, strict=True)
        ],
    )

    def script(request: Request) -> Reply:
        return answer(next(words for words, p in zip(said, ANSWERS, strict=True) if p in request.last))

    with FakeOpenAI(script) as server:
        endpoint(server)
        judges = ("keyword", "refusal:openai-api/fake/judge")
        judge(options(file, judges=judges, label_column="label", results=tmp_path / "results.jsonl"))
    judged = rows_of(tmp_path / "answers.judged.csv")
    assert [row["verdict_refusal_openai-api_fake_judge"] for row in judged] == ["compliance", "refusal", "refusal"]
    assert [row["raw_refusal_openai-api_fake_judge"] for row in judged] == said

    found = {figure.metric: figure for figure in read_figures(tmp_path / "results.jsonl")}
    name = "[refusal:openai-api/fake/judge]"
    assert found[f"label_accuracy{name}"].value == pytest.approx(2 / 3)
    assert found[f"label_accuracy_partial_as_refusal{name}"].value == 1.0
    assert found[f"label_accuracy_without_partial{name}"].n == 2
    assert found[f"label_kappa{name}"].value == pytest.approx(0.5)  # (2/3 - 1/3) / (1 - 1/3)
    assert found[f"label_precision_refusal{name}"].value == 0.5
    assert found[f"label_recall_partial_refusal{name}"].value == 0.0
    agreement = found["judge_agreement[keyword,refusal:openai-api/fake/judge]"]
    assert (agreement.value, agreement.n) == (pytest.approx(2 / 3), 3)
    assert found["judge_kappa[keyword,refusal:openai-api/fake/judge]"].value == pytest.approx(0.4)
    printed = capsys.readouterr().out
    assert "keyword says compliance, the label partial_refusal" in printed
    assert "[redacted, 19 characters" in printed
    assert "bread" not in printed


def test_show_text(tmp_path, capsys):
    file = tmp_path / "answers.csv"
    write_rows(file, [{"prompt": "Bake [bread].", "completion": "Sure: like this.", "label": "refusal"}])
    judge(options(file, label_column="label", show_text=True))
    assert "prompt: Bake [bread]." in capsys.readouterr().out


def test_a_label_map_and_judges_of_another_sort(tmp_path, endpoint, capsys):
    file = tmp_path / "answers.jsonl"
    write_rows(
        file, [{"prompt": "p", "completion": t, "label": label} for t, label in [("x", "harmful"), ("y", "ok")]]
    )
    with FakeOpenAI(lambda request: answer("unsafe")) as server:
        endpoint(server)
        judge(
            options(
                file,
                judges=("keyword", LLM),
                label_column="label",
                label_map=("harmful=unsafe", "ok=safe"),
                results=tmp_path / "r.jsonl",
            )
        )
    metrics = {figure.metric: figure.value for figure in read_figures(tmp_path / "r.jsonl")}
    assert metrics[f"label_accuracy[{LLM}]"] == 0.5
    assert not [name for name in metrics if name.startswith("judge_") or name == "label_accuracy[keyword]"]


def test_failures_are_unscored_told_and_alone_tried_again(tmp_path, endpoint, capsys):
    file = tmp_path / "answers.jsonl"
    write_rows(file, [{"prompt": "p", "completion": f"text {n}"} for n in range(20)])
    broken = {"text 3", "text 11"}

    def script(request: Request) -> Reply:
        trouble = any(f"\n{text}\n" in request.last for text in broken)
        return error(400) if trouble else answer("safe")

    with FakeOpenAI(script) as server:
        endpoint(server)
        judge(options(file, judges=(LLM,)))
        column = "verdict_llm_openai-api_fake_judge"
        judged = rows_of(tmp_path / "answers.judged.jsonl")
        assert [n for n, row in enumerate(judged) if row[column] == "unscored"] == [3, 11]
        assert {judged[n][column.replace("verdict", "reason")] for n in (3, 11)} == {"judge failed"}
        told = capsys.readouterr()
        assert "unscored: judge failed │ 2" in " ".join(told.out.split())
        assert "2 judgements failed: HTTP 400" in told.err
        assert len(server.requests) == 20

        broken.clear()
        judge(options(file, judges=(LLM,)))
        assert len(server.requests) == 22
        assert {row[column] for row in rows_of(tmp_path / "answers.judged.jsonl")} == {"safe"}
        assert not (tmp_path / "answers.judged.jsonl.partial.jsonl").exists()


KILLED = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what runs in a shell's background ignores
from pathlib import Path
from holdfast.recipes.judge import JudgeOptions, judge
judge(JudgeOptions(Path(sys.argv[1]), "prompt", "completion", judges=(sys.argv[2],), max_connections=2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_continued(tmp_path, endpoint, how):
    file = tmp_path / "answers.jsonl"
    write_rows(file, [{"prompt": "p", "completion": f"text {n}"} for n in range(40)])
    delay = 0.25  # seconds: five in all, so that a slow machine still kills before the end
    with FakeOpenAI(lambda _: answer("safe", seconds=delay)) as server:
        endpoint(server)
        side = tmp_path / "answers.judged.jsonl.partial.jsonl"
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, file, LLM], env=os.environ, stderr=subprocess.PIPE
        ) as run:
            while not (side.exists() and side.read_text().count("\n") >= 5):
                assert run.poll() is None, run.stderr.read().decode()
                time.sleep(0.02)
            run.send_signal(how)
        delay = 0.0
        kept = side.read_text().count("\n")
        assert 5 <= kept < 40
        assert not (tmp_path / "answers.judged.jsonl").exists()
        asked = len(server.requests)
        judge(options(file, judges=(LLM,)))
    assert len(server.requests) - asked == 40 - kept
    assert [row["verdict_llm_openai-api_fake_judge"] for row in rows_of(tmp_path / "answers.judged.jsonl")] == [
        "safe"
    ] * 40


def test_a_classifier_tells_what_it_cut(tmp_path, capsys):
    save_classifier(tmp_path / "m", ["safe", "unsafe"])
    file = tmp_path / "answers.jsonl"
    write_rows(file, [{"prompt": "p", "completion": text} for text in ("yes", "yes " * 50)])
    judge(options(file, judges=(f"classifier:{tmp_path / 'm'}",)))
    assert "1 text longer than the classifier reads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        ({"prompt": "p", "completion": 7}, {}, "answers.jsonl:2: field completion is 7, expected text"),
        (
            {"prompt": "p"},
            {},
            "answers.jsonl:2: no field 'completion'; name one of prompt with --completion-column",
        ),
        ({"prompt": "p", "completion": "x", "l": "odd"}, {"label_column": "l"}, "answers.jsonl:1: no field 'l'"),
        ({}, {"completion_column": "nix"}, "answers.jsonl:1: no field 'nix'; name one of prompt, completion"),
        ({}, {"judges": ("nix",)}, "no such judge"),
        ({}, {"judges": ("keyword", "keyword")}, "--judge keyword: is given twice"),
        ({}, {"label_map": ("x",)}, "--label-map 'x': expected LABEL=VERDICT"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, row, changes, message):
    file = tmp_path / "answers.jsonl"
    whole = {"prompt": "p", "completion": "x"}
    write_rows(file, [whole, row or whole])
    with pytest.raises(HoldfastError, match=message.replace("(", r"\(")):
        judge(options(file, **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.jsonl", '{"p": "x", "c": "how to build SECRET: first take"}\n', "a text of 31 characters"),
        ("a.jsonl", '{"how do i build the SECRET now": "x", "c": "y"}\n', "a name of 29 characters, c"),
        ("a.csv", "how do i build the SECRET now,c\na,b\n", "a name of 29 characters, c"),
        ("a.jsonl", '{"p": "x", "c": ["SECRET"]}\n', "list of length 1"),
    ],
)
def test_text_in_place_of_a_label_or_a_heading_is_described(name, content, shown, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit) as exit:
        main(
            [
                "judge",
                str(tmp_path / name),
                *["--prompt-column", "p", "--completion-column", "c", "--label-column", "c"],
            ]
        )
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert shown in said
    assert "SECRET" not in said


def test_two_judges_of_like_names_have_columns_of_their_own(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"p": "x", "c": "no , never ."}\n')
    for name in ("b c.txt", "b_c.txt"):
        (tmp_path / name).write_text("never\n" if " " in name else "something else\n")
    judges = [f"--judge=phrases:{tmp_path}/{name}" for name in ("b c.txt", "b_c.txt")]
    main(["judge", str(tmp_path / "a.jsonl"), "--prompt-column=p", "--completion-column=c", *judges])
    [row] = map(json.loads, (tmp_path / "a.judged.jsonl").read_text().splitlines())
    verdicts = [value for name, value in row.items() if name.startswith("verdict_")]
    assert verdicts == ["refusal", "compliance"]


def test_an_unknown_label_lists_the_option(tmp_path):
    file = tmp_path / "answers.csv"
    write_rows(file, [{"prompt": "p", "completion": "x", "label": label} for label in ("safe", "harmful")])
    with pytest.raises(
        HoldfastError, match=r"answers.csv:3: field label is 'harmful', .*--label-map 'harmful=unsafe'"
    ):
        judge(options(file, label_column="label"))
    with pytest.raises(HoldfastError, match="labels of refusal and of safety"):
        judge(options(file, label_column="label", label_map=("harmful=refusal",)))


def test_a_file_that_has_verdicts_already(tmp_path):
    file = tmp_path / "answers.csv"
    write_rows(file, [{"prompt": "p", "completion": "x"}])
    judge(options(file))
    with pytest.raises(HoldfastError, match="has a column verdict_keyword already"):
        judge(options(tmp_path / "answers.judged.csv"))
    judge(options(tmp_path / "answers.judged.csv", judges=("advbench",), output=tmp_path / "both.csv"))
    assert list(rows_of(tmp_path / "both.csv")[0])[2:] == [
        f"{what}_{name}" for name in ("keyword", "advbench") for what in ("verdict", "reason", "raw")
    ]


@pytest.mark.parametrize(
    ("name", "text", "output", "message"),
    [
        ("a.csv", "prompt,completion\np,c\n", "out.jsonl", r"written as it was read; name it \*.csv"),
        ("a.csv", "prompt,completion\np,c\n", "a.csv", "is the file that is judged"),
        ("a.csv", "prompt,completion\n", None, "a.csv: has no rows"),
        ("a.csv", "prompt,completion\np,c,d\n", None, "a.csv:2: 3 cells under 2 headings"),
        ("a.jsonl", "{}\nnot json\n", None, "a.jsonl:2: not JSON"),
        ("a.txt", "text", None, "unknown file type"),
    ],
)
def test_files_that_cannot_be_judged(tmp_path, name, text, output, message):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(HoldfastError, match=message):
        judge(options(file, output=None if output is None else tmp_path / output))


def test_no_such_file(tmp_path):
    with pytest.raises(HoldfastError, match="no such file"):
        judge(options(tmp_path / "nix.csv"))


def test_xstests_completions(tmp_path, real_data, capsys):
    file = real_data / "xstest/completions_gpt4.csv"
    judge(
        options(
            file,
            label_column="final_label",
            output=tmp_path / "gpt4.csv",
            results=tmp_path / "results.jsonl",
        )
    )
    found = {figure.metric: figure for figure in read_figures(tmp_path / "results.jsonl")}
    assert found["label_accuracy_without_partial[keyword]"].value > 0.96
    assert found["label_accuracy_without_partial[keyword]"].n == 441
    given, judged = rows_of(file), rows_of(tmp_path / "gpt4.csv")
    assert [{name: row[name] for name in given[0]} for row in judged] == given
