"""The settings of each training recipe: one checked class per method."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from holdfast.config import Config

Span = Literal["response", "sequence"]

# What the published code does where it differs from our defaults; docs/deviations.md explains each line.
OFFICIAL: dict[str, Any] = {
    "ce_normaliser": "sequence",
    "kl_span": "sequence",
    "kl_direction": "forward",
    "safe_loss": "kl",
    "system_prompt": "",
    "end_of_turn": "eos",
    "fold_separator": " ",
    "long_prompts": "keep_start",
}


RANKED = ("seal", "bi_selection", "gradient", "persona_vector")  # selectors that give every row a score


class TrainingConfig(Config):
    """What every training recipe needs."""

    model: str = Field(description="model to fine-tune: a directory, or a hub id; an aligned chat model")
    data: str = Field(description="training rows: a JSON, JSONL, CSV or Parquet file, or a hub id")
    data_split: str = Field("train", description="split of a hub data set")
    eval_data: str | None = Field(None, description="rows to report the loss on after each epoch")
    drop_bad_rows: bool = Field(False, description="drop and count bad rows instead of stopping at the first")
    output_dir: Path = Field(description="where the result goes; a run that was killed there is continued")
    overwrite: bool = Field(False, description="start anew although output_dir holds a run")

    tuning: Literal["lora", "qlora", "full"] = Field(
        "lora", description="what is trained: adapters, adapters on a 4-bit base, or every weight"
    )
    lora_rank: int = Field(32, gt=0, description="rank of the adapters (paper: 32)")
    lora_alpha: int = Field(64, gt=0, description="scale of the adapters is alpha / rank (paper: 64)")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters (paper: 0)")
    dropout: bool = Field(
        False, description="keep the dropout that the model's own config sets; false: off in training"
    )
    lora_target_modules: tuple[str, ...] = Field(
        ("q_proj", "v_proj"),
        description="layers that get adapters (paper); [all-linear] is every linear layer but the head; a fused layer "
        "(qkv_proj) stands for the ones it holds",
    )
    start_adapter: Literal["merge", "continue"] = Field(
        "merge",
        description="where `model` is an adapter: merge it into its base, train on that, and save a whole model; or "
        "continue training that adapter, held to the model as the adapter left it",
    )

    learning_rate: float | None = Field(None, gt=0, description="default: 1e-4 with adapters, 2e-5 full (paper)")
    lr_scheduler: str = Field("constant", description="learning rate schedule of transformers (paper: constant)")
    warmup_steps: float = Field(0, ge=0, description="optimiser steps of warm-up, or a share of all steps below 1")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient norm is clipped to this")
    epochs: float = Field(1, gt=0, description="passes over the data (paper: 1)")
    per_device_batch_size: int = Field(4, gt=0, description="rows in a forward pass on each device")
    gradient_accumulation_steps: int = Field(8, gt=0, description="forward passes in an optimiser step")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="type the weights are loaded in; auto: as they are stored. With tuning full they are trained and "
        "saved in float32, unless DeepSpeed keeps them in float32 beside bfloat16",
    )
    bf16: bool = Field(False, description="compute in bfloat16 (mixed precision)")
    deepspeed: Path | None = Field(None, description="DeepSpeed config file, for example configs/zero2.json")
    training_arguments: dict[str, Any] = Field(
        {}, description="anything else transformers.TrainingArguments takes"
    )

    max_prompt_tokens: int = Field(512, gt=0, description="tokens before the first trained one (paper: 512)")
    max_response_tokens: int = Field(128, gt=0, description="tokens from the first trained one on (paper: 128)")
    long_prompts: Literal["drop", "keep_start", "keep_end"] = Field(
        "drop", description="what becomes of a longer prompt: the row is dropped, or cut"
    )
    system_prompt: str | None = Field(None, description="system text in training; null leaves the row's own")
    end_of_turn: Literal["template", "eos"] = Field(
        "template", description="what an answer ends with: what the chat template writes, or eos"
    )
    fold_separator: str = Field(
        "\n\n", description="joins the persona and the first user turn where the template has no system role"
    )
    chat_template: Path | None = Field(None, description="Jinja file for a tokenizer without a chat template")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")

    score_batch_size: int = Field(16, gt=0, description="rows in a forward pass while scoring")

    seed: int = Field(42, ge=0, lt=2**32, description="of data order, adapters and random selection")
    logging_steps: int = Field(5, gt=0, description="optimiser steps between two log lines")
    save_steps: int = Field(50, gt=0, description="optimiser steps between two checkpoints; the last two are kept")
    report_to: tuple[str, ...] = Field(
        (), description="trackers that transformers knows, for example [tensorboard]"
    )
    cache_dir: Path | None = Field(
        None, description="where reference values are kept; default $HOLDFAST_CACHE or ~/.cache/holdfast"
    )

    @property
    def resolved_learning_rate(self) -> float:
        """The given rate, or the paper's for this kind of tuning."""
        return self.learning_rate or (2e-5 if self.tuning == "full" else 1e-4)


