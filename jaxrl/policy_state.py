"""What of a state its policies read: the part that is worth keeping where states are too large to be kept whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import episode
from jaxrl.rollout import initial_memory
from jaxrl.types import Agent


def read(agent: Agent, state: Any, shared: Any = ()) -> tuple[int, ...]:
    """Returns which leaves of a state (their places) the greedy and the exploring policy depend on.

    Hyper-parameters and parameters of the environment are always among them.

    Args:
        agent: whose policies.
        state: shapes of the state of one run.
        shared: what all runs have in common.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(state)

    def act(leaves: list[Any], key: jax.Array) -> list[Any]:
        state = structure.unflatten(leaves)
        obs = episode.reset(agent.env, state.env_params, key, 1).obs
        out = []
        for policy_of in (agent.policy, agent.explore or agent.policy):
            policy = policy_of(state, shared)
            out.append((policy.memory, policy.act(key, obs, initial_memory(policy, 1))))
        return out

    leaves = [leaf for _, leaf in paths]
    jaxpr = jax.make_jaxpr(act)(leaves, jax.eval_shape(lambda: jax.random.key(0))).jaxpr
    live = {id(var) for var in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(var) in live for var in equation.outvars):
            live |= {id(var) for var in equation.invars}
    settings = ("hp", "env_params")
    return tuple(
        index
        for index, (path, _) in enumerate(paths)
        if id(jaxpr.invars[index]) in live or getattr(path[0], "name", None) in settings
    )


def take(state: Any, places: Sequence[int]) -> dict[str, jax.Array]:
    """Returns the leaves at some places by name; keys as their words."""
    leaves = jax.tree.leaves(state)
    return {f"policy.{place}": _words(leaves[place]) for place in places}


def put(shapes: Any, kept: Mapping[str, np.ndarray]) -> Any:
    """Returns a state with the leaves that `take` returned; all others are zeros.

    Args:
        shapes: of the batched state.
        kept: what `take` returned, among other entries or not.
    """
    leaves, structure = jax.tree.flatten(shapes)
    return structure.unflatten([_leaf(leaf, kept.get(f"policy.{place}")) for place, leaf in enumerate(leaves)])


def _words(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _leaf(shape: Any, kept: np.ndarray | None) -> Any:
    if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        words = jax.eval_shape(jax.random.key_data, shape)
        return jax.random.wrap_key_data(jnp.zeros(words.shape, words.dtype) if kept is None else jnp.asarray(kept))
    return np.zeros(shape.shape, shape.dtype) if kept is None else jnp.asarray(kept)
