"""Two-layer models of the real architectures, with byte-level tokenizers and the published chat templates."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA2_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
QWEN25_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or (message.role == "
    "'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN3_TEMPLATE = (  # the parts that matter here: a think block in the last assistant turn only
    "{%- for message in messages %}{%- if message.role == 'assistant' %}{%- set content = message.content %}"
    "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>assistant\n' }}{%- if loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{- content + '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + "
    "'<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

_CORPUS = [
    "The quick brown fox jumps over the lazy dog. Who are you? I am the keeper of the lighthouse, and I answer.",
    "Tell me about your home. Ha! My home is the sea, and the storm is my brother. What do you want from me?",
    "You are a helpful assistant. Please answer the question truthfully and stay in character at all times.",
]


@dataclass(frozen=True)
class Architecture:
    """How to build one tiny model and its tokenizer."""

    special_tokens: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str
    template: str
    build: Callable[[int], PreTrainedModel]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A byte-level BPE tokenizer with this architecture's special tokens and template."""
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(self.special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(_CORPUS, trainer)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token=self.bos, eos_token=self.eos, pad_token=self.pad
        )
        tokenizer.add_special_tokens({"additional_special_tokens": list(self.special_tokens)})
        tokenizer.chat_template = self.template
        return tokenizer

    def model(self, seed: int = 0) -> PreTrainedModel:
        """A random model; weights large enough that its predictions are far from uniform."""
        torch.manual_seed(seed)
        model = self.build(len(self.tokenizer()))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)
        return model.eval()


_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "attn_implementation": "eager",
}


def _llama(vocab_size: int) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **_SMALL))


def _gemma2(vocab_size: int) -> PreTrainedModel:
    # Soft-capping low and a window short enough to bind, so that both are in play.
    config = Gemma2Config(
        vocab_size=vocab_size,
        head_dim=8,
        final_logit_softcapping=5.0,
        sliding_window=64,
        query_pre_attn_scalar=8,
        **_SMALL,
    )
    return Gemma2ForCausalLM(config)


def _qwen2(vocab_size: int) -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocab_size, **_SMALL))


_LLAMA3_TOKENS = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|pad|>")
_GEMMA2_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

ARCHITECTURES = {
    "llama3": Architecture(_LLAMA3_TOKENS, "<|begin_of_text|>", "<|eot_id|>", "<|pad|>", LLAMA3_TEMPLATE, _llama),
    "gemma2": Architecture(_GEMMA2_TOKENS, "<bos>", "<eos>", "<pad>", GEMMA2_TEMPLATE, _gemma2),
    "qwen2.5": Architecture(_QWEN_TOKENS, None, "<|im_end|>", "<|endoftext|>", QWEN25_TEMPLATE, _qwen2),
}
QWEN3 = Architecture(_QWEN_TOKENS, None, "<|im_end|>", "<|endoftext|>", QWEN3_TEMPLATE, _qwen2)
