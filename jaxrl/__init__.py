"""Functional reinforcement learning in pure JAX: a run is one compiled function, a thousand runs are one vmap."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

try:
    import envs.values

    _ours = os.path.dirname(envs.__file__ or "") == os.path.dirname(envs.values.__file__)
except ImportError as _error:
    if not (_error.name or "").startswith("envs"):
        raise
    _ours = False
if not _ours:
    _found = sys.modules.get("envs")
    _place = getattr(_found, "__file__", None) or ", ".join(getattr(_found, "__path__", [])) or "nothing"
    raise ImportError(
        f"jaxrl comes with a package `envs`, but `import envs` finds {_place}. Rename that, or start from another "
        "directory; of two installed packages of this name one must go."
    )

from jaxrl import agents
from jaxrl.cache import use_cache
from jaxrl.evaluate import evaluate
from jaxrl.library import fit, load
from jaxrl.placement import map_runs, use_all_cores
from jaxrl.rollout import rollout
from jaxrl.sweep import sweep
from jaxrl.train import make_train, run
from jaxrl.types import Agent, Metrics, Policy, Transition

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Metrics",
    "Policy",
    "Transition",
    "agents",
    "evaluate",
    "fit",
    "load",
    "make_train",
    "map_runs",
    "rollout",
    "run",
    "sweep",
    "use_all_cores",
    "use_cache",
]


def __getattr__(name: str) -> ModuleType:
    """Imports a part of the package (`jaxrl.plotting`, `jaxrl.losses` …) when it is first asked for."""
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
