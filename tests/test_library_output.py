"""Our own lines stand alone unless --verbose asks for what libraries print."""

import json
import subprocess
import sys

import pytest

from tests.conftest import save


@pytest.fixture
def command(llama, tmp_path):
    rows = [[{"role": "user", "content": "a boat ?"}, {"role": "assistant", "content": "no , never ."}]] * 4
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    (tmp_path / "role.yaml").write_text("name: Bram\npersona_prompt: a hunter\n")
    (tmp_path / "c.yaml").write_text(
        f"model: {save(llama, tmp_path / 'model')}\ndata: {tmp_path / 'rows.jsonl'}\nrole: {tmp_path / 'role.yaml'}\n"
        f"output_dir: {tmp_path / 'run'}\nlogging_steps: 1\nper_device_batch_size: 2\n"
        "gradient_accumulation_steps: 1\n"
    )
    return [sys.executable, "-m", "holdfast", "train-sarft", str(tmp_path / "c.yaml")]


def test_libraries_are_quiet_and_speak_when_asked(command):
    quiet = subprocess.run(command, capture_output=True, text=True, check=True)
    shown = quiet.stdout + quiet.stderr
    for mark in ("Loading weights", "transformers", "it/s", "\r", "\x1b", "{'loss'"):
        assert mark not in shown
    assert "step 1 of 2: loss " in quiet.stderr
    asked = subprocess.run(
        [*command, "--verbose", "--overwrite", "true"], capture_output=True, text=True, check=True
    )
    assert "transformers" in asked.stderr
