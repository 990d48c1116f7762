"""The fault injection at small size, and that it finds what it looks for."""

import os

import pytest

from jaxrl import checkpoint, files
from tests.jaxrl import fault_injection


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with fault_injection.quickly():
        yield


def test_nothing_is_lost_by_kills_power_cuts_and_full_disks(tmp_path):
    report = fault_injection.Report()
    fault_injection.kill(tmp_path, report, 1000, every=40)
    assert report.faults == []
    counts = {kind: sum(counts.values()) for kind, counts in report.counts.items()}
    for fault in ("kill", "power", "full"):
        assert all(counts[f"{fault}, {stage}"] for stage in ("from the beginning", "resumed", "extended", "a sweep"))
    assert sum(counts.values()) > 20


def test_damage_is_a_message_or_makes_no_difference(tmp_path):
    report = fault_injection.Report()
    fault_injection.damage(tmp_path, report, 15, seed=1)
    assert report.faults == []
    assert sum(counts["message"] for counts in report.counts.values()) > 5


def test_a_file_that_is_not_synced_is_found(tmp_path, monkeypatch):
    """The same cuts of power, and a library that does not wait for the disk."""

    def write(path, content):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)

    report = fault_injection.Report()
    (stage, *_) = fault_injection.stages(tmp_path)
    monkeypatch.setattr(files, "write", write)
    monkeypatch.setattr(checkpoint.files, "sync", lambda path: None)
    chance = fault_injection.random.Random(0)
    first = 4
    while not report.faults and fault_injection.strike(stage, first, "power", tmp_path / "case", report, chance):
        first += 9
    assert report.faults
