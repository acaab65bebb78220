"""Malformed model directories, templates and adapters: one line, exit code 2, and nothing measured."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from holdfast.chat import ChatFormat
from holdfast.cli import main
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.evals.local_responder import LocalModels
from holdfast.model_files import loading
from holdfast.models import LoraSettings, add_lora, load_model, load_tokenizer
from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.test_cli_errors import GOOD_ROW, write_rows

TEMPLATE = ARCHITECTURES["llama3"].template


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a model, two adapters on it, rows and a role; tests work on copies."""
    place = tmp_path_factory.mktemp("models")
    save(ARCHITECTURES["llama3"], place / "model")
    adapted = add_lora(load_model(str(place / "model"), device="cpu"), LoraSettings(rank=2))
    adapted.save_pretrained(place / "adapter")
    config = place / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "../model"}))
    write_rows(place / "rows.jsonl", *[GOOD_ROW] * 4)
    (place / "role.yaml").write_text("name: Ahab\npersona_prompt: You are Ahab.\n")
    return place


@pytest.fixture
def place(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "place"))


def edit(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_weights(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def drop(tensors: dict, part: str) -> None:
    for name in [name for name in tensors if part in name]:
        del tensors[name]


def lie_about_length(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])


def as_pickle(path: Path, name: str) -> None:
    path.unlink()
    (path.parent / name).write_bytes(pickle.dumps({"a": 1}))


def as_index(path: Path, content: str) -> None:
    path.unlink()
    (path.parent / "model.safetensors.index.json").write_text(content)


def as_encoder(model: Path) -> None:
    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertForMaskedLM(config).save_pretrained(model)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


W = "model.safetensors"
A = "adapter_model.safetensors"
BROKEN_MODELS = {
    "config is a list": (lambda m: (m / "config.json").write_text("[]"), "config.json: holds a list"),
    "config is deep": (lambda m: (m / "config.json").write_text("[" * 100_000), "config.json:1: not JSON"),
    "config is cut": (lambda m: (m / "config.json").write_text("{"), "config.json:1: not JSON"),
    "config is latin-1": (lambda m: (m / "config.json").write_bytes(b'{"a": "\xe9"}'), "not UTF-8"),
    "config is missing": (lambda m: (m / "config.json").unlink(), "no config.json"),
    "config is a pipe": (lambda m: as_pipe(m / "config.json"), "no regular file"),
    "no heads": (lambda m: edit(m / "config.json", num_attention_heads=0), "cannot load"),
    "heads are text": (lambda m: edit(m / "config.json", num_attention_heads="four"), "cannot load"),
    "unknown type": (lambda m: edit(m / "config.json", model_type="zzz"), "cannot load"),
    "type is a number": (lambda m: edit(m / "config.json", model_type=5), "cannot load"),
    "negative size": (lambda m: edit(m / "config.json", hidden_size=-32), "cannot load"),
    "small vocabulary": (lambda m: edit(m / "config.json", vocab_size=8), "model"),
    "unknown dtype": (lambda m: edit(m / "config.json", dtype="float99"), "cannot load"),
    "two more layers": (
        lambda m: edit(m / "config.json", num_hidden_layers=4),
        "says 4 layers, but the weights have 2",
    ),
    "a billion layers": (lambda m: edit(m / "config.json", num_hidden_layers=10**9), "but the weights have 2"),
    "a layer fewer": (lambda m: edit(m / "config.json", num_hidden_layers=1), "more than the model"),
    "an encoder's config": (
        lambda m: (m / "config.json").write_text('{"model_type":"bert","architectures":["BertModel"]}'),
        "lacks",
    ),
    "an encoder": (as_encoder, "is an encoder"),
    "a tensor is missing": (
        lambda m: edit_weights(m / W, lambda t: drop(t, "layers.1.mlp.up_proj")),
        "lacks 1 weight (model.layers.1.mlp.up_proj.weight)",
    ),
    "a tensor too many": (
        lambda m: edit_weights(m / W, lambda t: t.update({"model.layers.1.mlp.zzz.weight": torch.zeros(2)})),
        "more than the model",
    ),
    "a tensor of another shape": (
        lambda m: edit_weights(m / W, lambda t: t.update({"model.norm.weight": torch.zeros(5)})),
        "cannot load",
    ),
    "weights are empty": (lambda m: (m / W).write_bytes(b""), "cannot load"),
    "weights are cut": (lambda m: (m / W).write_bytes((m / W).read_bytes()[:-1000]), "cannot load"),
    "weights lie about their length": (lambda m: lie_about_length(m / W), "cannot load"),
    "weights are a pipe": (lambda m: as_pipe(m / W), "no regular file"),
    "weights are missing": (lambda m: (m / W).unlink(), "neither"),
    "weights are pickles": (lambda m: as_pickle(m / W, "pytorch_model.bin"), "pickles"),
    "index is a list": (lambda m: as_index(m / W, "[]"), "index.json: holds a list"),
    "index is cut": (lambda m: as_index(m / W, "{"), "not JSON"),
    "index without a map": (lambda m: as_index(m / W, '{"weight_map": []}'), "weight_map"),
    "index names other things": (lambda m: as_index(m / W, '{"weight_map": {"a": 1}}'), "weight_map"),
    "index names a pickle": (lambda m: as_index(m / W, '{"weight_map": {"a": "x.bin"}}'), "x.bin"),
    "index leads out": (
        lambda m: as_index(m / W, '{"weight_map": {"a": "../../etc/passwd.safetensors"}}'),
        "no safetensors file of this directory",
    ),
    "index names a missing file": (
        lambda m: as_index(m / W, '{"weight_map": {"a": "b.safetensors"}}'),
        "b.safeten",
    ),
    "generation config is a list": (lambda m: (m / "generation_config.json").write_text("[]"), "holds a list"),
    "tokenizer config is a list": (lambda m: (m / "tokenizer_config.json").write_text("[]"), "holds a list"),
    "tokenizer is a list": (lambda m: (m / "tokenizer.json").write_text("[]"), "cannot load the tokenizer"),
    "tokenizer is a text": (lambda m: (m / "tokenizer.json").write_text('"a"'), "cannot load the tokenizer"),
    "tokenizer is empty": (lambda m: (m / "tokenizer.json").write_text("{}"), "cannot load the tokenizer"),
    "tokenizer is deep": (lambda m: (m / "tokenizer.json").write_text("[" * 100_000), "cannot load the tokenizer"),
    "tokenizer class is a number": (
        lambda m: edit(m / "tokenizer_config.json", tokenizer_class=5),
        "cannot load the tokenizer",
    ),
}


def load_all(name: Path) -> None:
    chat = ChatFormat(load_tokenizer(str(name)))
    chat.of_model(load_model(str(name), device="cpu"))


@pytest.mark.parametrize("fault", BROKEN_MODELS)
def test_a_broken_model_is_one_line(fault, place):
    damage, said = BROKEN_MODELS[fault]
    damage(place / "model")
    with pytest.raises(HoldfastError) as raised:
        load_all(place / "model")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


BROKEN_ADAPTERS = {
    "config is a list": (
        lambda a: (a / "adapter_config.json").write_text("[]"),
        "adapter_config.json: holds a list",
    ),
    "config is a number": (lambda a: (a / "adapter_config.json").write_text("5"), "holds a int"),
    "config is deep": (lambda a: (a / "adapter_config.json").write_text("[" * 100_000), "not JSON"),
    "no base": (lambda a: edit(a / "adapter_config.json", base_model_name_or_path=None), "names no model"),
    "base is a list": (lambda a: edit(a / "adapter_config.json", base_model_name_or_path=["a"]), "names no model"),
    "base is not there": (
        lambda a: edit(a / "adapter_config.json", base_model_name_or_path="../../nothing/here"),
        "adapter: its base model '../../nothing/here' is not there",
    ),
    "base is itself": (lambda a: edit(a / "adapter_config.json", base_model_name_or_path="."), "adapter itself"),
    "base is no model": (
        lambda a: edit(a / "adapter_config.json", base_model_name_or_path=".."),
        "no config.json",
    ),
    "base is on the hub": (
        lambda a: edit(a / "adapter_config.json", base_model_name_or_path="nobody/nothing"),
        "that the adapter",
    ),
    "unknown method": (lambda a: edit(a / "adapter_config.json", peft_type="NOPE"), "cannot load the adapter"),
    "another rank": (lambda a: edit(a / "adapter_config.json", r=16), "cannot load the adapter"),
    "rank is text": (lambda a: edit(a / "adapter_config.json", r="two"), "cannot load the adapter"),
    "rank is zero": (lambda a: edit(a / "adapter_config.json", r=0), "cannot load the adapter"),
    "no such layers": (
        lambda a: edit(a / "adapter_config.json", target_modules=["no"]),
        "cannot load the adapter",
    ),
    "fewer layers than weights": (
        lambda a: edit(a / "adapter_config.json", target_modules=["q_proj"]),
        "more than its adapter_config.json describes",
    ),
    "weights of one layer only": (
        lambda a: edit_weights(a / A, lambda t: drop(t, "layers.1.")),
        "the adapter lacks weights of 1 layer: 4 weights",
    ),
    "no weights": (lambda a: (a / A).unlink(), "has no weights"),
    "weights are cut": (lambda a: (a / A).write_bytes((a / A).read_bytes()[:500]), "cannot load the adapter"),
    "weights are a pickle": (lambda a: as_pickle(a / A, "adapter_model.bin"), "pickle"),
    "weights are a pipe": (lambda a: as_pipe(a / A), "no regular file"),
}


@pytest.mark.parametrize("fault", BROKEN_ADAPTERS)
def test_a_broken_adapter_is_one_line(fault, place):
    damage, said = BROKEN_ADAPTERS[fault]
    damage(place / "adapter")
    with pytest.raises(HoldfastError) as raised:
        load_all(place / "adapter")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


BOMBS = {
    "loops": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
    "a large power": ("{{ 10**(10**8) }}", "does not end"),
    "a longer text than memory": ("{{ 'a' * 10**10 }}", "memory"),
    "a long text": ("{{ 'a ' * 10**7 }}", "writes more than"),
    "a doubling text": (
        "{% set n = namespace(t='ab') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "memory",
    ),
    "hangs with a system turn only": (
        "{% if messages[0].role == 'system' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
        "{% endfor %}{% endif %}",
        "does not end",
    ),
    "recursion": ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "maximum recursion depth"),
    "division by zero": ("{{ 1/0 }}", "a conversation of user, assistant: division by zero"),
    "a large range": ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
    "format without its key": ("{{ '{a}'.format() }}", "KeyError 'a'"),
    "format without its index": ("{{ '{5}'.format() }}", "out of range"),
    "overflow": ("{{ 10.0**400 }}", "out of range"),
    "half a surrogate pair": ("{{ '\\ud800' }}", "half a surrogate pair (U+D800)"),
    "a date of another type": ("{{ strftime_now(5) }}", "rejects a conversation"),
    "an include": ("{% include '/etc/passwd' %}", "rejects a conversation"),
    "hidden attributes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "rejects a conversation"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hostile_template_is_refused_within_seconds(bomb, llama):
    text, said = BOMBS[bomb]
    tokenizer = llama.tokenizer()
    tokenizer.chat_template = TEMPLATE + text
    with pytest.raises(HoldfastError) as raised:
        ChatFormat(tokenizer)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_template_that_hangs_on_some_conversation_is_interrupted(llama, monkeypatch):
    monkeypatch.setattr("holdfast.templates._TICKS", 2)
    tokenizer = llama.tokenizer()
    hang = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer.chat_template = "{% if messages|length > 6 %}" + hang + "{% endif %}" + TEMPLATE
    chat = ChatFormat(tokenizer)
    turns = [{"role": ("user", "assistant")[n % 2], "content": "a"} for n in range(8)]
    from holdfast.templates import render

    with pytest.raises(HoldfastError, match="took more than"):
        render(tokenizer, turns)
    assert render(tokenizer, turns[:2]) == tokenizer.apply_chat_template(turns[:2], tokenize=False)
    assert chat.supports_system


def run(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert line.startswith("holdfast: ")
    return line


@pytest.mark.parametrize("fault", ["a tensor is missing", "config is a list", "tokenizer is a list"])
def test_score_and_show_template_say_it(fault, place, capsys):
    damage, said = BROKEN_MODELS[fault]
    damage(place / "model")
    arguments = ["--model", place / "model", "--data", place / "rows.jsonl", "--role", place / "role.yaml"]
    assert said in run(capsys, "score", *arguments)
    if "tensor" not in fault:
        assert said in run(capsys, "show-template", *arguments)


def test_a_name_that_is_no_path_is_one_line(place, capsys):
    arguments = ["--data", place / "rows.jsonl", "--role", place / "role.yaml"]
    assert "too long" in run(capsys, "score", "--model", "a" * 300, *arguments)
    assert "no model is named" in run(capsys, "score", "--model", "", *arguments)
    assert "is a file" in run(capsys, "score", "--model", place / "role.yaml", *arguments)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (errors.GatedRepoError, "accept the terms at https://huggingface.co/owner/name, then run: hf auth login"),
        (errors.RepositoryNotFoundError, "log in with: hf auth login"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached"),
        (errors.OfflineModeIsEnabled, "the hub cannot be reached"),
        (MemoryError, "does not fit the memory"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_remedy(kind, said):
    cause = kind.__new__(kind)
    with pytest.raises(HoldfastError) as raised, loading("owner/name", "model"):
        raise OSError("You cannot have it") from cause
    assert said in str(raised.value)


def long_row(words: int) -> dict:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "The sea. " * words}]
    return {"messages": turns}


@pytest.fixture
def pairs(place) -> Path:
    turn = {"prompt": "Why?", "chosen": "The sea.", "rejected": "The storm."}
    rows = [turn | {"pair_id": "0", "language": language} for language in ("en", "zh")]
    write_rows(place / "pairs.jsonl", *rows)
    return place


def config(place: Path, **fields) -> Path:
    """A training's config."""
    defaults = {
        "model": place / "model",
        "data": place / "rows.jsonl",
        "output_dir": place / "out",
        "lora_rank": 2,
    }
    lines = [f"{name}: {value}\n" for name, value in (defaults | fields).items()]
    (place / "run.yaml").write_text("".join(lines))
    return place / "run.yaml"


def test_every_verb_refuses_what_the_context_does_not_hold(pairs, capsys):
    edit(pairs / "model/config.json", max_position_embeddings=20)
    model = ["--model", pairs / "model"]
    role = ["--role", pairs / "role.yaml"]
    rows = ["--data", pairs / "rows.jsonl", *role, "--max-response-tokens", 500]
    write_rows(pairs / "rows.jsonl", long_row(50))
    said = "more than the model's context of 20"
    assert said in run(capsys, "score", *model, *rows)
    assert said in run(capsys, "train-sarft", config(pairs, role=pairs / "role.yaml", max_response_tokens=500))
    ranked = ["--selector", "persona_vector", "--output", pairs / "r.jsonl"]
    assert "context" in run(capsys, "rank", *model, *rows, *ranked)
    write_rows(
        pairs / "pairs.jsonl",
        *({"pair_id": "0", "language": language, "prompt": "Why?", "chosen": "The sea. " * 50, "rejected": "a"}
          for language in ("en", "zh")),
    )  # fmt: skip
    assert said in run(capsys, "gap", *model, "--data", pairs / "pairs.jsonl")
    assert said in run(capsys, "train-mpo", config(pairs, data=pairs / "pairs.jsonl"))


def test_every_verb_refuses_a_token_that_the_model_has_no_embedding_for(pairs, capsys):
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    tokenizer.add_tokens(["sea"])
    tokenizer.save_pretrained(pairs / "model")
    model = ["--model", pairs / "model"]
    rows = ["--data", pairs / "rows.jsonl", "--role", pairs / "role.yaml"]
    said = "token 400 ('sea') is beyond the model's 400 embeddings"
    assert said in run(capsys, "score", *model, *rows)
    assert said in run(capsys, "train-sarft", config(pairs, role=pairs / "role.yaml"))
    assert said in run(capsys, "gap", *model, "--data", pairs / "pairs.jsonl")
    assert said in run(capsys, "train-mpo", config(pairs, data=pairs / "pairs.jsonl"))


def test_an_adapters_own_tokenizer_template_and_embeddings_are_used(place):
    """The base writes Llama-3's turns; the adapter was trained with another template and one more token."""
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    tokenizer.add_tokens(["sea"])
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}"
    base = load_model(str(place / "model"), device="cpu")
    base.resize_token_embeddings(401)
    grown = add_lora(base, LoraSettings(rank=2))
    with torch.no_grad():
        for name, weight in grown.named_parameters():
            if "lora_B" in name or "embed_tokens" in name or "lm_head" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    grown.save_pretrained(place / "grown", save_embedding_layers=True)
    edit(place / "grown/adapter_config.json", base_model_name_or_path="../model")

    assert load_tokenizer(str(place / "grown")).chat_template == TEMPLATE  # the base's, as a fallback
    (place / "grown/chat_template.jinja").write_text(tokenizer.chat_template)
    assert load_tokenizer(str(place / "grown")).chat_template == tokenizer.chat_template
    tokenizer.save_pretrained(place / "grown")
    own = load_tokenizer(str(place / "grown"))
    assert (own.chat_template, len(own)) == (tokenizer.chat_template, 401)

    ids = torch.tensor([[400, 3, 5]])
    loaded = load_model(str(place / "grown"), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, grown.eval()(ids).logits)


def test_adapters_on_one_base_speak_through_their_own_templates(place):
    local = LocalModels(device="cpu")
    plain = local.responder(str(place / "adapter"))
    shutil.copytree(place / "adapter", place / "other")
    (place / "other/chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}"
    )
    other = local.responder(str(place / "other"))
    assert plain.loaded is other.loaded
    said = [Message("user", "Why?")]
    assert plain.chat.prompt_ids(said) != other.chat.prompt_ids(said)
    decoded = other.chat.tokenizer.decode(other.chat.prompt_ids(said))
    assert decoded == "[user]Why?<|eot_id|>[assistant]"
