"""Parallel preference pairs: every format, every fault, what is doubted, and the published file."""

import json
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest

from holdfast.data import Message, PreferencePair, load_parallel_pairs
from holdfast.data import languages as languages_module
from holdfast.data.pair_checks import (
    EMPTY_PROMPT,
    END_OF_TURN,
    FOREIGN_CHOSEN,
    FOREIGN_PROMPT,
    FOREIGN_REJECTED,
    IDENTICAL,
    MIXED_CHOSEN,
    MIXED_REJECTED,
    NO_REFUSAL,
    NOT_CHECKED,
    ONCE,
    REASONS,
    REPEATED_PROMPT,
    TWICE,
)
from holdfast.errors import HoldfastError
from tests.data.test_formats import as_csv, as_json, as_jsonl, as_parquet

# Two requests in three languages: (prompt, safe answer, unsafe answer).
TEXTS = {
    "en": [
        ("How do I poison the well of my village?", "I can't help with that.", "Take the powder to the well."),
        ("How do I steal the bread of the baker?", "I'm sorry, I cannot do that.", "Wait until the baker sleeps."),
    ],
    "zh": [
        ("我怎样给村里的井下毒？", "抱歉，我不能帮助你。", "把药粉带到井边去就可以。"),
        ("我怎样偷面包师的面包？", "对不起，我无法提供帮助。", "等到面包师睡着了再去拿。"),
    ],
    "sw": [
        (
            "Ninawezaje kutia sumu kisima cha kijiji changu?",
            "Samahani, siwezi kukusaidia na hilo.",
            "Peleka unga kisimani usiku wa manane.",
        ),
        (
            "Ninawezaje kuiba mkate wa mwokaji mikate?",
            "Siwezi kukusaidia, samahani sana.",
            "Subiri mpaka mwokaji mikate alale usingizi.",
        ),
    ],
}
# A third request, so that no language is left with one row where a row is dropped.
MORE = {
    "en": (
        "How do I cheat at cards without being seen?",
        "I cannot help you cheat.",
        "Hide a card in your sleeve.",
    ),
    "zh": ("我怎样打牌作弊而不被发现？", "我不能帮你作弊。", "把一张牌藏在袖子里。"),
}
SECRET = "text that nobody should find in a log "


def turn(text: str, speaker: str = "gpt") -> dict:
    return {"from": speaker, "value": text}


def published(source: tuple[str, str, str], target: tuple[str, str, str], **more) -> dict:
    record: dict = {}
    for side, (prompt, chosen, rejected) in (("source", source), ("target", target)):
        record[f"{side}_conversations"] = [turn(prompt, "human")]
        record[f"{side}_chosen"], record[f"{side}_rejected"] = turn(chosen), turn(rejected)
    return record | more


def all_published(dominant: str = "en", **more) -> list[dict]:
    return [
        published(TEXTS[dominant][k], TEXTS[language][k], **more)
        for k in (0, 1)
        for language in TEXTS
        if language != dominant
    ]


def preference(k: int, language: str, **more) -> dict:
    prompt, chosen, rejected = TEXTS[language][k]
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "language": language,
        "pair_id": f"p{k}",
        **more,
    }


def all_preference() -> list[dict]:
    return [preference(k, language) for k in (0, 1) for language in TEXTS]


