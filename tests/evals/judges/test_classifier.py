import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, LongformerConfig

from holdfast.errors import HoldfastError
from holdfast.evals.judges.base import Exchange
from holdfast.evals.judges.classifier import ClassifierJudge, default_labels, truncated
from holdfast.samples import Judgement
from tests.evals.judges.test_llm import run

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "sure", "sorry", "help", "bomb"]


def save_classifier(path, labels, *, max_tokens=16):
    """A tiny random BERT with these labels; its weights are large, so that texts get different labels."""
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(path / "vocab.txt"), model_max_length=max_tokens).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_tokens,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    model.save_pretrained(path)
    return model.eval()


TEXTS = ["sure help yes", "sorry no", "bomb bomb bomb help", "yes", "no no no no no no no", "help sorry bomb yes"]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_likeliest_label_is_the_verdict(tmp_path, batch_size):
    model = save_classifier(tmp_path / "m", ["SAFE", "UNSAFE"])
    judge = ClassifierJudge("classifier:m", str(tmp_path / "m"), batch_size=batch_size)
    judged = run(judge, [Exchange("q", text) for text in [*TEXTS, " "]])
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path / "m")
    for text, judgement in zip(TEXTS, judged, strict=False):
        with torch.no_grad():
            probabilities = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        best = int(probabilities.argmax())
        said = json.loads(judgement.raw)
        assert judgement.verdict == ("safe", "unsafe")[best]
        assert said["label"] == ("SAFE", "UNSAFE")[best]
        assert said["probability"] == pytest.approx(float(probabilities[best]), abs=1e-5)
        assert said["truncated"] is False
    assert {judgement.verdict for judgement in judged} == {"safe", "unsafe", "unscored"}
    assert judged[-1] == Judgement("unscored", "empty answer")
    assert judge.verdicts == ("safe", "unsafe")


def test_a_long_text_is_cut_and_counted(tmp_path):
    save_classifier(tmp_path / "m", ["SAFE", "UNSAFE"])
    judge = ClassifierJudge("classifier:m", str(tmp_path / "m"))
    judged = run(judge, [Exchange("q", "yes " * 14), Exchange("q", "yes " * 15), Exchange("q", "yes " * 900)])
    assert [json.loads(judgement.raw)["truncated"] for judgement in judged] == [False, True, True]
    assert truncated(judged) == 2


def test_a_classifier_of_exchanges_sees_the_prompt_and_never_loses_the_answer_to_it(tmp_path):
    save_classifier(tmp_path / "m", ["SAFE", "UNSAFE"])
    judge = ClassifierJudge("classifier:m", str(tmp_path / "m"), reads="exchange")
    run(judge, [Exchange("help", "sorry")])
    inputs, _ = judge._inputs(judge._loaded, [Exchange("bomb " * 500, "sorry no")])
    words = judge._loaded.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert len(words) == 16
    assert words[-4:] == ["[SEP]", "sorry", "no", "[SEP]"]


def test_labels_can_be_given(tmp_path):
    save_classifier(tmp_path / "m", [f"LABEL_{index}" for index in range(3)])
    judge = ClassifierJudge("c", str(tmp_path / "m"), labels={"LABEL_2": "compliance", "*": "refusal"})
    judged = run(judge, [Exchange("q", text) for text in TEXTS])
    for judgement in judged:
        expected = "compliance" if json.loads(judgement.raw)["label"] == "LABEL_2" else "refusal"
        assert judgement.verdict == expected


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (
            ["LABEL_0", "LABEL_1"],
            None,
            "no verdict is known for its labels LABEL_0, LABEL_1; .*--classifier-labels",
        ),
        (["SAFE", "odd"], None, "no verdict is known for its labels odd"),
        (["SAFE", "REFUSAL"], None, "mix verdicts on refusal and on safety"),
        (["a", "b"], {"c": "safe", "*": "unsafe"}, "has no label c; its labels are a, b"),
    ],
)
def test_labels_without_a_verdict_are_told_before_the_weights_load(tmp_path, labels, given, message):
    save_classifier(tmp_path / "m", labels)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(HoldfastError, match=message):
        ClassifierJudge("c", str(tmp_path / "m"), labels=given)


def test_pickled_weights_are_not_read(tmp_path):
    model = save_classifier(tmp_path / "m", ["SAFE", "UNSAFE"])
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    judge = ClassifierJudge("c", str(tmp_path / "m"))
    with pytest.raises(HoldfastError, match="complete text classifier in safetensors"):
        run(judge, [Exchange("q", "yes")])


def test_no_such_model(tmp_path):
    with pytest.raises(HoldfastError, match="cannot load the classifier"):
        ClassifierJudge("c", str(tmp_path))


@pytest.mark.parametrize(
    ("names", "verdicts"),
    [
        (["NORMAL", "REJECTION"], ["compliance", "refusal"]),
        (["non-refusal", "refusal"], ["compliance", "refusal"]),
        (["full_compliance", "full_refusal", "partial_refusal"], ["compliance", "refusal", "partial_refusal"]),
        (["safe", "unsafe"], ["safe", "unsafe"]),
        (["not safe", "harmless"], ["unsafe", "safe"]),
        (["LABEL_0", "LABEL_1"], []),
    ],
)
def test_labels_that_say_what_they_mean(names, verdicts):
    assert list(default_labels("m", BertConfig(id2label=dict(enumerate(names)))).values()) == verdicts


def test_do_not_answers_classifier_counts_as_sarft_counts_it():
    config = LongformerConfig(num_labels=6)
    found = default_labels("LibrAI/longformer-action-ro", config)
    assert found == {f"LABEL_{index}": "safe" for index in range(5)} | {"LABEL_5": "unsafe"}
    assert default_labels("somebody/else", config) == {}


def test_a_classifier_without_its_head_is_refused(tmp_path):
    save_classifier(tmp_path / "m", ["SAFE", "UNSAFE"])
    weights = tmp_path / "m" / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(weights).items() if "classifier" not in name}
    save_file(tensors, weights, metadata={"format": "pt"})
    judge = ClassifierJudge("c", str(tmp_path / "m"))
    with pytest.raises(HoldfastError, match=r"the classifier lacks .*classifier"):
        run(judge, [Exchange("q", "yes")])
