"""HEx-PHI: harmful instructions against the use policies of Meta and OpenAI, 30 in each category, in English.

Source: https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI (gated). Licence: the HEx-PHI Dataset License
Agreement. Citation: Qi et al. 2023, arXiv 2310.03693. Scored: whether the model refuses or answers unsafely.
Layout: `category_1.csv` to `category_11.csv`, a prompt a line, some in quotes, without headings. Category 2 (child
abuse) is in the paper's 330 prompts but no longer published: 300 are left. A single file (CSV, JSONL, JSON, Parquet)
with the columns `prompt` or `instruction` and `category` is read as well.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from holdfast.data.fields import text_turn
from holdfast.data.files import BadRowError
from holdfast.errors import HoldfastError
from holdfast.evals.benchmarks.base import Benchmark, BenchmarkOptions, LocatedPrompt
from holdfast.evals.benchmarks.reading import first_of, hub_file, rows_of
from holdfast.files import read_text
from holdfast.samples import Prompt

CATEGORIES = {
    1: "Illegal Activity",
    2: "Child Abuse Content",
    3: "Hate/Harass/Violence",
    4: "Malware",
    5: "Physical Harm",
    6: "Economic Harm",
    7: "Fraud/Deception",
    8: "Adult Content",
    9: "Political Campaigning",
    10: "Privacy Violation Activity",
    11: "Tailored Financial Advice",
}
_PUBLISHED = tuple(number for number in CATEGORIES if number != 2)
_HUB = "LLM-Tuning-Safety/HEx-PHI"
_FILES = ("category_*.csv", "HEx-PHI.jsonl", "HEx-PHI.csv", "hex_phi.jsonl", "hex_phi.csv")
_NAME = re.compile(r"category_(\d+)\.csv", re.IGNORECASE)


def _read(options: BenchmarkOptions) -> Iterator[LocatedPrompt]:
    if options.data is None:
        return _of_categories(hub_file(_HUB, f"category_{number}.csv") for number in _PUBLISHED)
    path = Path(options.data)
    if path.is_dir():
        for folder in (path, path / "hex_phi"):
            files = [file for file in folder.glob("category_*.csv") if _NAME.fullmatch(file.name)]
            if files:
                return _of_categories(sorted(files, key=_number))
        found = first_of(path, "hex_phi", _FILES[1:])
        if found is None:
            raise HoldfastError(
                f"{path}: there is none of {', '.join(_FILES)} here or in hex_phi/; put the files there, or name one"
            )
        return _of_table(found)
    if _NAME.fullmatch(path.name) and path.is_file():
        return _of_categories([path])
    return _of_table(options.data)


def _of_table(source: str | Path) -> Iterator[LocatedPrompt]:
    for row in rows_of(source):
        text = row.text("prompt", "instruction")
        yield row.location, Prompt(str(row.number), text, "harmful", "en", row.label("category"))


def _of_categories(files: Iterable[Path]) -> Iterator[LocatedPrompt]:
    for path in files:
        number = _number(path)
        if number not in CATEGORIES:
            raise HoldfastError(f"{path}: category {number} is not one of 1 to 11; rename or remove the file")
        for index, (location, text) in enumerate(_lines(path)):
            yield location, Prompt(f"{number}-{index}", text, "harmful", "en", CATEGORIES[number])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place, prompt) of each line. Not read as CSV: commas stand outside of quotes and there are no headings."""
    lines = read_text(path, "file of prompts").splitlines()
    if lines and lines[0].strip().strip('"').lower() in ("prompt", "instruction"):  # copies with a heading
        lines[0] = ""
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1].replace('""', '"')
        try:
            yield f"{path}:{number}", text_turn(text, "prompt", "user").content
        except BadRowError as error:
            raise HoldfastError(f"{path}:{number}: {error.detail}") from None


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    if match is None:  # a link of the hub's cache keeps the name, so this is a programming error
        raise ValueError(path.name)
    return int(match[1])


HEX_PHI = Benchmark(
    name="hex_phi",
    title="HEx-PHI",
    source="https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI",
    licence="HEx-PHI Dataset License Agreement (gated)",
    citation="Qi et al. 2023, arXiv 2310.03693",
    scored="refusals of harmful instructions, or unsafe answers to them",
    metric="safety",
    prompts="300 (330 in the paper)",
    languages=("en",),
    hub=_HUB,
    folder="hex_phi",
    files=_FILES,
    ids="category number and number of the line from 0 (`4-0`); number of the row in a single file",
    read=_read,
)