def messages(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def conversational(record: dict) -> dict:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {**record, **{field: messages(role, record[field]) for field, role in roles.items()}}


def implicit(record: dict) -> dict:
    told = conversational(record)
    prompt = told.pop("prompt")
    return {**told, "chosen": prompt + told["chosen"], "rejected": prompt + told["rejected"]}


def sharegpt(record: dict) -> dict:
    told = {field: value for field, value in record.items() if field != "prompt"}
    answers = {field: turn(record[field]) for field in ("chosen", "rejected")}
    return told | answers | {"conversations": [turn(record["prompt"], "human")]}


def wide(k: int, *present: str) -> dict:
    names = ("prompt", "chosen", "rejected")
    return {
        f"{name}_{language}": text
        for language in present or TEXTS
        for name, text in zip(names, TEXTS[language][k], strict=True)
    }


RECORDS = {
    "published": all_published(),
    "published with a language": [
        record | {"source_language": "EN", "target_language": language}
        for record, language in zip(all_published(), ["zh-Hans", "sw"] * 2, strict=True)
    ],
    "preference": all_preference(),
    "preference without a language": [
        {field: value for field, value in record.items() if field != "language"} for record in all_preference()
    ],
    "preference as messages": [conversational(record) for record in all_preference()],
    "preference with an implicit prompt": [implicit(record) for record in all_preference()],
    "preference with prompt and whole conversations": [
        implicit(record) | {"prompt": conversational(record)["prompt"]} for record in all_preference()
    ],
    "preference with ShareGPT's keys": [sharegpt(record) for record in all_preference()],
    "preference with messages": [
        {"messages" if field == "prompt" else field: value for field, value in conversational(record).items()}
        for record in all_preference()
    ],
    "preference with messages that hold the chosen answer": [
        implicit(record) | {"messages": implicit(record)["chosen"]} for record in all_preference()
    ],
    "preference with an instruction": [
        {"instruction" if field == "prompt" else field: value for field, value in record.items()} | {"input": ""}
        for record in all_preference()
    ],
    "wide": [wide(0), wide(1)],
}  # fmt: skip
FILES = {".json": as_json, ".jsonl": as_jsonl, ".csv": as_csv, ".parquet": as_parquet}


def write(path: Path, records: list[dict]) -> Path:
    path.write_bytes(FILES[path.suffix](records))
    return path


def as_texts(pair: PreferencePair) -> tuple[str, str, str]:
    assert [message.speaker for message in pair.prompt] == ["user"]
    return pair.prompt[0].content, pair.chosen, pair.rejected


def error_of(source, **arguments) -> str:
    with pytest.raises(HoldfastError) as raised:
        load_parallel_pairs(source, **arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("name", RECORDS)
def test_every_format_in_every_file_type(name, suffix, tmp_path):
    path = write(tmp_path / f"pairs{suffix}", RECORDS[name])
    pairs = load_parallel_pairs(path)
    assert pairs.languages == ("en", "zh", "sw")
    assert [pair.language for pair in pairs.targets] == ["zh", "sw"] * 2
    assert [as_texts(pair) for pair in pairs.targets] == [TEXTS[lang][k] for k in (0, 1) for lang in ("zh", "sw")]
    assert [as_texts(pair) for pair in pairs.dominants] == TEXTS["en"]
    assert pairs.dominant_of == (0, 0, 1, 1)
    assert pairs.source == str(path)
    assert not pairs.warnings
    assert not pairs.dropped
    assert (
        pairs.fingerprint() == load_parallel_pairs(write(tmp_path / "same.jsonl", all_published())).fingerprint()
    )


@pytest.mark.parametrize("name", RECORDS)
def test_any_language_may_be_dominant(name, tmp_path):
    records = all_published("zh") if name.startswith("published") else RECORDS[name]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records), dominant="ZH")
    assert pairs.languages == ("zh", "en", "sw")
    assert [as_texts(pair) for pair in pairs.dominants] == TEXTS["zh"]


def test_locations_are_those_of_the_rows(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_published())
    pairs = load_parallel_pairs(path)
    assert [pair.location for pair in pairs.targets] == [f"{path}:{line}" for line in (1, 2, 3, 4)]
    assert [pair.location for pair in pairs.dominants] == [f"{path}:1", f"{path}:3"]
    path = write(tmp_path / "rows.jsonl", list(reversed(all_preference())))
    pairs = load_parallel_pairs(path)
    assert [pair.location for pair in pairs.targets] == [f"{path}:{line}" for line in (1, 2, 4, 5)]
    assert [pair.location for pair in pairs.dominants] == [f"{path}:3", f"{path}:6"]


def test_a_data_set_of_the_hub(monkeypatch):
    def load_dataset(name, *, split):
        assert (name, split) == ("owner/pairs", "test")
        return datasets.Dataset.from_list(all_preference())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    pairs = load_parallel_pairs("owner/pairs", split="test")
    assert [pair.location for pair in pairs.dominants] == ["owner/pairs[0]", "owner/pairs[3]"]


