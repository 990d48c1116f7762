"""Kills, power cuts, full disks and damaged files, one after the other, on a small run.

    python -m tests.jaxrl.fault_injection --kills 500 --damages 1000

A kill is an operation on files after which none is carried out any more. It comes before the N-th one, for every N, of
a run and a sweep from their beginning, of a run that is resumed, and of one that is extended. Where the power fails as
well, whatever was not synced is cut off. Then the run is resumed, and must end as the undisturbed one: states, results
and policies bit for bit, nothing that was complete done again, no file left over. A full disk must be one message, and
nothing lost once there is room. A bit flipped, a file cut off, removed or put in the place of another: every reader
must say so in one message, or give the same as before; and so must resuming.

All cases share one process, one compiled program and one picture: what is tried is what happens to files.
"""

import argparse
import collections
import contextlib
import dataclasses
import errno
import functools
import importlib
import io
import os
import random
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs.errors import InputError
from jaxrl import checkpoint, driver, export, files, plotting, results, runs
from jaxrl.agents import q_learning

sweeping = importlib.import_module("jaxrl.sweep")  # `jaxrl.sweep` is the function

SPEC = runs.Spec(
    agent="q_learning",
    env="GridWorld-4x4",
    seeds=(3, 8),
    env_steps=300,
    config=q_learning.Config(),
    hp=q_learning.Hyperparams(),
    num_evals=3,
    eval_episodes=2,
)
LONGER = 500  # steps that the run is extended to


# ---------------------------------------------------------------------------------------------------------- the disk


class Killed(BaseException):
    """The process is dead: nothing that it would do happens."""


class Disk:
    """What happens to operations on the files below a directory, from the N-th on.

    Args:
        root: the directory.
        first: how many operations are carried out before; None: all.
        fault: "kill", "power" (a kill, and what is not synced is cut off), "full" (nothing can be made or synced) or
            "read-only" (nothing can be changed).
    """

    def __init__(self, root: Path, first: int | None = None, fault: str = "kill") -> None:
        self.root, self.first, self.fault = root.resolve(), first, fault
        self.count, self.struck = 0, False
        self.synced = {path.stat().st_ino for path in self.root.rglob("*")}

    def operation(self, kind: str, path: Path) -> None:
        """Is asked before every operation; raises instead of letting it happen."""
        if self.fault == "full" and kind in ("os.remove", "os.rmdir", "os.rename"):
            return
        self.count += 1
        if self.first is not None and self.count > self.first:
            self.struck = True
            if self.fault in ("full", "read-only"):
                number = errno.ENOSPC if self.fault == "full" else errno.EROFS
                raise OSError(number, os.strerror(number), str(path))
            if threading.current_thread() is threading.main_thread():
                raise Killed
            raise OSError(errno.EIO, "killed")  # a thread that a library waits for
        if kind == "open" and path.exists():
            self.synced.discard(path.stat().st_ino)

    def cut_power(self, chance: random.Random) -> None:
        """Cuts off every file that was not synced, somewhere."""
        for path in self.root.rglob("*"):
            if path.is_file() and path.stat().st_ino not in self.synced:
                os.truncate(path, chance.randrange(path.stat().st_size + 1))


CHANGES = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate")
_disk: Disk | None = None
_fsync = os.fsync


def _heard(event: str, args: tuple[Any, ...]) -> None:
    """Python tells of every operation before it happens."""
    disk = _disk
    if disk is None or event not in (
        "open",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.remove",
        "os.link",
        "os.truncate",
    ):
        return
    if not isinstance(args[0], str | bytes | os.PathLike):
        return
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return
    path = Path(os.path.abspath(os.fsdecode(args[0])))
    if path.is_relative_to(disk.root) or (
        event == "os.rename" and Path(os.fsdecode(args[1])).is_relative_to(disk.root)
    ):
        disk.operation(event, path)


def _synced(handle: int) -> None:
    disk = _disk
    path = Path(os.readlink(f"/proc/self/fd/{handle}"))
    if disk is not None and path.is_relative_to(disk.root):
        disk.operation("fsync", path)
        disk.synced.add(os.fstat(handle).st_ino)
    _fsync(handle)


@functools.cache
def _listen() -> None:
    sys.addaudithook(_heard)  # for the rest of the process: it cannot be taken back


