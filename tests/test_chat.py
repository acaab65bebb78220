import pytest

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from tests.architectures import ARCHITECTURES, QWEN3

QUESTION, ANSWER = Message("user", "Who are you?"), Message("assistant", "I am the keeper.")
TWO_TURNS = (QUESTION, ANSWER, Message("user", "Why?"), Message("assistant", "Ha! The sea."))
END = {"llama3": "<|eot_id|>", "gemma2": "<end_of_turn>", "qwen2.5": "<|im_end|>"}


def trained_text(tokenizer, encoded) -> str:
    return tokenizer.decode([t for t, kept in zip(encoded.input_ids, encoded.trained, strict=True) if kept])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_prompt_tokens_are_the_template_s_own_generation_prompt(name):
    tokenizer = ARCHITECTURES[name].tokenizer()
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION.content}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    chat = ChatFormat(tokenizer)
    assert chat.prompt_ids([QUESTION]) == expected
    encoded = chat.encode([QUESTION, ANSWER])
    assert encoded.input_ids[: encoded.prompt_tokens] == expected
    assert trained_text(tokenizer, encoded) == "I am the keeper." + END[name]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_assistant_turn_is_trained_with_its_end(name):
    tokenizer = ARCHITECTURES[name].tokenizer()
    encoded = ChatFormat(tokenizer).encode(TWO_TURNS)
    assert trained_text(tokenizer, encoded) == f"I am the keeper.{END[name]}Ha! The sea.{END[name]}"
    chat = [{"role": turn.speaker, "content": turn.content} for turn in TWO_TURNS]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole.startswith(tokenizer.decode(encoded.input_ids))
    assert whole.removeprefix(tokenizer.decode(encoded.input_ids)).strip() == ""


def test_system_roles():
    facts = {name: ChatFormat(a.tokenizer()) for name, a in ARCHITECTURES.items()}
    assert {name: chat.supports_system for name, chat in facts.items()} == {
        "llama3": True,
        "gemma2": False,
        "qwen2.5": True,
    }
    assert facts["llama3"].default_system is None
    assert (
        facts["qwen2.5"].default_system == "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    )


def test_persona_is_folded_into_the_first_user_turn_where_there_is_no_system_role():
    tokenizer = ARCHITECTURES["gemma2"].tokenizer()
    rendered = tokenizer.decode(ChatFormat(tokenizer).encode(TWO_TURNS, system="You are Ahab.").input_ids)
    assert rendered.startswith("<bos><start_of_turn>user\nYou are Ahab.\n\nWho are you?<end_of_turn>\n")
    assert rendered.count("You are Ahab.") == 1
    spaced = ChatFormat(tokenizer, fold_separator=" ").encode(TWO_TURNS, system="You are Ahab.").input_ids
    assert "You are Ahab. Who are you?" in tokenizer.decode(spaced)


def test_a_given_system_text_replaces_the_row_s_own_and_none_keeps_it():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    chat = ChatFormat(tokenizer)
    row = (Message("system", "Be brief."), QUESTION, ANSWER)
    assert "Be brief." in tokenizer.decode(chat.encode(row).input_ids)
    replaced = tokenizer.decode(chat.encode(row, system="You are Ahab.").input_ids)
    assert "Be brief." not in replaced
    assert "You are Ahab." in replaced


def test_an_empty_system_text_silences_qwen_s_default():
    tokenizer = ARCHITECTURES["qwen2.5"].tokenizer()
    rendered = tokenizer.decode(ChatFormat(tokenizer).encode((QUESTION, ANSWER), system="").input_ids)
    assert "Qwen" not in rendered
    assert rendered.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n")


def test_end_of_turn_is_not_eos_on_gemma():
    tokenizer = ARCHITECTURES["gemma2"].tokenizer()
    ours, published = ChatFormat(tokenizer), ChatFormat(tokenizer, end_of_turn="eos")
    assert trained_text(tokenizer, ours.encode((QUESTION, ANSWER))).endswith("<end_of_turn>")
    assert trained_text(tokenizer, published.encode((QUESTION, ANSWER))).endswith("keeper.<eos>")
    assert set(ours.stop_token_ids) == set(tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"]))
    assert published.stop_token_ids == ours.stop_token_ids


def test_published_end_of_turn_keeps_the_answer_untrimmed():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    row = (QUESTION, Message("assistant", " Aye. "))
    assert trained_text(tokenizer, ChatFormat(tokenizer).encode(row)) == "Aye.<|eot_id|>"
    assert trained_text(tokenizer, ChatFormat(tokenizer, end_of_turn="eos").encode(row)) == " Aye. <|eot_id|>"


def test_think_blocks_are_prompt_not_answer():
    tokenizer = QWEN3.tokenizer()
    encoded = ChatFormat(tokenizer).encode(TWO_TURNS)
    assert trained_text(tokenizer, encoded) == "I am the keeper.<|im_end|>Ha! The sea.<|im_end|>"
    assert tokenizer.decode(encoded.input_ids).count("<think>") == 1


def test_text_that_the_template_rewrites_is_refused():
    chat = ChatFormat(QWEN3.tokenizer())
    with pytest.raises(HoldfastError, match="rewrites"):
        chat.encode((QUESTION, Message("assistant", "<think>hm</think>\nAye.")))


def test_template_that_rejects_a_conversation_says_so():
    chat = ChatFormat(ARCHITECTURES["gemma2"].tokenizer())
    with pytest.raises(HoldfastError, match="must alternate"):
        chat.encode((QUESTION, QUESTION, ANSWER))


def test_tokenizer_without_template_is_refused():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(HoldfastError, match="no chat template"):
        ChatFormat(tokenizer)


def test_template_without_any_end_of_turn_gets_eos():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    encoded = ChatFormat(tokenizer).encode((QUESTION, ANSWER))
    assert trained_text(tokenizer, encoded) == "I am the keeper.<|eot_id|>"


def test_special_tokens_inside_content_do_not_move_the_answer():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    row = (Message("user", "Say mark and assistant and <|eot_id|>"), Message("assistant", "a"))
    assert trained_text(tokenizer, ChatFormat(tokenizer).encode(row)) == "a<|eot_id|>"


def test_fingerprint_changes_with_the_template_only():
    tokenizer = ARCHITECTURES["llama3"].tokenizer()
    first = ChatFormat(tokenizer).fingerprint()
    assert ChatFormat(ARCHITECTURES["llama3"].tokenizer()).fingerprint() == first
    tokenizer.chat_template += "\n"
    assert ChatFormat(tokenizer).fingerprint() != first
