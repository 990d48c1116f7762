"""Files that are whole or not there, and the lock of a directory."""

import json
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from envs.errors import InputError
from jaxrl import files


def test_a_file_is_synced_before_it_has_its_name_and_its_directory_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append((str(old), str(new))), replace(old, new)))
    files.write(tmp_path / "a", b"one")
    temporary = str(tmp_path / f".a.{os.getpid()}.tmp")
    assert done == [temporary, (temporary, str(tmp_path / "a")), str(tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"one"


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_what_was_there_stays_where_nothing_can_be_written(function, tmp_path, monkeypatch):
    files.write(tmp_path / "a", b"one")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(files.WriteError, match=r"cannot write .*a: No space left on device\.$"):
            files.write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(files.WriteError, match="No such file or directory"):
        files.write(tmp_path / "none" / "a", b"two")


def test_seals():
    entries = {"b": [1, 2.5, None], "a": {"nan": float("nan"), "ä": "ß"}}
    text = files.sealed(entries)
    again = files.unseal(text)
    assert json.dumps(again, sort_keys=True) == json.dumps(entries, sort_keys=True)
    assert files.unseal(text.replace(b"  ", b"   ")).keys() == entries.keys()  # the values count, not the text
    for content, message in (
        (text.replace(b"2.5", b"2.6"), "is not as it was written"),
        (json.dumps(entries).encode(), "has no checksum"),
        (b"[1]", "holds no object but a list"),
        (b"{" * 10, "Expecting property name"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"\xff", "codec can't decode"),
    ):
        with pytest.raises(ValueError, match=message):
            files.unseal(content)


def test_nothing_that_is_set_aside_is_overwritten(tmp_path):
    names = []
    for text in ("one", "two", "three"):
        (tmp_path / "a").write_text(text)
        names.append(files.set_aside(tmp_path / "a").name)
    assert names == ["set-aside-a", "set-aside-2-a", "set-aside-3-a"]
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "three"]


HOLDER = textwrap.dedent(
    """
    import sys
    from jaxrl import files
    with files.lock(sys.argv[1], shared=len(sys.argv) > 2):
        print("locked", flush=True)
        sys.stdin.read()
    """
)


def holder(directory, *shared):
    """Another process that has a directory locked."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory), *shared], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"locked\n"
    return process


def test_a_second_process_is_refused_at_once(tmp_path, capsys):
    with holder(tmp_path) as process:
        refused = rf"is in use by process {process.pid} on .* since .*Nothing was changed"
        with pytest.raises(InputError, match=refused), files.lock(tmp_path):
            pass
        assert f"process {process.pid} on " in files.in_use(tmp_path)
        process.communicate()
    with files.lock(tmp_path):
        assert files.held() == [tmp_path]
    assert os.listdir(tmp_path) == []
    assert files.in_use(tmp_path) == ""
    assert capsys.readouterr().err == ""


def test_the_lock_of_a_killed_process_is_taken_over_with_a_word(tmp_path, capsys):
    with holder(tmp_path) as process:
        process.kill()
    (tmp_path / ".results.nc.123.tmp").write_text("half")
    (tmp_path / "results.nc").write_text("whole")
    with files.lock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["lock", "results.nc"]
    assert f"process {process.pid} on " in (err := capsys.readouterr().err)
    assert "is gone without having ended its work there; taking over." in err


def test_shared_locks_go_together_and_keep_others_out(tmp_path):
    with holder(tmp_path, "shared") as process:
        with files.lock(tmp_path, shared=True):
            pass
        with pytest.raises(InputError, match="is in use by process"), files.lock(tmp_path):
            pass
        process.communicate()
    with files.lock(tmp_path):
        pass


def test_a_thread_may_lock_again_and_another_may_not(tmp_path):
    refused = []

    def other():
        try:
            with files.lock(tmp_path):
                pass
        except InputError as error:
            refused.append(str(error))

    with files.lock(tmp_path):
        with files.lock(tmp_path):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert (tmp_path / "lock").exists()
    assert len(refused) == 1
    assert not (tmp_path / "lock").exists()


def test_a_place_that_cannot_be_locked(tmp_path, monkeypatch):
    with pytest.raises(files.WriteError, match=r"cannot write .*lock: No such file"), files.lock(tmp_path / "none"):
        pass

    def fail(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(files.WriteError, match=r"cannot write .*lock: Read-only file system\.$"), files.lock(tmp_path):
        pass
