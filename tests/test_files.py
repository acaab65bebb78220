import errno
import os
import stat
import subprocess
import sys

import pytest

from holdfast.errors import HoldfastError
from holdfast.files import (
    atomic_writer,
    check_new_directory,
    check_output_directory,
    check_writable,
    locked,
    new_directory,
    read_bytes,
    read_json,
    read_text,
    write_json,
    write_text,
)
from holdfast.system_errors import describe_os_error

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one\n")
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert [each.name for each in path.parent.iterdir()] == ["b.txt"]


def test_an_exception_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_writer(path) as file:  # noqa: PT012
        file.write("new")
        raise KeyError
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_follow_the_umask_and_the_old_file(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "new", "")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
        (tmp_path / "new").chmod(0o600)
        write_text(tmp_path / "new", "x")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"


def test_a_pipe_is_written_through(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    write_text(fifo, "through")
    assert reader.communicate(timeout=10)[0] == b"through"
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_full_device_is_an_error(tmp_path):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(HoldfastError, match="the disk is full"):
        write_text(tmp_path / "link", "x" * 100_000)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)  # noqa: PTH116


def unwritable(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "directory": "is a directory",
        "file/below": "a part of the path is a file",
        "n" * 300: "the name is too long",
        "nul\0": "NUL",
        "loop": "loop of symbolic links",
    }


def test_what_cannot_be_written_is_one_line_that_names_the_file(tmp_path):
    for name, reason in unwritable(tmp_path).items():
        for attempt in (check_writable, lambda path: write_text(path, "")):
            with pytest.raises(HoldfastError, match=reason) as caught:
                attempt(tmp_path / name)
            assert "\n" not in str(caught.value)
            assert name[:20].replace("\0", "") in str(caught.value)


def test_checking_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b.json")
    check_output_directory(tmp_path / "c" / "d")
    assert list(tmp_path.iterdir()) == []


def test_output_directories_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, reason in {
        "file": "is a file",
        "file/x": "a part of the path is a file",
        "dangling": "leads nowhere",
        "n" * 300: "name is too long",
    }.items():
        with pytest.raises(HoldfastError, match=reason):
            check_output_directory(tmp_path / name)


def test_a_new_directory_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), new_directory(tmp_path / "new") as directory:  # noqa: PT012
        (directory / "half").write_text("x")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with new_directory(tmp_path / "new") as directory:
        (directory / "whole").write_text("x")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "whole").read_text() == "x"
    with pytest.raises(HoldfastError, match="not empty"):
        check_new_directory(tmp_path / "new")


def test_what_a_killed_writer_left_is_removed_and_other_files_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".a.txt.{gone.pid}-xyz.partial"
    alive = tmp_path / f".a.txt.{os.getppid()}-xyz.partial"
    users = tmp_path / ".a.txt.mine.partial"
    for path in (left, alive, users):
        path.write_text("x")
    write_text(tmp_path / "a.txt", "x")
    assert not left.exists()
    assert alive.exists()
    assert users.exists()


def test_a_second_process_is_refused_and_a_dead_one_frees_the_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from holdfast.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(HoldfastError, match="another process"), locked(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with locked(tmp_path):
        pass


def test_reading_refuses_pipes_sizes_and_other_encodings(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes(b"a\n\xe9")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfx")
    with pytest.raises(HoldfastError, match="no regular file"):
        read_bytes(tmp_path / "fifo")
    with pytest.raises(HoldfastError, match="too large"):
        read_bytes(tmp_path / "latin", limit=1)
    with pytest.raises(HoldfastError, match=r"latin:2: not UTF-8"):
        read_text(tmp_path / "latin")
    with pytest.raises(HoldfastError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(HoldfastError, match="no such file"):
        read_text(tmp_path / "missing")
    assert read_text(tmp_path / "bom") == "x"


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}


def test_os_errors_have_advice():
    assert describe_os_error(OSError(errno.ENOSPC, "x", "f")) == (
        "f: the disk is full; free some space and run the same command again"
    )