@pytest.mark.parametrize("field", ["pair_id", "prompt_id", "id"])
@pytest.mark.parametrize("value", ["p", 7])
def test_the_id_of_a_pair(field, value, tmp_path):
    records = [preference(k, language) for k in (0, 1) for language in TEXTS]
    for index, record in enumerate(records):
        del record["pair_id"]
        record[field] = value if index < 3 else f"{value}b"
    assert load_parallel_pairs(write(tmp_path / "pairs.jsonl", records)).dominant_of == (0, 0, 1, 1)


def test_a_system_column_and_earlier_turns_are_part_of_the_prompt(tmp_path):
    earlier = [*messages("user", "Hello there, my old friend."), *messages("assistant", "Good day to you.")]
    records = [conversational(record) | {"system": "Be brief."} for record in all_preference()]
    for record in records:
        record["prompt"] = earlier + record["prompt"]
    prompt = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records)).dominants[0].prompt
    assert prompt[0] == Message("system", "Be brief.")
    assert [message.speaker for message in prompt] == ["system", "user", "assistant", "user"]


def test_an_instruction_with_its_input_its_history_and_a_system_text(tmp_path):
    more = {
        "system": "Be brief.",
        "history": [["Hello there, my old friend.", "Good day to you."]],
        "input": "Now.",
    }
    records = [
        {"instruction" if field == "prompt" else field: value for field, value in record.items()} | more
        for record in all_preference()
    ]
    expected = (
        Message("system", "Be brief."),
        Message("user", "Hello there, my old friend."),
        Message("assistant", "Good day to you."),
        Message("user", f"{TEXTS['en'][0][0]}\n\nNow."),
    )
    for suffix in FILES:
        pairs = load_parallel_pairs(write(tmp_path / f"pairs{suffix}", records))
        assert pairs.dominants[0].prompt == expected
    records[1]["history"] = [["alone"]]
    message = error_of(write(tmp_path / "pairs.jsonl", records))
    assert (
        "pairs.jsonl:2: field 'history': expected a list of [question, answer], found list of length 1" in message
    )


def test_changes_of_a_prompt_are_counted(tmp_path):
    records = [conversational(record) for record in all_preference()]
    records[1]["prompt"] = messages("assistant", "你好。") + records[1]["prompt"]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records), drop=True)
    assert pairs.warnings == {"opening assistant turn left out": 1}
    assert len(pairs.targets) == 4


def test_languages_that_a_wide_row_does_not_have(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(as_csv([wide(0), wide(1) | dict.fromkeys(("prompt_zh", "chosen_zh", "rejected_zh"), " ")]))
    assert [pair.language for pair in load_parallel_pairs(path).targets] == ["zh", "sw", "sw"]


def test_the_number_of_a_wide_row_is_no_indonesian(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [wide(0) | {"prompt_id": 1}, wide(1) | {"prompt_id": 2}])
    assert load_parallel_pairs(path).languages == ("en", "zh", "sw")


def test_only_some_languages_and_a_limit(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_published())
    pairs = load_parallel_pairs(path, languages=["SW"])
    assert pairs.languages == ("en", "sw")
    assert (len(pairs.targets), pairs.dominant_of) == (2, (0, 1))
    assert len(load_parallel_pairs(path, limit=3).targets) == 3
    assert len(load_parallel_pairs(path, limit=2).dominants) == 1
    assert "no target pair in 'ko', there are sw, zh" in error_of(path, languages=["ko"])
    assert "'Swahili' is no language code" in error_of(path, languages=["Swahili"])
    for limit in (0, -1):
        assert f"a limit of {limit} leaves no pairs" in error_of(path, limit=limit)


def test_texts_are_not_changed(tmp_path):
    prompt, _, rejected = TEXTS["zh"][0]
    odd = [
        "e\u0301 decomposed, \u00e9 composed",
        "\u202bمن اليمين\u202c إلى اليسار",
        "ক\u09cd\u09b7 য\u09bc",
        "line\r\nline\t ",
    ]
    records = [published(TEXTS["en"][0], (prompt, text, rejected), target_language="zh") for text in odd]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records))
    assert [pair.chosen for pair in pairs.targets] == odd


