"""Only files.py writes: whole files, whole directories, whole lines."""

import ast
from pathlib import Path

import holdfast

SOURCE = Path(holdfast.__file__).parent
# Calls that write, rename or remove, by their name; `open` only in a mode that writes.
WRITES = {
    "write_bytes",
    "mkstemp",
    "mkdtemp",
    "NamedTemporaryFile",
    "rename",
    "touch",
    "truncate",
    "copyfile",
    "copytree",
    "move",
}
# Libraries that write to a path that they are given: inside `with replacing(...)` or `with new_directory(...)`.
LIBRARIES = {
    "save_file",
    "save_pretrained",
    "write_eval_log",
    "write_table",
    "savefig",
    "save_model",
    "torch.save",
}
EXCEPTIONS = {
    ("files.py", None): "is the one that writes",
    ("recipes/table/process.py", "open"): "a log that two processes append to while it is read",
    ("report/plots.py", "savefig"): "writes to memory",
    ("provingground/roles/cells.py", "save_pretrained"): "in a scratch directory, gone at the end",
    ("recipes/run_directory.py", None): "a run's directory: its model is moved into it when it is whole",
    ("recipes/training.py", "save_model"): "the Trainer's, into a run's directory",
    ("recipes/training.py", "save_pretrained"): "into a run's directory",
    ("cli.py", "open"): "nowhere, in place of a closed stream",
}


def named(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def opens_to_write(call: ast.Call) -> bool:
    texts = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    texts += [keyword.value.value for keyword in call.keywords if isinstance(keyword.value, ast.Constant)]
    return any(isinstance(text, str) and set(text) <= set("rwxab+t") and set(text) & set("wxa+") for text in texts)


def writes(tree: ast.AST, *, held: bool = False):
    """Names and lines of the calls that write; `held` inside one of our context managers."""
    for node in ast.iter_child_nodes(tree):
        inside = held
        if isinstance(node, ast.With):
            makers = {named(item.context_expr) for item in node.items if isinstance(item.context_expr, ast.Call)}
            inside = held or bool(makers & {"replacing", "new_directory"})
        if isinstance(node, ast.Call):
            name, method = named(node), isinstance(node.func, ast.Attribute)
            ours = name == "write_text" and not method
            path_replace = name == "replace" and method and len(node.args) == 1 and not node.keywords
            if (
                (name in WRITES and method)
                or (name == "write_text" and not ours)
                or (name in ("open", "fdopen") and opens_to_write(node))
                or path_replace
                or (name in LIBRARIES and not held)
            ):
                yield name, node.lineno
        yield from writes(node, held=inside)


def test_no_other_module_writes():
    found = [
        (str(path.relative_to(SOURCE)), name, line)
        for path in SOURCE.rglob("*.py")
        for name, line in writes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert [one for one in found if (one[0], None) not in EXCEPTIONS and one[:2] not in EXCEPTIONS] == []


def test_the_scan_sees_what_it_must():
    code = """
path.write_text("x")
with path.open("w") as file: ...
open(path, mode="a")
temporary.replace(path)
save_file(tensors, path)
with replacing(path) as temporary:
    save_file(tensors, temporary)
"a".replace("b", "c")
replace(options, a=1)
path.open("rb")
path.open()
write_text(path, "x")
"""
    assert [line for _, line in writes(ast.parse(code))] == [2, 3, 4, 5, 6]
