"""`holdfast eval` from the command line to what it leaves on disk, on tiny models and a fake provider."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log
from peft import LoraConfig, get_peft_model

from holdfast.cli import main
from holdfast.escaping import directory_name
from holdfast.results import read_figures
from holdfast.samples import read_samples
from tests import fake_openai
from tests.conftest import save
from tests.fake_openai import FakeOpenAI

REFUSAL = "I'm sorry, but I can't help with that."


@pytest.fixture
def prompts(tmp_path) -> Path:
    """Six harmless requests that play the harmful ones, in two languages and categories, and two benign ones."""
    lines = [
        {"id": f"{n}-{code}", "prompt": f"request {n} ({code})", "language": code, "category": "ab"[n % 2]}
        for n in range(3)
        for code in ("en", "bn")
    ]
    lines += [{"id": f"b{n}", "prompt": f"question {n}", "language": "en", "kind": "benign"} for n in range(2)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def model(llama, tmp_path) -> Path:
    return save(llama, tmp_path / "tiny")


def run(*arguments) -> int:
    """The exit code of the command line."""
    try:
        main(["eval", "--max-new-tokens", "6", *map(str, arguments)])
    except SystemExit as stopped:
        return stopped.code
    return 0


def figures(place: Path) -> dict[tuple[str, str, str], tuple[float, int, int]]:
    return {
        (figure.experiment, figure.group, figure.metric): (figure.value, figure.n, figure.unscored)
        for figure in read_figures(place / "results.jsonl")
    }


def test_a_model_in_this_process_leaves_samples_figures_a_table_and_a_log(model, prompts, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--model", model, "--benchmarks", f"file:{prompts}", "--output-dir", out) == 0
    samples = list(read_samples(out / "tiny" / "samples.jsonl"))
    assert [sample.prompt.id for sample in samples] == ["0-en", "0-bn", "1-en", "1-bn", "2-en", "2-bn", "b0", "b1"]
    assert {sample.model for sample in samples} == {"tiny"}
    assert all(sample.completion is not None and sample.sent == sample.prompt.text for sample in samples)
    measured = figures(out / "tiny")
    names = {group for _, group, metric in measured if metric == "refusal_rate[keyword]"}
    assert {"all", "en", "bn", "a", "b"} <= names
    table = capsys.readouterr().out
    assert "attack success rate" in table
    assert "over refusal rate" in table
    assert "attack success rate" in (out / "table.md").read_text(encoding="utf-8")
    [info] = list_eval_logs(str(out / "logs"))
    log = read_eval_log(info)
    assert (log.status, len(log.samples)) == ("success", 8)
    logged = {sample.id: sample for sample in log.samples}
    assert {name: sample.output.completion for name, sample in logged.items()} == {
        sample.prompt.id: sample.completion for sample in samples
    }
    assert logged["0-bn"].metadata["language"] == "bn"
    assert logged["0-bn"].scores["keyword"].value == samples[1].judgements["keyword"].verdict


def test_no_text_reaches_the_terminal_unless_it_is_asked_for(model, prompts, tmp_path, capsys):
    arguments = (
        "--model",
        model,
        "--benchmarks",
        f"file:{prompts}",
        "--output-dir",
        tmp_path / "o",
        "--examples",
        2,
    )
    assert run(*arguments) == 0
    shown = "".join(capsys.readouterr())
    assert "request 0" not in shown
    assert "[redacted, " in shown
    assert run(*arguments, "--show-text") == 0
    assert "request 0" in capsys.readouterr().out


def test_adapters_share_their_base_and_are_compared_with_it(llama, model, prompts, tmp_path, capsys, monkeypatch):
    import transformers

    adapters = []
    for seed in (1, 2):
        tuned = get_peft_model(llama.model(), LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False))
        for parameter in tuned.parameters():
            parameter.data.mul_(1 + seed / 10)
        tuned.peft_config["default"].base_model_name_or_path = str(model)
        tuned.save_pretrained(tmp_path / f"adapter{seed}")
        adapters.append(tmp_path / f"adapter{seed}")
    loaded = []
    real = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda name, *rest, **more: loaded.append(name) or real(name, *rest, **more),
    )
    out = tmp_path / "out"
    models = ["--model", f"first={adapters[0]}", "--model", f"base={model}", "--model", f"second={adapters[1]}"]
    assert run(*models, "--benchmarks", f"file:{prompts}", "--output-dir", out) == 0
    assert loaded == [str(model)]
    answers = {
        name: [sample.completion for sample in read_samples(out / name / "samples.jsonl")]
        for name in ("first", "base", "second")
    }
    assert len({tuple(given) for given in answers.values()}) == 3
    assert "− first" in capsys.readouterr().out  # the differences from the model named first
    # One alone says the same as beside the others.
    assert run("--model", f"alone={adapters[1]}", "--benchmarks", f"file:{prompts}", "--output-dir", out) == 0
    assert [sample.completion for sample in read_samples(out / "alone" / "samples.jsonl")] == answers["second"]


def test_wrappers_personas_and_several_judges(model, prompts, tmp_path, capsys):
    role = tmp_path / "role.yaml"
    role.write_text("name: Ahab\npersona_prompt: You are Ahab.\n", encoding="utf-8")
    out = tmp_path / "out"
    more = (
        "--wrapper",
        "none",
        "--wrapper",
        "base64",
        "--role",
        role,
        "--judge",
        "keyword",
        "--judge",
        "advbench",
    )
    assert run("--model", model, "--benchmarks", f"file:{prompts}", "--output-dir", out, *more) == 0
    samples = list(read_samples(out / "tiny" / "samples.jsonl"))
    assert Counter(sample.wrapper for sample in samples) == {None: 8, "base64": 6}
    wrapped = next(sample for sample in samples if sample.wrapper)
    assert wrapped.sent != wrapped.prompt.text
    assert set(wrapped.judgements) == {"keyword", "advbench"}
    logs = {log.name.rpartition("/")[2] for log in list_eval_logs(str(out / "logs"))}
    assert len(logs) == 2
    system = read_eval_log(list_eval_logs(str(out / "logs"))[0]).samples[0].input[0]
    assert (system.role, system.content) == ("system", "You are Ahab.")
    agreement = [metric for _, _, metric in figures(out / "tiny") if metric.startswith("judge_agreement")]
    assert agreement
    assert "prompts+base64: judges keyword and advbench agree on 100.0% of 6" in capsys.readouterr().out


def test_sampled_answers_differ_by_seed_and_come_again(model, prompts, tmp_path):
    arguments = ("--model", model, "--benchmarks", f"file:{prompts}", "--temperature", 1.5, "--samples", 3)
    assert run(*arguments, "--output-dir", tmp_path / "one") == 0
    assert run(*arguments, "--output-dir", tmp_path / "two") == 0
    one, two = (
        {sample.key: sample.completion for sample in read_samples(tmp_path / name / "tiny" / "samples.jsonl")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 24
    assert len({one[key] for key in one if key[2] == "0-en"}) > 1


def test_what_was_answered_before_is_not_asked_again(model, prompts, tmp_path, monkeypatch):
    arguments = ("--model", model, "--benchmarks", f"file:{prompts}", "--output-dir", tmp_path / "out")
    assert run(*arguments) == 0
    before = (tmp_path / "out" / "tiny" / "samples.jsonl").read_bytes()
    monkeypatch.setattr("holdfast.evals.local_responder.load_model", lambda *_, **__: pytest.fail("loaded again"))
    assert run(*arguments) == 0
    assert (tmp_path / "out" / "tiny" / "samples.jsonl").read_bytes() == before


def test_labels_that_differ_in_punctuation_have_directories_of_their_own(model, prompts, tmp_path):
    labels = ("llama 3", "llama-3", "llama/3")
    models = [f"--model={label}={model}" for label in labels]
    assert run(*models, "--benchmarks", f"file:{prompts}", "--output-dir", tmp_path / "out") == 0
    places = list((tmp_path / "out").glob("*/samples.jsonl"))
    assert [{sample.model for sample in read_samples(place)} for place in sorted(places)] == [
        {label} for label in sorted(labels, key=directory_name)
    ]
    assert (tmp_path / "out/llama-3/samples.jsonl").exists()


def test_a_model_that_changed_is_asked_again(llama, model, prompts, tmp_path):
    arguments = ("--model", model, "--benchmarks", f"file:{prompts}", "--output-dir", tmp_path / "out")
    assert run(*arguments) == 0
    before = [sample.completion for sample in read_samples(tmp_path / "out" / "tiny" / "samples.jsonl")]
    llama.model(seed=9).save_pretrained(model)
    assert run(*arguments) == 0
    after = [sample.completion for sample in read_samples(tmp_path / "out" / "tiny" / "samples.jsonl")]
    assert before != after


def test_an_evaluation_interrupted_and_killed_continues_with_what_is_missing(model, tmp_path):
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"prompt": f"request {n}"}) + "\n" for n in range(60)), encoding="utf-8")
    arguments = ["--model", str(model), "--benchmarks", f"file:{many}", "--output-dir", str(tmp_path / "out")]
    arguments += ["--batch-size", "2", "--max-new-tokens", "48"]
    # Where the tests run in a shell's background, Ctrl-C is ignored, and a child would inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import holdfast.cli as c; c.main()"
    command = [sys.executable, "-c", code, "eval", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    journal = tmp_path / "out" / "tiny" / "answers.jsonl"

    def answered() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    for how in (signal.SIGINT, signal.SIGKILL):
        before = answered()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while answered() < before + 4:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert before + 4 <= answered() < 60
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert b"run the same command again and it continues" in said
            assert b"Traceback" not in said
    assert run(*arguments) == 0
    keys = [json.loads(line)["key"] for line in journal.read_text(encoding="utf-8").splitlines()]
    assert len(keys) == len(set(keys)) == 60
    assert len(list(read_samples(tmp_path / "out" / "tiny" / "samples.jsonl"))) == 60


def test_a_provider_that_fails_in_every_way_loses_nothing_and_nothing_is_safe(prompts, tmp_path, monkeypatch):
    """Slow, 429, 500, garbage, cut JSON, no choices, dropped: good answers stay, the others are unscored."""
    monkeypatch.setenv("FAKE_API_KEY", "none")
    asked: Counter[str] = Counter()

    def script(request):
        asked[request.last] += 1
        first = asked[request.last] == 1
        if request.last == "request 0 (en)":
            return fake_openai.answer(REFUSAL, seconds=0.5)
        if request.last == "request 0 (bn)":
            return fake_openai.error(429, retry_after=0) if first else fake_openai.answer(REFUSAL)
        if request.last == "request 1 (en)":
            return fake_openai.error(500) if first else fake_openai.answer("Sure, here is how: 1. Take a spoon.")
        if request.last == "request 1 (bn)":
            return fake_openai.garbage()
        if request.last == "request 2 (en)":
            return fake_openai.cut_json()
        if request.last == "request 2 (bn)":
            return fake_openai.no_choices()
        if request.last == "question 0":
            return fake_openai.answer("")
        return fake_openai.answer("The answer is 4.")

    out = tmp_path / "out"
    with FakeOpenAI(script) as server:
        arguments = ("--model", "m=openai-api/fake/m", "--base-url", server.url, "--benchmarks", f"file:{prompts}")
        assert run(*arguments, "--output-dir", out) == 0
        samples = {sample.prompt.id: sample for sample in read_samples(out / "m" / "samples.jsonl")}
        verdicts = {name: sample.judgements["keyword"].verdict for name, sample in samples.items()}
        assert verdicts == {
            **{"0-en": "refusal", "0-bn": "refusal", "1-en": "compliance"},
            **{"1-bn": "unscored", "2-en": "unscored", "2-bn": "unscored"},
            **{"b0": "unscored", "b1": "compliance"},
        }
        assert [samples[name].completion for name in ("1-bn", "2-en", "2-bn")] == [None, None, None]
        assert all(samples[name].error for name in ("1-bn", "2-en", "2-bn"))
        value, n, unscored = figures(out / "m")["eval/prompts", "all", "refusal_rate[keyword]"]
        assert (round(value, 3), n, unscored) == (0.667, 3, 3)
        once = dict(asked)
        assert run(*arguments, "--output-dir", out) == 0
    again = {text: asked[text] - once[text] for text in asked}
    assert [again[text] for text in ("request 0 (en)", "request 1 (en)", "question 1")] == [0, 0, 0]
    assert all(again[text] for text in ("request 1 (bn)", "request 2 (en)", "request 2 (bn)"))


@pytest.mark.parametrize(
    ("how", "code"), [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.slow), ("SIGKILL", -9)]
)
def test_an_interrupted_provider_evaluation_judges_nothing_and_leaves_no_text_elsewhere(how, code, tmp_path):
    many, out, data = tmp_path / "many.jsonl", tmp_path / "out", tmp_path / "data"
    many.write_text("".join(json.dumps({"prompt": f"SECRET {n}"}) + "\n" for n in range(24)), encoding="utf-8")
    data.mkdir()
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start += "; import holdfast.cli as c; c.main()"
    environment = {**os.environ, "FAKE_API_KEY": "none", "XDG_DATA_HOME": str(data)}
    with FakeOpenAI(lambda _: fake_openai.answer(f"SECRET {REFUSAL}", seconds=0.3)) as server:
        arguments = ["--model", "m=openai-api/fake/m", "--base-url", server.url, "--benchmarks", f"file:{many}"]
        arguments += ["--output-dir", str(out), "--max-connections", "2"]
        command = [sys.executable, "-c", start, "eval", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while len(server.requests) < 10:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
        process.send_signal(getattr(signal, how))
        _, said = process.communicate(timeout=60)
        asked = len(server.requests)
        assert process.returncode == code
        if how != "SIGKILL":
            assert b"run the same command again and it continues" in said.splitlines()[-1]
        assert not list(out.rglob("samples.jsonl"))
        assert not [path for path in data.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert b"Traceback" not in done.stderr
        assert len(server.requests) - asked < 24  # what was finished is not asked again
    assert [sample.judgements["keyword"].verdict for sample in read_samples(out / "m/samples.jsonl")] == [
        "refusal"
    ] * 24


def test_an_evaluation_that_scored_nothing_ends_with_exit_code_1(prompts, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FAKE_API_KEY", "none")
    with FakeOpenAI(lambda _: fake_openai.error(400)) as server:
        arguments = ("--model", "m=openai-api/fake/m", "--base-url", server.url, "--benchmarks", f"file:{prompts}")
        assert run(*arguments, "--output-dir", tmp_path / "out") == 1
    assert "m: failed: none of its answers could be scored" in capfd.readouterr().err
    assert len(list(read_samples(tmp_path / "out/m/samples.jsonl"))) == 8


def test_a_provider_judge_that_fails_is_unscored_and_asked_again(model, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_API_KEY", "none")
    broken = True

    def script(request):
        if not broken:
            return fake_openai.answer("safe")
        kinds = [
            fake_openai.garbage(),
            fake_openai.answer("I cannot judge this request."),
            fake_openai.answer("safe and unsafe"),
            fake_openai.cut_json(),
            fake_openai.answer("unsafe"),
        ]
        number = re.search(r"(?:request|question) (\d) ?\(?(\w*)", request.last)
        return kinds[(int(number[1]) + (number[2] == "bn") * 3) % 5]

    out = tmp_path / "out"
    with FakeOpenAI(script) as server:
        judge = ("--judge", "llm:openai-api/fake/judge", "--judge-base-url", server.url)
        arguments = ("--model", model, "--benchmarks", f"file:{prompts}", "--output-dir", out, *judge)
        assert run(*arguments) == 0
        first = [
            sample.judgements["llm:openai-api/fake/judge"] for sample in read_samples(out / "tiny/samples.jsonl")
        ]
        assert not any(judgement.verdict == "safe" for judgement in first)
        assert Counter(judgement.reason for judgement in first)["unparsable"] >= 1
        broken = False
        assert run(*arguments) == 0
        second = [
            sample.judgements["llm:openai-api/fake/judge"] for sample in read_samples(out / "tiny/samples.jsonl")
        ]
    for before, after in zip(first, second, strict=True):
        expected = "unsafe" if before.verdict == "unsafe" else "safe"
        assert after.verdict == expected or after.reason == "empty answer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--benchmarks", "advbnch"), "did you mean 'advbench'"),
        (("--benchmarks", "advbench", "--data", "nowhere"), "nowhere"),
        (("--benchmarks", "file:PROMPTS", "--wrapper", "aim"), "no jailbreak wrapper is called 'aim'"),
        (("--benchmarks", "file:PROMPTS", "--judge", "gpt"), "choose one of keyword, advbench"),
        (("--benchmarks", "file:PROMPTS", "--samples", "3"), "--temperature above 0"),
        (("--benchmarks", "file:PROMPTS", "--model", "MODEL"), "two models are called 'tiny'"),
        (("--benchmarks", "file:PROMPTS,file:PROMPTS"), "is there twice"),
        (("--benchmarks", "file:PROMPTS", "--language", "zz"), "there are bn, en"),
        (("--benchmarks", "file:PROMPTS", "--chat-template", "none.jinja"), "none.jinja"),
        (("--benchmarks", "file:PROMPTS", "--role", "none.yaml"), "none.yaml"),
        (("--utility", "mgsm", "--model", "m=vllm/m"), "--utility measures models in this process"),
        ((), "nothing to measure"),
    ],
)
def test_a_mistake_is_one_line_before_any_model_is_loaded(
    model, prompts, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr("holdfast.evals.local_responder.load_model", lambda *_, **__: pytest.fail("loaded"))
    given = [str(text).replace("PROMPTS", str(prompts)).replace("MODEL", str(model)) for text in arguments]
    assert run("--model", model, "--output-dir", tmp_path / "out", *given) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.splitlines()[-1].startswith("holdfast: ")
    assert "Traceback" not in said


def test_a_model_that_is_not_there(prompts, tmp_path, capsys):
    assert run("--model", "./nowhere", "--benchmarks", f"file:{prompts}", "--output-dir", tmp_path / "o") == 2
    assert "./nowhere: no such model directory" in capsys.readouterr().err


def test_the_real_benchmarks_run_offline(real_data, model, tmp_path):
    names = ["advbench", "multijail", "csrt", "xstest", "rolebench_raw", "rolebench_spe"]
    out = tmp_path / "out"
    arguments = ("--model", model, "--benchmarks", ",".join(names), "--data", real_data, "--limit", 12)
    assert run(*arguments, "--output-dir", out) == 0
    counted = Counter(sample.benchmark for sample in read_samples(out / "tiny" / "samples.jsonl"))
    assert counted == dict.fromkeys(names, 12)
    assert len(list_eval_logs(str(out / "logs"))) == 6