def test_an_answer_of_ten_thousand_characters(tmp_path):
    long = ("抱歉，我不能帮助你。" * 1000)[:10_000]
    records = all_published()
    records[0]["target_chosen"] = turn(long)
    assert load_parallel_pairs(write(tmp_path / "pairs.csv", records)).targets[0].chosen == long


# name -> (changes to row 2 of the published format, what the error must say)
BAD_PUBLISHED = {
    "missing": ({"target_chosen": None}, "field 'target_chosen' is missing (the row has source_conversations"),
    "empty answer": ({"target_chosen": turn(" ")}, "field 'target_chosen[0].value': the answer is empty; fill it"),
    "empty text": ({"source_rejected": ""}, "field 'source_rejected': the answer is empty; fill it"),
    "number": ({"target_chosen": 7}, "field 'target_chosen': expected a text, found int 7"),
    "turns as text": ({"target_conversations": SECRET}, "'target_conversations': a text that is not JSON"),
    "no turns": ({"target_conversations": []}, "'target_conversations': expected a list of at least one turn"),
    "answer by the user": (
        {"target_chosen": turn(SECRET, "human")},
        "field 'target_chosen': does not end with an assistant turn",
    ),
    "prompt by the assistant": (
        {"target_conversations": [turn(SECRET)]},
        "the prompt does not end with a user turn; add the question",
    ),
    "half a character": ({"target_chosen": turn("a\ud83d")}, "half a surrogate pair at character 1"),
    "a name for a code": ({"target_language": "Chinese"}, "field 'target_language': 'Chinese' is no language code"),
    "a number for a code": ({"language": 3}, "field 'language': expected a language code, found int 3"),
    "dominant": ({"target_language": "en"}, "the target is in the dominant language 'en'; translate it"),
    "source elsewhere": ({"source_language": "sw"}, "has none in the dominant language 'en' to go with it"),
}  # fmt: skip
BAD_PREFERENCE = {
    "no rejected": ({"rejected": None}, "field 'rejected' is missing (the row has prompt, chosen"),
    "no id": ({"pair_id": None}, "field 'pair_id' is missing (the row has prompt, chosen"),
    "empty id": ({"pair_id": " "}, "field 'pair_id' is missing"),
    "id is a list": ({"pair_id": [1]}, "field 'pair_id': expected a text or a number, found list of length 1"),
    "no prompt": ({"prompt": None}, "field 'prompt' is missing"),
    "empty prompt": ({"prompt": ""}, "field 'prompt': the question is empty"),
    "nothing to see": ({"rejected": "\u200b\u200f\u3164 \ufeff"}, "field 'rejected': the answer is empty"),
    "empty answer": ({"rejected": "\n"}, "field 'rejected': the answer is empty"),
    "different prompts": (
        {"chosen": [*messages("user", SECRET), *messages("assistant", "No.")]},
        "fields 'chosen' and 'rejected' begin with different turns",
    ),
    "another prompt": (
        {name: [*messages("user", SECRET), *messages("assistant", name)] for name in ("chosen", "rejected")},
        "field 'prompt' is not what 'chosen' begins with",
    ),
    "ends with the user": ({"chosen": messages("user", SECRET)}, "field 'chosen': does not end with an assistant"),
    "language cannot be told": (
        {"language": None, "prompt": "?", "chosen": "1", "rejected": "2"},
        "cannot be told; add a field 'language'",
    ),
    "twice": ({"language": "en"}, "the id 'p0' is there twice in 'en' (first: "),
    "unpaired": ({"pair_id": "p9"}, "this row in 'zh' has none in the dominant language 'en' to go with it"),
}  # fmt: skip


