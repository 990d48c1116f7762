"""Functional reinforcement learning in pure JAX: a run is one compiled function, a thousand runs are one vmap."""

from jaxrl import agents
from jaxrl.driver import fit
from jaxrl.evaluate import evaluate
from jaxrl.placement import map_runs, use_all_cores
from jaxrl.rollout import rollout
from jaxrl.sweep import sweep
from jaxrl.train import make_train, run
from jaxrl.types import Agent, Metrics, Policy, Transition

__all__ = [
    "Agent",
    "Metrics",
    "Policy",
    "Transition",
    "agents",
    "evaluate",
    "fit",
    "make_train",
    "map_runs",
    "rollout",
    "run",
    "sweep",
    "use_all_cores",
]
