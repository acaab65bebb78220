"""Running the grid's cells as commands, and writing and printing what came of them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from holdfast.escaping import directory_name, latex, markdown
from holdfast.files import write_text
from holdfast.recipes.table.cells import Cell, Step, check
from holdfast.recipes.table.grid import Outcome, run_grid
from holdfast.recipes.table.process import Child, locked
from holdfast.recipes.terminal import note, out
from holdfast.report.table import TableData, folded, to_csv, to_latex, to_markdown, to_rich
from holdfast.results import Figure, write_figures


def run_cells(directory: Path, cells: Sequence[Cell], *, launch: Sequence[str], jobs: int) -> dict[str, Outcome]:
    """Run what is not done yet, each step as the command that a user could type; `launch` goes before the trainings.

    Raises HoldfastError where the directory holds other cells under these names, or somebody else works in it.
    """
    with locked(directory) as lock:
        for cell in cells:
            check(cell)

        def start(cell: Cell, step: Step) -> Child:
            launched = bool(launch) and step.name == "train"
            python = list(launch) if launched else [sys.executable]
            return Child([*python, "-m", "holdfast", *step.arguments], cell.log, lock=lock, launcher=launched)

        return run_grid(cells, start, jobs=jobs, report=note)


def failures(outcomes: Mapping[str, Outcome]) -> dict[tuple[str, str], str]:
    """By method and group, why a cell of theirs failed."""
    failed = [outcome for outcome in outcomes.values() if outcome.state == "failed"]
    return {(outcome.cell.method, outcome.cell.group): outcome.reason for outcome in failed}


def write_tables(
    directory: Path,
    title: str,
    about: str,
    figures: Sequence[Figure],
    tables: Mapping[str, TableData],
    outcomes: Mapping[str, Outcome],
) -> None:
    """Print the tables; write results.jsonl, table.md, table.tex, and a CSV file a table (the first is table.csv)."""
    write_figures(directory / "results.jsonl", figures)
    failed = [outcome for outcome in outcomes.values() if outcome.state == "failed"]
    write_text(directory / "table.md", _markdown(title, about, tables, failed))
    write_text(directory / "table.tex", _latex(about, tables))
    for number, (heading, table) in enumerate(tables.items()):
        title = heading.lower().replace(",", "").replace(" ", "_")
        name = "table" if number == 0 else f"table_{directory_name(title)}"
        write_text(directory / f"{name}.csv", to_csv(table))
        out.print(Text(f"\n{heading}", style="bold"))
        for part in folded(table, out.width):
            out.print(to_rich(part))
    for outcome in failed:
        note(f"failed: {outcome.cell.name}: {outcome.reason}; {outcome.log}")
    if failed:
        note("the same command tries again what failed")
    note(f"tables: {directory / 'table.md'}, table.csv, table.tex; figures: {directory / 'results.jsonl'}")


def _markdown(title: str, about: str, tables: Mapping[str, TableData], failed: Sequence[Outcome]) -> str:
    parts = [f"# {markdown(title)}", markdown(about)]
    for heading, table in tables.items():
        parts += [f"## {markdown(heading)}", to_markdown(table).rstrip()]
    if failed:
        listed = [
            "- " + ": ".join(map(markdown, (outcome.cell.name, str(outcome.log), outcome.reason)))
            for outcome in failed
        ]
        parts += ["## Failed", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def _latex(about: str, tables: Mapping[str, TableData]) -> str:
    parts = [f"% {latex(about)}", *(f"% {latex(heading)}\n{to_latex(table)}" for heading, table in tables.items())]
    return "\n".join(parts)
