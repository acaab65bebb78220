import errno
import os
import resource
import stat
import subprocess
import sys

import pytest

from holdfast.errors import HoldfastError
from holdfast.files import (
    LineAppender,
    atomic_writer,
    check_new_directory,
    check_output_directory,
    check_outputs,
    check_writable,
    locked,
    new_directory,
    read_bytes,
    read_json,
    read_text,
    replacing,
    share,
    write_json,
    write_text,
)
from holdfast.system_errors import describe_failure, describe_os_error

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


def test_a_library_that_writes_to_a_path_replaces_it_with_shared_permissions(tmp_path):
    with replacing(tmp_path / "a") as temporary:
        temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600)  # as safetensors does
        os.write(descriptor, b"new")
        os.close(descriptor)
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask()
    (tmp_path / "a").chmod(0o600)
    share(tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "lines"
    with LineAppender(path) as file:
        file.append("one\n")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # as on a full disk: the write is cut short
        try:
            with pytest.raises(HoldfastError, match="lines: larger than"):
                file.append("a line that does not fit\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_text() == "one\n"
        file.append("two\n")
    LineAppender(path, keep=4).close()
    assert path.read_text() == "one\n"


def test_an_output_is_no_input_and_no_other_output(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("rows.jsonl", "model/config.json"):
        (tmp_path / name).write_text("x")
    (tmp_path / "hard").hardlink_to(tmp_path / "rows.jsonl")
    inputs = (tmp_path / "model", f"file:{tmp_path / 'rows.jsonl'}", "owner/name", None)
    for name in ("rows.jsonl", "hard", "model/config.json"):
        with pytest.raises(HoldfastError, match="this command reads it"):
            check_outputs({"--output": tmp_path / name}, inputs)
    with pytest.raises(HoldfastError, match=r"--results .*what --output writes too"):
        check_outputs({"--output": tmp_path / "new", "--results": tmp_path / "a" / ".." / "new"})
    check_outputs({"--output": tmp_path / "new", "--results": None, "--page": tmp_path / "model/new"}, inputs)


def test_standard_output_is_written_through(tmp_path):
    code = "import sys; from pathlib import Path; from holdfast.files import write_text\n"
    code += "print('first'); write_text(Path('/dev/stdout'), 'second\\n'); print('third')"
    with (tmp_path / "o").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "o").read_text() == "first\nsecond\nthird\n"
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert piped.stdout == b"first\nsecond\nthird\n"


def test_a_new_directory_where_one_works_is_filled_and_stays(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = (tmp_path / "here").stat().st_ino
    with new_directory(tmp_path / "here") as directory:
        (directory / "config.json").write_text("{}")
    assert (tmp_path / "here").stat().st_ino == inode
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["config.json"]


def test_half_a_surrogate_pair_can_be_written(tmp_path):
    write_json(tmp_path / "a.json", "\ud800")
    assert read_json(tmp_path / "a.json") == "\ud800"


def test_failures_that_libraries_wrap_are_one_line():
    wrapped = {
        "Error while serializing: I/O error: No space left on device (os error 28)": "the disk is full",
        "I/O error: Permission denied (os error 13)": "permission denied",
        "PytorchStreamWriter failed writing file data/0: file write failed": "cannot be written",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes": "out of memory; lower",
        "CUDA out of memory. Tried to allocate 2.00 GiB": "out of memory; lower",
    }
    for text, said in wrapped.items():
        assert said in (describe_failure(RuntimeError(text)) or "")
    assert "out of memory" in (describe_failure(MemoryError()) or "")
    assert describe_failure(OSError(errno.EACCES, "x", "/a/b")).startswith("/a/b: permission denied")
    assert "NUL" in (describe_failure(ValueError("embedded null byte")) or "")
    assert describe_failure(ValueError("x")) is None