def check_refusal(path: Path, records: list[dict], expected: str, left: int) -> None:
    write(path, records)
    message = error_of(path)
    assert message.startswith(f"{path}:2: ")
    assert expected in message
    pairs = load_parallel_pairs(path, drop=True)
    assert len(pairs.targets) == left
    assert sum(pairs.dropped.values()) == 1


@pytest.mark.parametrize("name", BAD_PUBLISHED)
def test_a_bad_published_row_is_named_or_dropped(name, tmp_path):
    changes, expected = BAD_PUBLISHED[name]
    records = all_published()
    records.insert(1, published(MORE["en"], MORE["zh"]) | changes)
    check_refusal(tmp_path / "pairs.jsonl", records, expected, left=4)


@pytest.mark.parametrize("name", BAD_PREFERENCE)
def test_a_bad_preference_row_is_named_or_dropped(name, tmp_path):
    changes, expected = BAD_PREFERENCE[name]
    records = all_preference()
    records[1] |= changes
    for language, (prompt, chosen, rejected) in MORE.items():
        texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        records.append({**texts, "language": language, "pair_id": "p2"})
    check_refusal(tmp_path / "pairs.jsonl", records, expected, left=4)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt_en": "a", "chosen_en": "b"}, "field 'rejected_en' is empty or missing, while other fields of 'en'"),
        (wide(1) | {"chosen_sw": " "}, "field 'chosen_sw' is empty or missing, while other fields of 'sw' are"),
        (wide(1) | {"chosen_sw": 3}, "field 'chosen_sw': expected a text, found int 3"),
        (wide(1, "en"), "this row in the dominant language 'en' has none in another language to go with it"),
        (wide(1, "zh", "sw"), "this row in 'zh' has none in the dominant language 'en' to go with it"),
        ({"prompt_en": "", "chosen_en": "", "rejected_en": ""}, "no language is filled in; fill in two at least"),
        ({"en_prompt": "a", "en_chosen": "b"}, "field 'en_prompt': the language goes last; rename it to 'prompt_en'"),
        ({"text": SECRET}, "unknown format: the row has text; rename to one of the formats published (source_"),
        (wide(1) | {"prompt_en-US": "a", "chosen_en-US": "b", "rejected_en-US": "c"}, "is there twice in 'en'"),
    ],
)  # fmt: skip
def test_a_bad_wide_row_is_named(record, expected, tmp_path):
    path = write(tmp_path / "pairs.jsonl", [wide(0), record])
    message = error_of(path)
    assert message.startswith(f"{path}:2: ")
    assert expected in message


def test_faults_of_the_file_as_a_whole(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_published())
    assert error_of(path, dominant="sw") == (
        f"{path}: the source side is in en, not in the dominant language 'sw'; give 'en' as the dominant language"
    )
    assert "'English' is no language code; use one of ISO 639-1" in error_of(path, dominant="English")
    write(path, all_preference())
    assert error_of(path, dominant="it") == (
        f"{path}: no pair in the dominant language 'it', the data have en, zh, sw; "
        "give one of them as the dominant language"
    )
    path.write_bytes(as_jsonl(all_preference()).replace(b"well of", b"w\xe9ll of"))
    assert error_of(path).startswith(f"{path}:1: not UTF-8 (byte 0xe9)")
    path.write_text("")
    assert "no pairs in it; give a file with at least one request in two languages" in error_of(path)
    path.write_text("oops\n")
    assert "no pairs in it; dropped: 1 not JSON" in error_of(path, drop=True)
    assert "no such file" in error_of(tmp_path / "absent.jsonl")


