"""Names that differ in case, spaces and underscores are one; near misses are suggested."""

import pytest

from holdfast.data.names import canonical, close_names, same_name


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("D_Artagnan", "d artagnan", True),
        (" Doctor__Who\t", "doctor who", True),
        ("STRASSE", "Straße", True),
        ("孙悟空", "孙悟空", True),
        ("D'Artagnan", "D Artagnan", False),
        ("DoctorWho", "Doctor Who", False),
        ("孙悟空", "皇帝", False),
    ],
)
def test_same_name(first, second, same):
    assert same_name(first, second) is same
    assert same_name(second, first) is same


def test_canonical_is_a_fixed_point():
    assert canonical("  D_Artagnan_ ") == "d artagnan"
    assert canonical(canonical("D_Artagnan")) == "d artagnan"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ahub", "did you mean 'Ahab'?"),
        ("d_artagnon", "did you mean 'D_Artagnan'?"),
        ("Ahabs", "did you mean 'Ahab'?"),
        ("Starbuc", "did you mean 'Starbuck' or 'Starburst'?"),
        ("孙悟", "did you mean '孙悟空'?"),
    ],
)
def test_close_names(name, expected):
    assert close_names(name, ["Ahab", "D_Artagnan", "Starbuck", "Starburst", "孙悟空"]) == expected


def test_without_a_close_name_some_are_listed():
    assert close_names("Xyzzy", ["b", "a"]) == "there are a, b"
    assert close_names("Xyzzy", [f"role {k}" for k in range(7)]) == (
        "there are role 0, role 1, role 2, role 3, role 4 and 2 more"
    )
