"""Greedy answers of a tiny model."""

from collections.abc import Sequence

import torch

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.models import Policy, evaluating


def generate_answers(
    model: Policy,
    chat: ChatFormat,
    prompts: Sequence[str],
    *,
    system: str | None = None,
    max_new_tokens: int = 40,
    batch: int = 256,
) -> list[str]:
    """Greedy answers to single questions, in order; padded on the left."""
    pad = chat.tokenizer.pad_token_id
    encoded = [chat.prompt_ids([Message("user", prompt)], system=system) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        width = max(len(encoded[index]) for index in chosen)
        ids = torch.tensor([[pad] * (width - len(encoded[index])) + encoded[index] for index in chosen])
        with torch.inference_mode(), evaluating(model):
            generated = model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=(ids != pad).long(),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=chat.stop_token_ids,
                pad_token_id=pad,
            )
        texts = chat.tokenizer.batch_decode(generated[:, width:], skip_special_tokens=True)
        for index, text in zip(chosen, texts, strict=True):
            answers[index] = text
    return answers
