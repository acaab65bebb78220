"""Character cards, V1 to V3: JSON, or a PNG picture that carries the JSON in a text chunk.

Specifications: character-card-spec-v2 and character-card-spec-v3 (SillyTavern and others). A card is a text
that someone on the internet wrote: it is read as data, nothing in it is run, and nothing is fetched.
"""

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from holdfast.data.files import shortened
from holdfast.errors import HoldfastError
from holdfast.files import read_bytes
from holdfast.parsing import parse_json

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SPECS = ("chara_card_v2", "chara_card_v3")
_CHUNKS = ("ccv3", "chara")  # the newer one wins where a picture carries both
_MAX_PICTURE_BYTES = 256 * 1024 * 1024
_MAX_TEXT_BYTES = 16 * 1024 * 1024  # a compressed chunk must not blow up


def is_card(content: Any) -> bool:
    """Whether parsed JSON is a character card (V2 and V3 say so; V1 is told by its fields)."""
    if not isinstance(content, dict):
        return False
    return "spec" in content or {"name", "description", "first_mes"} <= content.keys()


def persona_of_card(card: dict[str, Any], path: Path) -> tuple[str, str]:
    """(name, persona prompt) of a card.

    The prompt is the card's system prompt, name, description, personality and scenario, in this order, with
    {{char}} (the nickname, where a V3 card has one) and {{user}} filled in. Greetings, example dialogues and
    lorebooks are not part of who the character is and are left out.
    """
    data = card
    if "spec" in card:
        if card["spec"] not in _SPECS:
            raise HoldfastError(
                f"{path}: field 'spec': unknown {shortened(card['spec'])}; known are {', '.join(_SPECS)}"
            )
        if not isinstance(card.get("data"), dict):
            raise HoldfastError(f"{path}: field 'data' is missing or no object; export the card again")
        data = card["data"]
    name = _field(data, "name", path)
    if not name:
        raise HoldfastError(f"{path}: field 'name' is missing or empty; name the character")
    alias = _field(data, "nickname", path) or name
    system_prompt, description, personality, scenario = (
        _filled(_field(data, field, path), alias)
        for field in ("system_prompt", "description", "personality", "scenario")
    )
    if not (system_prompt or description or personality or scenario):
        raise HoldfastError(f"{path}: fields 'description' and 'personality' are empty; say who the character is")
    parts = [
        system_prompt,
        f"You are {name}.",
        description,
        f"Personality: {personality}" if personality else "",
        f"Scenario: {scenario}" if scenario else "",
    ]
    return name, "\n".join(part for part in parts if part)


def read_png_card(path: Path) -> Any:
    """The card that a PNG picture carries. Raises HoldfastError where it carries none or is damaged."""
    raw = read_bytes(path, "character card", limit=_MAX_PICTURE_BYTES)
    if not raw.startswith(_PNG_SIGNATURE):
        raise HoldfastError(f"{path}: not a PNG picture; give a character card as PNG or JSON")
    found: dict[str, tuple[bytes, bytes]] = {}
    for keyword, kind, rest in _card_chunks(raw, path):
        found[keyword] = kind, rest
    for keyword in _CHUNKS:
        if keyword in found:
            try:
                # Some writers break the lines of the base64 text.
                return parse_json(
                    base64.b64decode(b"".join(_text_of(*found[keyword], path).split()), validate=True)
                )
            except ValueError as error:
                raise HoldfastError(
                    f"{path}: chunk '{keyword}' holds no card ({error}); export the card again"
                ) from None
    raise HoldfastError(
        f"{path}: the picture carries no character card (no chunk 'chara' or 'ccv3'); export it again"
    )


def _field(data: dict[str, Any], field: str, path: Path) -> str:
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise HoldfastError(
            f"{path}: field '{field}': expected a text, found {type(value).__name__}; correct the card"
        )
    return value.strip()


def _filled(text: str, name: str) -> str:
    text = re.sub(r"\{\{original\}\}", "", text, flags=re.IGNORECASE)  # the application's own prompt: we have none
    text = re.sub(r"\{\{char\}\}|<BOT>", lambda _: name, text, flags=re.IGNORECASE)
    return re.sub(r"\{\{user\}\}|<USER>", "the user", text, flags=re.IGNORECASE).strip()


def _card_chunks(raw: bytes, path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """(keyword, kind, rest of the body) of each text chunk that may hold a card; PNG specification, section 11.3.3."""
    position = len(_PNG_SIGNATURE)
    while position < len(raw):
        header = raw[position : position + 8]
        if len(header) < 8:
            raise _damaged(path, "it ends in the middle of a chunk")
        length, kind = struct.unpack(">I4s", header)
        body = raw[position + 8 : position + 8 + length]
        checksum = raw[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise _damaged(path, "it ends in the middle of a chunk")
        keyword, _, rest = body.partition(b"\0")
        if kind in (b"tEXt", b"zTXt", b"iTXt") and keyword.decode("latin-1") in _CHUNKS:
            if struct.unpack(">I", checksum)[0] != zlib.crc32(kind + body):
                raise _damaged(path, f"the checksum of its chunk {kind.decode()} is wrong")
            yield keyword.decode("latin-1"), kind, rest
        if kind == b"IEND":
            return
        position += 12 + length


def _text_of(kind: bytes, rest: bytes, path: Path) -> bytes:
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":  # one byte of compression method, then the text
        return _inflated(rest[1:], path)
    compressed = rest[:1] == b"\x01"  # iTXt: flag, method, language, translated keyword, text
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflated(text, path) if compressed else text


def _inflated(text: bytes, path: Path) -> bytes:
    try:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(text, _MAX_TEXT_BYTES)
    except zlib.error as error:
        raise _damaged(path, str(error)) from None
    if inflater.unconsumed_tail:
        raise _damaged(path, "a text in it is larger than 16 MiB")
    return inflated


def _damaged(path: Path, why: str) -> HoldfastError:
    return HoldfastError(f"{path}: the PNG picture is damaged ({why}); export the card again")