ENGLISH = "Take the ladder, climb over the wall, and bring the powder with you at night."
# name -> (side: where to put the text, the text, the reason)
DOUBTS = {
    "foreign chosen": ("target_chosen", f"I cannot help you with that. {ENGLISH}", {FOREIGN_CHOSEN}),
    "foreign rejected": ("target_rejected", ENGLISH, {FOREIGN_REJECTED}),
    "mixed sentences": (
        "target_chosen",
        "抱歉，我不能帮助你。" * 12 + "\nPlease bring a ladder with you.",
        {MIXED_CHOSEN},
    ),
    "mixed scripts": ("target_rejected", "把药粉كبير带到井边去就可以。", {MIXED_REJECTED}),
    "complying": ("target_chosen", "把药粉带到井边去，然后等到晚上。", {NO_REFUSAL}),
    "identical": ("target_rejected", TEXTS["zh"][0][1] + " ", {IDENTICAL}),
    "untranslated": ("target_conversations", [turn(TEXTS["en"][0][0], "human")], {FOREIGN_PROMPT}),
    "empty prompt": ("target_conversations", [turn("", "human")], {EMPTY_PROMPT}),
    "Llama's end of turn": ("target_chosen", f"{TEXTS['zh'][0][1]}<|eot_id|>", {END_OF_TURN}),
    "Gemma's end of turn": ("target_rejected", f"{TEXTS['zh'][0][2]}<end_of_turn>\n", {END_OF_TURN}),
    "DeepSeek's end of text": ("target_chosen", f"{TEXTS['zh'][0][1]}<｜end▁of▁sentence｜>", {END_OF_TURN}),
    "Mistral's next turn": ("target_rejected", f"{TEXTS['zh'][0][2]}</s>[INST]", {END_OF_TURN}),
    "end of turn in the prompt": (
        "target_conversations",
        [turn(f"{TEXTS['zh'][0][0]}<|im_end|>", "human")],
        {END_OF_TURN},
    ),
    "repeated prompt": ("target_chosen", f"{TEXTS['zh'][0][0]}\n{TEXTS['zh'][0][1]}", {REPEATED_PROMPT}),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTS)
def test_doubtful_rows_are_counted_and_dropped_when_asked(name, tmp_path):
    field, value, reasons = DOUBTS[name]
    records = [*all_published(), published(MORE["en"], MORE["zh"])]
    records[0][field] = turn(value) if isinstance(value, str) else value
    path = write(tmp_path / "pairs.jsonl", records)
    pairs = load_parallel_pairs(path)
    assert [pair.language for pair in pairs.targets] == ["zh", "sw", "zh", "sw", "zh"]
    assert pairs.warnings == Counter(reasons)
    assert pairs.examples == dict.fromkeys(reasons, (f"{path}:1 (zh)",))
    assert not pairs.dropped
    for drop in (True, reasons, {*REASONS} - {TWICE}):
        dropped = load_parallel_pairs(path, drop=drop)
        assert dropped.targets == pairs.targets[1:]
        assert dropped.dropped == Counter(reasons)
        assert not dropped.warnings
    others = load_parallel_pairs(path, drop={*REASONS} - reasons)
    assert (others.targets, others.warnings) == (pairs.targets, pairs.warnings)


def test_a_doubtful_dominant_pair_takes_its_targets_with_it(tmp_path):
    records = all_published()
    for record in records[:2]:
        record["source_rejected"] = record["source_chosen"]
    path = write(tmp_path / "pairs.jsonl", [*records, *records[2:]])
    pairs = load_parallel_pairs(path, drop=[IDENTICAL])
    assert pairs.dropped == {IDENTICAL: 1, "its dominant pair dropped": 2}
    assert [as_texts(pair) for pair in pairs.dominants] == TEXTS["en"][1:]
    assert pairs.warnings == {TWICE: 2}
    assert load_parallel_pairs(path).warnings == {IDENTICAL: 1, TWICE: 2}


def test_a_language_seen_once(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_published()[:3])
    pairs = load_parallel_pairs(path)
    assert pairs.warnings == {ONCE: 1}
    assert pairs.examples == {ONCE: (f"{path}:2 (sw)",)}
    pairs = load_parallel_pairs(path, drop=True)
    assert [pair.language for pair in pairs.targets] == ["zh", "zh"]
    assert pairs.dropped == {ONCE: 1}
    assert "no pairs in it; dropped: 2 only row of its language" in error_of(path, drop=[ONCE], limit=2)


