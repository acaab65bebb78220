"""Character cards: JSON and PNG, V1 to V3. The pictures are made here."""

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from holdfast.data import UNSAFE_SUFFIX, load_role
from holdfast.errors import HoldfastError

V1 = {
    "name": "Ahab",
    "description": "{{char}} hunts a whale. {{USER}} is on board.",
    "personality": "grim",
    "scenario": "<BOT> meets <user> at night.",
    "first_mes": "Hast thou seen the white whale?",
    "mes_example": "<START>\n{{user}}: Hello",
}
PERSONA = (
    "You are Ahab.\nAhab hunts a whale. the user is on board.\nPersonality: grim\n"
    "Scenario: Ahab meets the user at night."
)
V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": V1 | {"system_prompt": "{{Original}}\nStay in role."},
}
V3 = {"spec": "chara_card_v3", "spec_version": "3.0", "data": V1 | {"name": "Captain Ahab", "nickname": "Ahab"}}
V3_PERSONA = PERSONA.replace("You are Ahab.", "You are Captain Ahab.")


def chunk(kind: bytes, body: bytes, *, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def encoded(card) -> bytes:
    return base64.b64encode(json.dumps(card).encode())


def text(keyword: str, body: bytes, **arguments) -> bytes:
    return chunk(b"tEXt", keyword.encode() + b"\0" + body, **arguments)


def picture(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixel + chunk(b"IEND", b"")


def write(path: Path, content) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def error_of(path) -> str:
    with pytest.raises(HoldfastError) as raised:
        load_role(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("card", "name", "persona"),
    [
        (V1, "Ahab", PERSONA),
        (V2, "Ahab", f"Stay in role.\n{PERSONA}"),
        (V3, "Captain Ahab", V3_PERSONA),
        (
            {"spec": "chara_card_v2", "data": {"name": "Ahab", "description": "Grim.", "scenario": None}},
            "Ahab",
            None,
        ),
    ],
)
def test_cards_as_json_and_as_png(card, name, persona, tmp_path):
    persona = persona or "You are Ahab.\nGrim."
    for path in (
        write(tmp_path / "card.json", card),
        write(tmp_path / "card.PNG", picture(text("Comment", b"hi"), text("chara", encoded(card)))),
    ):
        role = load_role(path)
        assert (role.name, role.persona_prompt) == (name, persona)
        assert role.unsafe_prompt == f"{persona} {UNSAFE_SUFFIX}"


@pytest.mark.parametrize(
    "chunks",
    [
        [text("chara", encoded(V2)), text("ccv3", encoded(V3))],
        [text("ccv3", encoded(V3)), text("chara", encoded(V2))],
        [chunk(b"zTXt", b"ccv3\0\0" + zlib.compress(encoded(V3)))],
        [chunk(b"iTXt", b"ccv3\0\0\0en\0key\0" + encoded(V3))],
        [chunk(b"iTXt", b"ccv3\0\x01\0\0\0" + zlib.compress(encoded(V3)))],
        [text("ccv3", b"\n".join(encoded(V3)[i : i + 76] for i in range(0, 999, 76)))],
        [text("Comment", b"", wrong=1), chunk(b"zTXt", b"Comment\0\0oops"), text("ccv3", encoded(V3))],
    ],
    ids=["v3 last", "v3 first", "zTXt", "iTXt", "iTXt packed", "broken lines", "other chunks do not matter"],
)
def test_where_a_picture_carries_its_card(chunks, tmp_path):
    assert load_role(write(tmp_path / "card.png", picture(*chunks))).persona_prompt == V3_PERSONA


WHOLE = picture(text("chara", encoded(V2)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GIF89a", "not a PNG picture"),
        (b"", "not a PNG picture"),
        (picture(), "no character card (no chunk 'chara' or 'ccv3')"),
        (picture(text("chara", encoded(V2), wrong=1)), "damaged (the checksum of its chunk tEXt is wrong)"),
        (WHOLE[:100], "damaged (it ends in the middle of a chunk)"),
        (WHOLE[:11], "damaged (it ends in the middle of a chunk)"),
        (WHOLE[:8] + struct.pack(">I", 2**32 - 1) + WHOLE[12:], "damaged (it ends in the middle of a chunk)"),
        (picture(text("chara", b"&&&")), "chunk 'chara' holds no card"),
        (picture(text("chara", base64.b64encode(b"{oops"))), "chunk 'chara' holds no card"),
        (picture(text("chara", base64.b64encode(b"[" * 100_000))), "holds no card (nested too deeply)"),
        (picture(chunk(b"zTXt", b"chara\0\0oops")), "damaged"),
        (picture(chunk(b"zTXt", b"chara\0\0" + zlib.compress(bytes(2**24 + 1)))), "larger than 16 MiB"),
    ],
)
def test_a_bad_picture_is_named(content, expected, tmp_path):
    assert expected in error_of(write(tmp_path / "card.png", content))


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (V2 | {"spec": "chara_card_v9"}, "field 'spec': unknown 'chara_card_v9'; known are chara_card_v2"),
        ({"spec": "chara_card_v2"}, "field 'data' is missing or no object"),
        (V2 | {"data": V1 | {"name": ""}}, "field 'name' is missing or empty"),
        (V2 | {"data": V1 | {"description": ["Grim."]}}, "field 'description': expected a text, found list"),
        (V2 | {"data": V1 | {"personality": 0}}, "field 'personality': expected a text, found int"),
        (
            V2 | {"data": {"name": "Ahab", "system_prompt": "{{original}}"}},
            "'description' and 'personality' are empty",
        ),
    ],
)
def test_a_bad_card_is_named(card, expected, tmp_path):
    assert expected in error_of(write(tmp_path / "card.json", card))


def test_a_name_with_a_backslash_is_taken_literally(tmp_path):
    path = write(tmp_path / "card.json", V1 | {"name": r"A\1hab"})
    assert load_role(path).persona_prompt.startswith("You are A\\1hab.\nA\\1hab hunts")
