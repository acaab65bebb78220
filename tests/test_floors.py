"""A floor imports only lower floors; `evals` and `trainers` never meet; the report reads results only."""

import ast
from pathlib import Path

import holdfast

SOURCE = Path(holdfast.__file__).parent
FLOORS = [
    {
        "errors",
        "escaping",
        "files",
        "library_output",
        "parsing",
        "results",
        "samples",
        "system_errors",
        "config",
        "losses",
        "data",
        "refusals",
        "__init__",
    },
    {"chat", "forward", "model_files", "models", "template_trial", "templates"},
    {"reference", "selection", "parameters", "decoding"},
    {"trainers", "evals"},
    {"methods"},
    {"report", "provingground"},
    {"recipes"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Rooms that must not know each other although their floors would allow it.
APART = {("evals", "trainers"), ("trainers", "evals")} | {
    ("report", room) for room in ("trainers", "models", "reference", "chat", "data", "losses", "provingground")
}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("holdfast."):
                yield name.split(".")[1], node.lineno


def test_a_floor_imports_only_lower_floors():
    wrong = []
    for path in SOURCE.rglob("*.py"):
        here = room_of(path)
        for there, line in imports(path):
            if FLOOR_OF[there] > FLOOR_OF[here] or (here, there) in APART:
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {there}")
    assert wrong == []


def test_losses_know_tensors_only():
    for path in (SOURCE / "losses").glob("*.py"):
        for there, line in imports(path):
            assert there == "losses", f"{path.name}:{line} imports {there}"


def test_the_package_never_imports_development_dependencies():
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module or ""] + ([a.name for a in node.names] if isinstance(node, ast.Import) else [])
            assert not any(name.split(".")[0] in {"trl", "scipy", "pytest"} for name in names), path