class SaRFTConfig(TrainingConfig):
    """Settings of `holdfast train-sarft`: Safety-Aware Role-Play Fine-Tuning (arXiv 2502.20968)."""

    role: Path = Field(description="the role: YAML or JSON, a file of many roles, or a character card (JSON, PNG)")
    role_name: str | None = Field(
        None,
        description="which role, where the file holds many; where the rows have a "
        "role column, only this role's are trained",
    )
    preset: Literal["holdfast", "official"] = Field(
        "holdfast", description="defaults of the switches below: ours, or what the published code does"
    )
    selector: Literal[
        "rds",
        "all",
        "none",
        "random",
        "flip",
        "column",
        "seal",
        "bi_selection",
        "gradient",
        "persona_vector",
    ] = Field(
        "rds",
        description="which rows are flagged: rds the paper's rule, all, none (plain fine-tuning), random as many as "
        "rds flags, flip those it does not, column the data's own `harmful`; the others rank the rows and flag the top "
        "`selected_share`: seal, bi_selection, gradient, persona_vector; docs/methods.md",
    )
    selected_share: float | None = Field(
        None, gt=0, lt=1, description="share of the rows that a ranking selector flags; null: as many as rds flags"
    )
    selector_settings: dict[str, Any] = Field(
        {}, description="a ranking selector's own settings, for example {epochs: 6}; docs/methods.md"
    )
    flagged_rows: Literal["anchor", "drop"] = Field(
        "anchor",
        description="what becomes of flagged rows: anchored to the aligned model, or left out of the training",
    )
    beta: float = Field(0.5, ge=0, description="weight of the divergence from the aligned model (published: 0.5)")
    ce_normaliser: Span = Field(
        "response", description="a row's cross-entropy is divided by its trained tokens, or all its tokens"
    )
    kl_span: Span = Field(
        "response", description="positions of the divergence: those that predict a trained token, or all"
    )
    kl_direction: Literal["forward", "reverse"] = Field(
        "forward", description="forward KL(reference || policy), reverse KL(policy || reference)"
    )
    safe_loss: Literal["kl", "mse"] = Field(
        "kl", description="divergence: KL, or squared difference of probabilities"
    )

    kl_first_tokens: int | None = Field(
        None, gt=0, description="only the first so many positions of a row's span are anchored; null: all (ours)"
    )
    reference_top_k: int | None = Field(
        None,
        gt=0,
        description="keep the aligned model's so many likeliest tokens of each anchored position on disk, instead of "
        "a copy of it in memory (full) or a second forward (adapters); null: the whole distribution (ours)",
    )

    safety_data: str | None = Field(
        None,
        description="conversations in which harmful requests are refused (holdfast draw-refusals makes some); formats "
        "as for `data`; for seal, bi_selection, safety_share and frozen_layers auto",
    )
    unsafe_data: str | None = Field(
        None, description="conversations in which harmful requests are answered; for bi_selection and gradient"
    )
    safety_share: float = Field(
        0.0, ge=0, description="so many rows of safety_data are trained besides, as a share of the role's rows"
    )
    role_loss: Literal["cross_entropy", "constrained"] = Field(
        "cross_entropy",
        description="loss of a row's answer: cross-entropy, or constrained SFT, which holds the first tokens back",
    )
    answer_preview: Literal["none", "real", "virtual"] = Field(
        "none",
        description="LookAhead: the prompts of training preview the answer's first tokens (real), or a fixed beginning "
        "that the answers get too (virtual)",
    )
    preview_tokens: int = Field(6, gt=0, description="tokens of the answer in a real preview (published: 6)")
    preview_prefix: str = Field(
        "Let's solve this problem. ",
        description="the fixed beginning of a virtual preview, with its last space (published)",
    )
    frozen_layers: Literal["auto"] | tuple[int, int] | None = Field(
        None,
        description="SPPFT: layers that are not trained, [first, last] counted from 0; auto finds the safety layers "
        "(needs safety_data)",
    )
    perturbation: float = Field(
        0.0,
        ge=0,
        description="Vaccine: norm rho of the perturbation of the hidden embeddings; doubles a step's cost",
    )
    proximal_weight: float = Field(
        0.0,
        ge=0,
        description="Lisa's term: weight / 2 times the squared distance of the weights from the aligned ones",
    )
    projection: Literal["none", "safe_lora"] = Field(
        "none", description="what is done to the update after training: safe_lora projects the least safe layers"
    )
    unaligned_model: str | None = Field(
        None, description="the model before its alignment, same shape as `model`; for projection safe_lora"
    )
    projection_threshold: float = Field(
        0.5,
        ge=0,
        le=1,
        description="safe_lora: layers whose update is less similar to its projection than this are projected",
    )
    projected_layers: int | None = Field(
        None, gt=0, description="safe_lora: project the so many least similar layers, whatever the threshold"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """The preset's values stand where the user gave none."""
        if isinstance(values, dict) and values.get("preset") == "official":
            return OFFICIAL | values
        return values

    @model_validator(mode="after")
    def _check_needs(self) -> "SaRFTConfig":
        """What a chosen method cannot do without; told before a model is loaded."""
        asked = "conversations in which harmful requests are"
        safety, unsafe = f"{asked} refused", f"{asked} answered"
        for what, chosen, field, meaning in (
            (f"selector {self.selector}", self.selector in ("seal", "bi_selection"), "safety_data", safety),
            (f"selector {self.selector}", self.selector in ("bi_selection", "gradient"), "unsafe_data", unsafe),
            ("safety_share", self.safety_share > 0, "safety_data", safety),
            ("frozen_layers auto", self.frozen_layers == "auto", "safety_data", safety),
        ):
            if chosen and getattr(self, field) is None:
                raise ValueError(f"{what} needs {field}: {meaning}")
        if self.selector_settings and self.selector not in RANKED:
            raise ValueError(
                f"selector {self.selector} has no selector_settings; these are for {', '.join(RANKED)}"
            )
        if self.projection != "none" and self.unaligned_model is None:
            raise ValueError(f"projection {self.projection} needs unaligned_model: the model before its alignment")
        anchored = self.selector != "none" and self.flagged_rows == "anchor" and self.beta > 0
        if self.role_loss == "constrained" and anchored:
            raise ValueError("role_loss constrained has no divergence to anchor with; set selector to none")
        if self.reference_top_k is not None and self.safe_loss == "mse":
            raise ValueError("safe_loss mse needs the whole distribution; set reference_top_k to null")
        if isinstance(self.frozen_layers, tuple) and not 0 <= self.frozen_layers[0] <= self.frozen_layers[1]:
            raise ValueError(f"frozen_layers {list(self.frozen_layers)}: give [first, last], counted from 0")
        return self


class PairsConfig(TrainingConfig):
    """What training on parallel preference pairs needs, by whatever loss."""

    data: str = Field(
        description="parallel preference pairs: a JSON, JSONL, CSV or Parquet file, or a hub id; docs/data_formats.md"
    )
    dominant_language: str = Field("en", description="ISO 639-1 code of the language the model refuses best in")
    target_languages: tuple[str, ...] = Field((), description="train these only; default: all that the data has")
    drop_flagged_pairs: bool = Field(
        False, description="leave out pairs that the language and refusal checks warn of, instead of counting them"
    )

    learning_rate: float | None = Field(
        None, gt=0, description="default: 6e-7 full (paper, Llama-3.1 and Qwen2.5), 1e-5 with adapters (ours)"
    )
    lr_scheduler: str = Field("cosine", description="learning rate schedule of transformers (paper: cosine)")
    warmup_steps: float = Field(
        0.1, ge=0, description="optimiser steps of warm-up, or a share of all steps below 1 (paper: 0.1)"
    )
    epochs: float = Field(2, gt=0, description="passes over the data (paper: 2)")
    per_device_batch_size: int = Field(1, gt=0, description="pairs in a forward pass on each device (paper: 1)")
    max_response_tokens: int = Field(512, gt=0, description="tokens of an answer (paper: 1,024 with the prompt)")

    @property
    def resolved_learning_rate(self) -> float:
        """The given rate, or the default for this kind of tuning."""
        return self.learning_rate or (6e-7 if self.tuning == "full" else 1e-5)


# What MPO's published code does where it differs from our defaults; docs/deviations.md explains each line.
OFFICIAL_MPO: dict[str, Any] = {"retention": "padded_mean", "long_prompts": "keep_start", "end_of_turn": "eos"}


class MPOConfig(PairsConfig):
    """Settings of `holdfast train-mpo`: Multilingual reward gaP Optimization (arXiv 2505.16869)."""

    preset: Literal["holdfast", "official"] = Field(
        "holdfast", description="defaults of the switches below: ours, or what the published code does"
    )
    beta: float = Field(
        1.0, gt=0, description="scale of the target languages' reward gap (paper: 1.0 Llama, 1.5 Gemma and Qwen)"
    )
    retention: Literal["last", "mean", "padded_mean", "none"] = Field(
        "last",
        description="what is held of the dominant language: the hidden state of the prompt's last token, the mean "
        "over both answers (without padding, or with it as the published code), nothing",
    )
    retention_weight: float = Field(1.0, ge=0, description="weight of that term (published: 1)")
    length_normalise: bool = Field(True, description="mean instead of summed log-probabilities (paper: yes)")
    gap: Literal["simpo", "dpo"] = Field(
        "simpo", description="plain reward gap, or relative to the reference's (the paper's ablation)"
    )
    huber_delta: float | None = Field(
        None, gt=0, description="errors of the gap beyond this count linearly; null squares all (paper)"
    )
    one_sided: bool = Field(False, description="only gaps that are too small count as errors (ours; paper: both)")
    retention_data: str | None = Field(
        None,
        description="conversations, benign ones in the target languages, whose prompts are held besides the dominant "
        "ones; formats as for train-sarft (ours)",
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """The preset's values stand where the user gave none."""
        if isinstance(values, dict) and values.get("preset") == "official":
            return OFFICIAL_MPO | values
        return values


class PreferenceConfig(PairsConfig):
    """Settings of `holdfast train-preference`: the baselines of MPO, on the same data and forward pass."""

    loss: Literal["sft", "dpo", "ipo", "robust_dpo", "cpo", "kto", "orpo", "r_dpo", "simpo"] = Field(
        description="the loss; docs/preference_losses.md has each one's equation, source and weights"
    )
    loss_weights: dict[str, float] = Field({}, description="the loss's weights, for example {beta: 0.1}")
