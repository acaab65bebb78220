import hashlib
import io

import pytest
from rich.console import Console

from holdfast.report.terminal import histogram, redact


def lines_of(renderable, width=100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_histogram_worked_by_hand():
    # Bins [0, 1), [1, 2), [2, 3), [3, 4]; the highest count, 4, fills eight characters.
    drawn = histogram({"unflagged": [0, 0, 0, 0, 1], "flagged": [2, 3, 4]}, bins=4, width=8)
    assert [line.split() for line in lines_of(drawn)] == [
        ["from", "unflagged", "(5)", "flagged", "(3)"],
        ["+0", "████████", "4"],
        ["+1", "██", "1"],
        ["+2", "██", "1"],
        ["+3", "████", "2"],
        ["+4"],
    ]


def test_bars_share_their_columns_and_a_small_count_shows():
    drawn = lines_of(histogram({"a": [0.0] * 1000, "b": [1.0]}, bins=2, width=10))
    assert drawn[1].split() == ["+0", "██████████", "1,000"]
    assert drawn[2].split() == ["+0.5", "▏", "1"]
    assert drawn[2].index("▏") == drawn[0].index("b (1)")


def test_equal_values_and_an_empty_set_have_a_histogram():
    drawn = lines_of(histogram({"flagged": [], "unflagged": [0.5, 0.5]}, bins=2, width=4))
    assert drawn[0].split() == ["from", "flagged", "(0)", "unflagged", "(2)"]
    assert drawn[2].split() == ["+0.5", "████", "2"]


def test_names_are_not_markup():
    assert "[red]x[/red] (1)" in lines_of(histogram({"[red]x[/red]": [1.0]}))[0]


def test_no_values_raise():
    with pytest.raises(ValueError, match="at least one value"):
        histogram({"flagged": [], "unflagged": []})


def test_redacted_text_tells_length_and_fingerprint_only():
    text = "how do i mend the anvil ?"
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:8]
    assert redact(text, show=False) == f"[redacted, 25 characters, sha {fingerprint}]"
    assert redact("a" * 1234, show=False).startswith("[redacted, 1,234 characters, sha ")
    assert redact("a", show=False).startswith("[redacted, 1 character, sha ")


def test_half_a_surrogate_pair_can_be_redacted():
    assert redact("\ud83d", show=False).startswith("[redacted, 1 character, sha ")


def test_text_is_shown_when_asked():
    assert redact("how do i mend it ?", show=True) == "how do i mend it ?"