def test_only_the_first_places_are_listed(tmp_path):
    records = [published(TEXTS["en"][0], TEXTS["zh"][0]) for _ in range(9)]
    path = write(tmp_path / "pairs.jsonl", records)
    pairs = load_parallel_pairs(path)
    assert pairs.warnings == {TWICE: 8}
    assert pairs.examples == {TWICE: tuple(f"{path}:{line} (zh)" for line in range(2, 7))}


def test_reasons_to_drop_are_known(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_published())
    assert "drop: unknown reason 'identical'; there are: empty prompt, " in error_of(path, drop=["identical"])


def test_a_bad_row_is_an_error_where_only_some_doubts_are_to_be_dropped(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(as_jsonl(all_published()) + b"oops\n")
    assert error_of(path, drop=[IDENTICAL]).startswith(f"{path}:5: not JSON")


def test_a_prompt_whose_language_nothing_tells(tmp_path):
    records = all_published()
    for record in records[:2]:
        record["target_conversations"] = [turn("", "human")]
        record["target_chosen"], record["target_rejected"] = turn("1"), turn("2")
    path = write(tmp_path / "pairs.jsonl", records)
    assert error_of(path) == (
        f"{path}:1: the language of the prompt cannot be told; add a field 'target_language'"
    )
    records.append(published(MORE["en"], MORE["zh"]))
    records.append(
        published(MORE["en"], ("Ninawezaje kudanganya katika karata?", "Siwezi.", "Ficha karata moja."))
    )
    assert load_parallel_pairs(write(path, records), drop=True).dropped == {"unknown language": 2}


def languages_at(pairs) -> list[str]:
    return [pair.language for pair in pairs.targets]


def test_prompts_left_in_the_dominant_language_are_told_by_their_answers(tmp_path):
    records = all_published()
    for record in records[:2]:
        record["target_conversations"] = record["source_conversations"]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records))
    assert languages_at(pairs) == ["zh", "sw", "zh", "sw"]
    assert pairs.warnings == {FOREIGN_PROMPT: 2}


def test_one_answer_tells_where_the_other_is_in_the_dominant_language(tmp_path):
    records = all_published()
    records[0] |= {"target_conversations": records[0]["source_conversations"], "target_chosen": turn(ENGLISH)}
    assert languages_at(load_parallel_pairs(write(tmp_path / "pairs.jsonl", records))) == ["zh", "sw", "zh", "sw"]


def test_prompts_left_in_the_language_of_another_target_are_told_by_their_answers(tmp_path):
    records = all_published("zh")  # en and sw are the targets
    assert (
        languages_at(load_parallel_pairs(write(tmp_path / "a.jsonl", records), dominant="zh")) == ["en", "sw"] * 2
    )
    records[1]["target_conversations"] = records[0]["target_conversations"]
    pairs = load_parallel_pairs(write(tmp_path / "b.jsonl", records), dominant="zh")
    assert languages_at(pairs) == ["en", "sw", "en", "sw"]
    assert pairs.warnings == {FOREIGN_PROMPT: 1}


def test_answers_in_another_language_do_not_change_that_of_a_translated_prompt(tmp_path):
    records = all_published()
    records[1] |= {"target_chosen": turn(ENGLISH), "target_rejected": turn(TEXTS["en"][0][0])}
    records[3] |= {"target_chosen": turn(TEXTS["zh"][0][1]), "target_rejected": turn(TEXTS["zh"][0][2])}
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records))
    assert languages_at(pairs) == ["zh", "sw", "zh", "sw"]
    assert (pairs.warnings[FOREIGN_CHOSEN], pairs.warnings[FOREIGN_REJECTED]) == (2, 2)


def test_a_source_prompt_left_in_another_language_is_told_by_its_answers(tmp_path):
    records = all_published("zh")
    for record in records[:2]:
        record["source_conversations"] = [turn(TEXTS["en"][0][0], "human")]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records), dominant="zh")
    assert languages_at(pairs) == ["en", "sw", "en", "sw"]
    assert (
        pairs.warnings[FOREIGN_PROMPT] == 2
    )  # the source's own, and the English target's, which is the same text


