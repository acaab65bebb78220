"""`holdfast show-template`: see what a model is shown and which tokens are trained, before paying for a run."""

from pathlib import Path

from rich.rule import Rule
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from holdfast.chat import ChatFormat, EncodedRow, EndOfTurn
from holdfast.data import RoleRow, load_role, load_role_rows
from holdfast.errors import HoldfastError
from holdfast.escaping import printable
from holdfast.models import load_tokenizer
from holdfast.recipes.terminal import count, out, warn_of_unknown_tokens

TRAINED_STYLE = "bold black on green"
RULE_WIDTH = 80  # characters, where the terminal is no narrower


def show_template(
    model: str,
    data: str,
    *,
    rows: int,
    system_prompt: str | None,
    role: Path | None,
    role_name: str | None,
    end_of_turn: EndOfTurn,
    chat_template: Path | None,
    trust_remote_code: bool,
) -> None:
    """Print the template's facts and the first rows, trained tokens marked.

    With a role, rows are shown as scoring shows them: under the persona prompt.
    """
    tokenizer = load_tokenizer(model, chat_template=chat_template, trust_remote_code=trust_remote_code)
    chat = ChatFormat(tokenizer, end_of_turn=end_of_turn)
    system = load_role(role, role_name).persona_prompt if role is not None else system_prompt
    for name, fact in template_facts(chat).items():
        out.print(f"{name:<22} {fact}", highlight=False)
    shown = load_role_rows(data, limit=rows)
    warn_of_unknown_tokens(chat, (row.messages for row in shown))
    for row in shown:
        encoded = _encode(chat, row, system)
        trained = sum(encoded.trained)
        title = Text(f"{row.location}: {count(len(encoded.input_ids), 'token')}, {trained:,} trained")
        out.print(Rule(title), width=min(out.width, RULE_WIDTH))
        out.print(marked(tokenizer, encoded), soft_wrap=True)


def template_facts(chat: ChatFormat) -> dict[str, str]:
    """What the probing found, as name -> text."""
    end = chat.end_of_turn_text.encode("unicode_escape").decode()
    return {
        "system role": "yes" if chat.supports_system else "no: the persona is folded into the first user turn",
        "default system turn": repr(chat.default_system) if chat.default_system is not None else "none",
        "end of turn": f"{end} {chat.end_of_turn_ids}",
        "generation stops at": str(chat.stop_token_ids),
    }


def marked(tokenizer: PreTrainedTokenizerBase, encoded: EncodedRow) -> Text:
    """The tokens as text, trained ones in a style of their own and, for terminals without, in ⟦ ⟧."""
    text = Text()
    start = 0
    for end in range(1, len(encoded.trained) + 1):
        if end < len(encoded.trained) and encoded.trained[end] == encoded.trained[start]:
            continue
        piece = printable(str(tokenizer.decode(encoded.input_ids[start:end])))
        text.append(
            f"⟦{piece}⟧" if encoded.trained[start] else piece, TRAINED_STYLE if encoded.trained[start] else "dim"
        )
        start = end
    return text


def _encode(chat: ChatFormat, row: RoleRow, system: str | None) -> EncodedRow:
    try:
        return chat.encode(row.messages, system=system)
    except HoldfastError as error:
        raise HoldfastError(f"{row.location}: {error}") from None