@contextlib.contextmanager
def using(disk: Disk) -> Iterator[Disk]:
    """Within it, operations are those of a disk with faults."""
    global _disk
    _listen()
    _disk, os.fsync = disk, _synced
    try:
        yield disk
    finally:
        _disk, os.fsync = None, _fsync


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Within it, what has nothing to do with files is done once: compiling, tracing, drawing, asking git."""

    class Runs(driver._Runs):
        def compile(self) -> None:
            if not hasattr(self, "compiled"):
                super().compile()
                self.compiled = True

    made: dict[str, Runs] = {}

    def one(agent: Any, env_params: Any, hp: Any, seeds: Any, *rest: Any) -> Runs:
        key = repr((hp, seeds, rest))
        if key not in made:
            made[key] = Runs(agent, env_params, hp, seeds, *rest)
        return made[key]

    built: dict[str, Any] = {}

    def build(spec: runs.Spec, real: Callable[[runs.Spec], Any] = runs.Spec.build) -> Any:
        key = repr(spec)
        if key not in built:
            built[key] = real(spec)
        return built[key]

    def draw(datasets: Any, path: Path, **options: Any) -> None:
        files.write(path, b"a picture")

    class Job(sweeping._Job):
        def compile(self, size: int, limit: int) -> str:
            key = repr((self.program.static, size))
            if key not in compiled:
                super().compile(size, limit)
                compiled[key] = (self.compiled, self.part)
            self.compiled, self.part = compiled[key]
            return ""

    compiled: dict[str, Any] = {}
    here = results.provenance()
    changes = [
        (driver, "_Runs", one),
        (sweeping, "_Job", Job),
        (runs.Spec, "build", build),
        (export, "reason_against", lambda *args: ""),
        (plotting, "learning_curve", draw),
        (results, "provenance", lambda: here),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


# ------------------------------------------------------------------------------------------------- what is compared


def bits(tree: Any) -> list[bytes]:
    """The bytes of every leaf."""
    leaves = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in tree]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def state_of(directory: Path) -> Any:
    """What `evaluate` and `render` read."""
    spec = runs.read_spec(directory)
    _, state, done = runs.restore(spec, directory)
    return done, bits(jax.tree.leaves(state))


def results_of(directory: Path) -> Any:
    """What `plot`, `compare` and `export` read."""
    dataset = results.load(directory / results.RESULTS_FILE)
    return {str(name): (str(x.dtype), x.dims, x.values.tobytes()) for name, x in dataset.variables.items()}


def policies_of(directory: Path) -> Any:
    """What `evaluate --gymnasium` reads."""
    found = []
    for seed in SPEC.seeds:
        policy = runs.load_policy(directory, seed)
        found.append({name: array.tobytes() for name, array in policy.weights.items()})
        found.append([np.asarray(policy.act(np.int32(place))[0]).tobytes() for place in (0, 7, 14)])
    return found


def settings_of(directory: Path) -> Any:
    """What all commands read, and beside it the results or the checkpoints that belong to it."""
    results.load(directory / results.RESULTS_FILE)
    entries = results.read_config(directory)
    return {name: entries[name] for name in ("agent", "env", "seeds", "env_steps", "num_evals", "config", "hp")}


READERS: dict[str, Callable[[Path], Any]] = {
    "settings": settings_of,
    "state": state_of,
    "results": results_of,
    "policies": policies_of,
    "cost": results.read_cost,
}
FINAL = ("settings", "state", "results", "policies")


def final(directory: Path) -> dict[str, Any]:
    """Everything that a finished run has."""
    return {name: READERS[name](directory) for name in FINAL}


def train(directory: Path) -> None:
    """The run from its beginning."""
    runs.train(SPEC, directory)


def resume(directory: Path) -> None:
    """`jaxrl resume`."""
    runs.train(runs.read_spec(directory), directory, resume=True)


def swept(directory: Path) -> None:
    """`jaxrl sweep`, and `jaxrl resume` of it: two programs, a chunk each."""
    grid = {"hp.learning_rate": [0.1, 0.5], "config.num_envs": [1, 2]}
    sweeping.sweep(
        "q_learning", SPEC.env, env_steps=400, seeds=2, grid=grid, num_evals=2, eval_episodes=2, directory=directory
    )


def extend(directory: Path) -> None:
    """`jaxrl resume --steps`."""
    spec = runs.read_spec(directory)
    runs.train(spec.extended(LONGER) if spec.env_steps < LONGER else spec, directory, resume=True)


class Report:
    """Counts of outcomes, and the first of each that must not be."""

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.faults: list[str] = []

    def add(self, kind: str, outcome: str, what: str) -> None:
        """Outcomes: same, message; and lost, differing, traceback, left over, which must not be."""
        self.counts[kind][outcome] += 1
        if outcome not in ("same", "message"):
            self.faults.append(f"{kind}: {outcome}: {what}")

    def lines(self) -> list[str]:
        """A line for each kind of fault."""
        lines = []
        for kind, counts in self.counts.items():
            outcomes = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
            lines.append(f"{kind:28} {sum(counts.values()):5} cases: {outcomes}")
        return lines


def outcome_of(function: Callable[[], Any], wanted: Any) -> tuple[str, str]:
    """(same, differing, message or traceback; its text)."""
    try:
        value = function()
    except InputError as error:
        text = str(error)
        return ("message", text) if text.count("\n") < 20 else ("traceback", text)
    except Exception:
        return "traceback", traceback.format_exc()
    return ("same", "") if value == wanted else ("differing", "")


# ---------------------------------------------------------------------------------------------------- kills and disks


@dataclasses.dataclass
class Stage:
    """Something that is interrupted: what it starts from, what is done, and how it must end."""

    name: str
    start: Path | None  # a directory to copy; None: there is none
    act: Callable[[Path], None]
    again: Callable[[Path], None]  # what goes on with it
    end: dict[str, Any]
    read: Callable[[Path], dict[str, Any]] = final
    names: Sequence[str] = (results.CHECKPOINTS, results.POLICIES, results.COST_FILE)  # that may be there, beside …


def strike(stage: Stage, first: int, fault: str, place: Path, report: Report, chance: random.Random) -> bool:
    """Lets a fault come before operation `first` + 1 of a stage, and then goes on; False if the stage was over."""
    shutil.rmtree(place, ignore_errors=True)
    if stage.start is not None:
        shutil.copytree(stage.start, place)
    kind, what = f"{fault}, {stage.name}", f"before operation {first + 1}"
    saved: list[int] = []
    real = checkpoint.save

    def save(directory: Any, state: Any, step: int, *args: Any, **options: Any) -> Path:
        path = real(directory, state, step, *args, **options)
        saved.append(step)
        return path

    place.parent.mkdir(parents=True, exist_ok=True)
    disk, said = Disk(place, first, fault), ""
    checkpoint.save = save
    try:
        with using(disk), contextlib.redirect_stderr(io.StringIO()):
            stage.act(place)
    except Killed:
        pass
    except InputError as error:
        said = str(error)
    except Exception:
        if fault in ("full", "read-only"):
            report.add(kind, "traceback", f"{what}\n{traceback.format_exc()}")
            return True
    finally:
        checkpoint.save = real
    if not disk.struck:
        return False
    if fault == "power":
        disk.cut_power(chance)
    if fault in ("full", "read-only") and not said:
        report.add(kind, "traceback", f"{what}: no message")
        return True
    there = checkpoint.steps(place / results.CHECKPOINTS)
    if saved and max(saved) not in there:
        report.add(kind, "lost", f"{what}: checkpoint {max(saved)} of {there}")
        return True
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            (stage.again if (place / results.CONFIG_FILE).exists() else stage.act)(place)
    except InputError as error:
        report.add(kind, "lost", f"{what}: {error}")
        return True
    except Exception:
        report.add(kind, "traceback", f"{what}\n{traceback.format_exc()}")
        return True
    outcome, text = outcome_of(lambda: stage.read(place), stage.end)
    if outcome == "same":
        always = {results.CONFIG_FILE, results.RESULTS_FILE, results.CURVE_FILE}
        left = {path.name for path in place.iterdir()} - always - set(stage.names)
        left |= {path.name for path in place.glob(f"{results.CHECKPOINTS}/*") if not path.name.isdecimal()}
        left |= {path.name for path in place.glob(f"{sweeping.CHUNKS}/*") if path.suffix != ".npz"}
        outcome, text = ("left over", str(left)) if left else ("same", "")
    report.add(kind, "lost" if outcome == "message" else outcome, f"{what} {text}")
    return True


def stages(place: Path) -> list[Stage]:
    """Runs what is needed undisturbed; a run that begins, one that goes on and one that is extended."""
    whole, half, longer = place / "whole", place / "half", place / "longer"
    train(whole)
    shutil.copytree(whole, longer)
    with contextlib.redirect_stderr(io.StringIO()):
        extend(longer)
    # Killed after the second checkpoint: whatever N that is.
    real = checkpoint.save

    def save(directory: Any, state: Any, step: int, *args: Any, **options: Any) -> Path:
        if step == SPEC.num_evals:
            raise Killed
        return real(directory, state, step, *args, **options)

    checkpoint.save = save
    with contextlib.suppress(Killed):
        train(half)
    checkpoint.save = real
    end, extended = final(whole), final(longer)
    return [
        Stage("from the beginning", None, train, resume, end),
        Stage("resumed", half, resume, resume, end),
        Stage("extended", whole, extend, extend, extended),
    ]


def sweeps(place: Path) -> list[Stage]:
    """A sweep that begins."""
    whole = place / "sweep"
    swept(whole)

    def read(directory: Path) -> dict[str, Any]:
        return {"results": results_of(directory)}

    return [Stage("a sweep", None, swept, swept, read(whole), read, (sweeping.CHUNKS, sweeping.PLAN_FILE))]


def kill(place: Path, report: Report, most: int, seed: int = 0, every: int = 1) -> None:
    """Kills and power cuts before every operation of every stage, then full disks, then one that is read-only.

    Args:
        place: an empty directory.
        report: takes the outcomes.
        most: how many kills and power cuts; half as many full disks.
        seed: of where files are cut off.
        every: only each of so many operations, for a quick look.
    """
    chance = random.Random(seed)
    todo = [*stages(place), *sweeps(place)]
    for faults, limit in ((("kill", "power"), most), (("full",), most // 2)):
        done = 0
        for fault in faults:
            for stage in todo:
                first = chance.randrange(min(every, 15))
                while done < limit and strike(stage, first, fault, place / "case", report, chance):
                    done, first = done + 1, first + every
    for stage in todo:
        if stage.start is not None:
            strike(stage, 0, "read-only", place / "case", report, chance)


# ------------------------------------------------------------------------------------------------------------ damage


def harm(path: Path, others: list[Path], chance: random.Random) -> str:
    """Damages a file; returns how."""
    content = path.read_bytes()
    way = chance.choices(("a bit flipped", "cut off", "removed", "another in its place"), (6, 3, 1, 1))[0]
    if way == "a bit flipped" and content:
        bit = chance.randrange(8 * len(content))
        path.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ (1 << bit % 8)]) + content[bit // 8 + 1 :])
        return f"bit {bit} flipped"
    if way == "cut off" and content:
        size = chance.randrange(len(content))
        path.write_bytes(content[:size])
        return f"cut off at {size} of {len(content)}"
    if way == "another in its place":
        other = chance.choice([other for other in others if other.name == path.name] or others)
        path.write_bytes(other.read_bytes())
        return f"replaced by {other}"
    path.unlink()
    return "removed"


def damage(place: Path, report: Report, most: int, seed: int = 0) -> None:
    """Damages one file at a time, of a finished and of a half-done run, and reads and resumes it.

    Args:
        place: an empty directory.
        report: takes the outcomes.
        most: how many damaged files.
        seed: of which files, and how.
    """
    chance = random.Random(seed)
    starts = [stage for stage in stages(place) if stage.start is not None]
    foreign = place / "foreign"
    runs.train(dataclasses.replace(SPEC, seeds=(4, 9)), foreign)  # of other seeds
    others = sorted(path for path in foreign.rglob("*") if path.is_file())
    starts[1] = dataclasses.replace(starts[1], name="finished", act=resume, end=starts[0].end)
    for number in range(most):
        stage = starts[number % len(starts)]
        assert stage.start is not None
        before = {}
        for name, read in READERS.items():
            with contextlib.suppress(InputError):  # a run that is half done has no policies
                before[name] = read(stage.start)
        case = place / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(stage.start, case)
        groups = collections.defaultdict(list)
        for path in sorted(path for path in case.rglob("*") if path.is_file()):
            groups["arrays" if "arrays" in path.parts else path.name].append(path)
        file = chance.choice(groups[chance.choice(sorted(groups))])
        what = f"{stage.name}: {file.relative_to(case)} {harm(file, others, chance)}"
        for name, wanted in before.items():
            outcome, text = outcome_of(lambda read=READERS[name], case=case: read(case), wanted)
            report.add(f"damaged, {name} read", outcome, f"{what} {text}")

        def go_on(case: Path = case, act: Callable[[Path], None] = stage.act) -> Any:
            with contextlib.redirect_stderr(io.StringIO()):
                act(case)
            return final(case)

        outcome, text = outcome_of(go_on, stage.end)
        report.add("damaged, resumed", outcome, f"{what} {text}")


def main() -> int:
    """The command; its exit status is 1 where anything was lost, differed, was left over or showed a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--damages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch, quickly():
        kill(Path(scratch) / "kills", report, options.kills, options.seed)
        print(*report.lines(), sep="\n", flush=True)
        damage(Path(scratch) / "damages", report, options.damages, options.seed)
    print(*report.lines(), sep="\n")
    print(*report.faults[:20], sep="\n\n")
    print(f"{len(report.faults)} faults that must not be")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