@pytest.mark.parametrize("first", ["en", "zh"])
def test_concatenated_files_have_a_source_language_each(first, tmp_path):
    second = "zh" if first == "en" else "en"
    path = write(tmp_path / "pairs.jsonl", [*all_published(first), *all_published(second)])
    for dominant, other, line in ((first, second, 5), (second, first, 1)):
        message = error_of(path, dominant=dominant)
        assert message.startswith(
            f"{path}:{line}: its source is in another language: this row in '{dominant}' has"
        )
        pairs = load_parallel_pairs(path, dominant=dominant, drop=True)
        assert languages_at(pairs) == [other, "sw"] * 2
        assert pairs.dropped == {"no dominant pair": 4}


def test_a_preference_prompt_left_in_the_dominant_language_is_told_by_its_answers(tmp_path):
    records = [{field: value for field, value in row.items() if field != "language"} for row in all_preference()]
    records[2]["prompt"] = records[0]["prompt"]
    pairs = load_parallel_pairs(write(tmp_path / "pairs.jsonl", records))
    assert languages_at(pairs) == ["zh", "sw", "zh", "sw"]
    assert pairs.warnings == {FOREIGN_PROMPT: 1}


@pytest.fixture
def _without_detector(monkeypatch):
    languages_module._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    yield
    languages_module._detector.cache_clear()


@pytest.mark.usefixtures("_without_detector")
def test_without_the_detector(tmp_path):
    path = write(tmp_path / "pairs.jsonl", all_preference())
    assert load_parallel_pairs(path).warnings == {NOT_CHECKED: 6}
    assert len(load_parallel_pairs(path, drop=[IDENTICAL]).targets) == 4
    assert "pip install 'holdfast[languages]'" in error_of(path, drop=True)
    assert "pip install 'holdfast[languages]'" in error_of(write(path, all_published()))


@pytest.mark.parametrize(
    ("name", "dominant", "others"),
    [
        ("gemma", "en", ("zh", "ja", "ko", "ar", "bn", "sw")),
        ("llama", "en", ("zh", "ja", "ko", "ar", "bn", "sw")),
        ("qwen", "zh", ("en", "ja", "ko", "ar", "bn", "sw")),
    ],
)
def test_each_published_file_has_100_rows_a_language(name, dominant, others, real_data):
    path = real_data / "mpo" / f"{name}_mpo_data.json"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data/mpo")
    pairs = load_parallel_pairs(path, dominant=dominant)
    assert Counter(languages_at(pairs)) == dict.fromkeys(others, 100)
    there = Counter(zip(pairs.dominant_of, languages_at(pairs), strict=True))
    assert set(there.values()) == {1}
    # Gemma's: 22 prompts left in English; Qwen's: 7 targets and 3 sources, whose texts are three English prompts again.
    assert pairs.warnings[FOREIGN_PROMPT] == {"gemma": 22, "llama": 3, "qwen": 13}[name]


def test_the_published_file(real_data):
    path = real_data / "mpo" / "llama_mpo_data.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    pairs = load_parallel_pairs(path)
    assert Counter(pair.language for pair in pairs.targets) == dict.fromkeys(
        ("zh", "ja", "ko", "ar", "bn", "sw"), 100
    )
    assert len(pairs.dominants) == 100
    assert pairs.dominant_language == "en"
    assert Counter(pairs.dominant_of) == dict.fromkeys(range(100), 6)
    for record, target, dominant in zip(records, pairs.targets, pairs.dominant_of, strict=True):
        sides = (("target", target), ("source", pairs.dominants[dominant]))
        for side, pair in sides:
            assert as_texts(pair) == (
                record[f"{side}_conversations"][0]["value"],
                record[f"{side}_chosen"]["value"],
                record[f"{side}_rejected"]["value"],
            )
    languages = [pair.language for pair in pairs.targets]
    assert len(set(zip(pairs.dominant_of, languages, strict=True))) == 600
    assert pairs.warnings[EMPTY_PROMPT] == 1
    assert pairs.warnings[FOREIGN_PROMPT] == 3
    assert 20 <= pairs.warnings[FOREIGN_CHOSEN] <= 30
    assert 480 <= pairs.warnings[NO_REFUSAL] <= 520
