"""Names of roles, matched forgivingly: `D_Artagnan`, `D Artagnan` and `d artagnan` are one."""

import difflib
from collections.abc import Iterable


def same_name(first: str, second: str) -> bool:
    """Whether two names differ in case, spaces and underscores only."""
    return canonical(first) == canonical(second)


def canonical(name: str) -> str:
    """The form in which names are compared."""
    return " ".join(name.replace("_", " ").split()).casefold()


def is_name(text: str) -> bool:
    """Whether a text of a data file may be shown: up to three words that look like a name, not like a request."""
    return 0 < len(text) <= 30 and text.isprintable() and len(text.split()) <= 3


def shown_name(name: object) -> str:
    """Return a name of a data file for a message: as it is, or described where it may be a harmful request."""
    text = str(name)
    return text if is_name(text) else f"a name of {len(text)} characters"


def close_names(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the names that come near, or how many there are."""
    names = sorted(known)
    by_canonical = {canonical(other): other for other in names}
    close = [by_canonical[c] for c in difflib.get_close_matches(canonical(name), by_canonical, n=3, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(repr(shown_name(one)) for one in close)}?"
    return f"there are {', '.join(map(shown_name, names[:5]))}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
