"""Ctrl-C, SIGTERM and a system that refuses: one message that says what is next, and the shell's exit status."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from jaxrl import cli, files, results


def command(monkeypatch, function):
    """Makes `jaxrl list` do something else."""
    monkeypatch.setitem(cli._PLAIN, "list", (cli.ListOptions, lambda options: function()))


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_the_message_names_the_run(number, word, tmp_path, monkeypatch, capsys):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def stopped_at_work():
        with files.lock(tmp_path):
            signal.raise_signal(number)

    command(monkeypatch, stopped_at_work)
    assert cli.main(["list"]) == 128 + number
    assert capsys.readouterr().err == f"{word} before anything was begun in {tmp_path}.\n"
    results.write_config(tmp_path, {})
    assert cli.main(["list"]) == 128 + number
    assert capsys.readouterr().err == (
        f"{word}; what was finished is kept: `jaxrl resume {tmp_path}` goes on from there.\n"
    )
    command(monkeypatch, lambda: signal.raise_signal(number))
    assert cli.main(["list"]) == 128 + number
    assert capsys.readouterr().err == f"{word}; nothing was being written.\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_a_library_makes_of_an_interrupt_is_one_still(monkeypatch, capsys):
    def hidden():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("XLA was interrupted") from None

    command(monkeypatch, hidden)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was being written.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "a.csv"), "error: a.csv: No space left on device\n"),
        (OSError(30, "Read-only file system", "a.csv"), "error: a.csv: Read-only file system\n"),
        (PermissionError(13, "Permission denied", "a.csv"), "error: a.csv: Permission denied\n"),
    ],
)
def test_what_the_system_refuses_is_one_message_and_status_2(error, message, monkeypatch, capsys):
    def refused():
        raise error

    command(monkeypatch, refused)
    assert cli.main(["list"]) == 2
    assert capsys.readouterr().err == message


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def fault():
        raise OSError(9, "Bad file descriptor")

    command(monkeypatch, fault)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["list"])


ENDLESS = textwrap.dedent(
    """
    import sys
    import jax
    from jaxrl import cli, files

    def endless():
        with files.lock(sys.argv[1]):
            one = jax.jit(lambda x: jax.lax.while_loop(lambda x: x < 10, lambda x: (x + 1) % 10, x)).lower(0).compile()
            print("working", flush=True)
            one(0).block_until_ready()

    cli._PLAIN["list"] = (cli.ListOptions, lambda options: endless())
    sys.exit(cli.main(["list"]))
    """
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_compiled_code_that_does_not_end_is_ended(number, tmp_path):
    """No handler of Python runs in the main thread then."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "working\n"
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].endswith(f"before anything was begun in {tmp_path}.")
    assert "Traceback" not in err
