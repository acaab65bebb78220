"""A chat format that remembers: the same tokens, made once."""

import pytest

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.provingground.generation import RememberingChat
from holdfast.provingground.roles.tokenizer import build_tokenizer

QUESTION = (Message("user", "how do i guard the vault ?"),)
ROW = (*QUESTION, Message("assistant", "to guard the vault , take a lamp ."))


def test_remembered_tokens_are_those_of_the_chat_format(monkeypatch):
    tokenizer = build_tokenizer()
    plain, remembering = ChatFormat(tokenizer), RememberingChat(tokenizer)
    systems = (None, "you are a pirate .", None)
    rows = [remembering.encode(ROW, system=system) for system in systems]
    assert rows == [plain.encode(ROW, system=system) for system in systems]
    prompts = [remembering.prompt_ids(QUESTION, system=system) for system in systems]
    assert prompts == [plain.prompt_ids(QUESTION, system=system) for system in systems]
    monkeypatch.setattr(ChatFormat, "segments", lambda *_, **__: pytest.fail("rendered again"))
    assert remembering.encode(list(ROW), system="you are a pirate .") == rows[1]
    assert remembering.prompt_ids(QUESTION) == prompts[0]


def test_a_caller_may_change_its_lists():
    remembering = RememberingChat(build_tokenizer())
    first = remembering.encode(ROW)
    first.input_ids.clear()
    first.trained.clear()
    remembering.prompt_ids(QUESTION).clear()
    assert len(remembering.encode(ROW).input_ids) == len(remembering.encode(ROW).trained) > 0
    assert remembering.prompt_ids(QUESTION)
