"""The command line: `jaxrl train AGENT ENV`, `jaxrl resume RUN`, `jaxrl --help`.

Every field of the agent's Config and Hyperparams and of the environment is a flag. Bad input ends with one message and
exit status 2; JAXRL_TRACEBACK=1 shows where it was found. XLA's compiled programs are cached in the user's cache
directory; --no-cache or JAXRL_CACHE=off switches that off, JAXRL_CACHE=DIR moves it.
"""

import io
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jaxrl
from envs.errors import InputError, unknown
from jaxrl import agents, files
from jaxrl.cli import flags, interrupts
from jaxrl.cli.checking import (
    BenchOptions,
    ListOptions,
    ParityOptions,
    ReproduceOptions,
    bench,
    list_names,
    parity,
    reproduce,
)
from jaxrl.cli.outcomes import CompareOptions, ExportOptions, PlotOptions, compare, export, plot
from jaxrl.cli.policies import EvaluateOptions, RenderOptions, evaluate, render
from jaxrl.cli.training import ResumeOptions, SweepOptions, TrainOptions, resume, sweep, train

# jaxrl.driver, results and the rest are imported inside the commands: `jaxrl list` should not wait for a backend.

# command -> (options, what runs it)
_PLAIN: dict[str, tuple[type, Callable[[Any], None]]] = {
    "resume": (ResumeOptions, resume),
    "evaluate": (EvaluateOptions, evaluate),
    "plot": (PlotOptions, plot),
    "compare": (CompareOptions, compare),
    "export": (ExportOptions, export),
    "render": (RenderOptions, render),
    "parity": (ParityOptions, parity),
    "reproduce": (ReproduceOptions, reproduce),
    "bench": (BenchOptions, bench),
    "list": (ListOptions, list_names),
}

_BOUND: dict[str, tuple[type, Callable[[str, str, list[str]], None]]] = {
    "train": (TrainOptions, train),
    "sweep": (SweepOptions, sweep),
}

_USAGE = """usage: jaxrl COMMAND …

  train AGENT ENV [flags]   train one run per seed, all in one compiled program
  sweep AGENT ENV --grid …  train every combination of a grid, or drawn ones (--search), with every seed
  resume RUN                go on with an interrupted run or sweep
  evaluate RUN              evaluate a trained run, also in the real Gymnasium
  plot RUN…                 draw learning curves, profiles, or a sweep's heat map
  compare RUN RUN           the difference of two runs, with its interval
  export RUN OUT            results as CSV, Parquet, marl-eval's JSON, TensorBoard or Weights & Biases
  render RUN                film an episode
  parity ENV                compare an environment with its original, step by step
  reproduce STUDY…|--all    run studies, and compare them with the published numbers
  bench [SUITE…]            measure speeds beside the peers
  list envs|agents          list what there is

`jaxrl COMMAND --help` lists the flags, `jaxrl train AGENT ENV --help` those of agent and environment, too. Agents and
environments of your own are MODULE:NAME, or names that `--import MODULE` registers. `jaxrl --version`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0; 2 for bad input and for files that the system refuses; 130 or 143 where SIGINT or SIGTERM
        ended it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal does not have is shown as `?`
            stream.reconfigure(errors="replace")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # as for `python -m jaxrl`: modules of the user's own lie there
    with interrupts.handled() as stopped:
        try:
            _dispatch(arguments)
        except BaseException as error:
            if stopped.number is not None:  # whatever a library made of it
                if argv is None:
                    stopped.end()  # without tidying up: what XLA left half done would crash there
                print(stopped.message(), file=sys.stderr)
                return 128 + stopped.number
            if not _expected(error) or os.environ.get("JAXRL_TRACEBACK"):
                raise
            place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            text = files.reason(error) if isinstance(error, OSError) else str(error)
            print(f"error: {place}{text}", file=sys.stderr)
            return 2
    return 0


def _expected(error: BaseException) -> bool:
    """Whether the message of an error says all that a person needs: bad input, divergence, a refusal by the system."""
    from jaxrl.driver import NonFiniteError

    return isinstance(error, InputError | NonFiniteError) or getattr(error, "errno", None) in files.REFUSALS


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return
    if arguments[0] == "--version":
        print(f"jaxrl {jaxrl.__version__}")
        return
    command, rest = arguments[0], arguments[1:]
    if command in _PLAIN:
        options, run = _PLAIN[command]
        run(flags.parse(options, rest, f"jaxrl {command}"))
    elif command in _BOUND:
        options, run = _BOUND[command]
        names = list(itertools.takewhile(lambda word: not word.startswith("-"), rest[:2]))
        if len(names) == 2:
            run(names[0], names[1], rest[2:])
        elif {"-h", "--help"} & set(rest):
            flags.print_help(options, command, names[0] if names else None, rest)
        else:
            raise InputError(
                f"usage: jaxrl {command} AGENT ENV [flags]. Agents: {', '.join(agents.names())}. "
                "Environments: `jaxrl list envs`."
            )
    else:
        raise unknown("command", command, [*_BOUND, *_PLAIN])
