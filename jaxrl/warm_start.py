"""Beginning a run with what another has learnt.

The new run has hyper-parameters, environment parameters, keys, episodes, replay, counters and schedules of its own. It
takes over the learner (networks, their targets, tables, temperatures) and the statistics of its signals, such as those
that observations are normalised by. The state of optimisers begins anew (fields of a learner with "opt" in their name),
and so do whatever counts (integers and flags) and the experience that some learners hold (`EXPERIENCE`); a learner may
name more such fields by a class attribute `ANEW`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError

# Fields of learners that hold what was met, or how often: it belongs to the environment and the schedules before.
EXPERIENCE = ("replay", "window", "trace", "visits", "count", "mean_reward", "reward", "priority")


def take(fresh: Any, learned: Any, num_runs: int) -> Any:
    """Returns the states of new runs with the learners of others.

    Args:
        fresh: batched state of the new runs, [num_runs, ...].
        learned: batched state of the runs before, of as many or of one, which all the new ones begin with.
        num_runs: how many there are.

    Raises:
        InputError: the states are of different algorithms, networks, spaces or numbers of runs.
    """
    runs = jax.tree.leaves(learned)[0].shape[0]
    if runs not in (1, num_runs):
        raise InputError(f"{num_runs} runs cannot begin with {runs}: as many are needed, or one for all.")
    if not (hasattr(fresh, "learner") and hasattr(learned, "learner")):
        raise InputError(f"a {type(learned).__name__} has no learner to begin with.")
    learner = type(fresh.learner)
    if jax.tree.structure(fresh.learner) != jax.tree.structure(learned.learner):
        raise InputError(
            f"the run to begin with has another learner ({_name(type(learned.learner))}) than this one "
            f"({_name(learner)}), or another network: agent and configuration must be the same."
        )
    anew = {*EXPERIENCE, *getattr(learner, "ANEW", ())}
    anew |= {name for name in getattr(learner, "_fields", ()) if "opt" in name}
    path_and_fresh, structure = jax.tree_util.tree_flatten_with_path(fresh.learner)
    leaves = []
    for (path, mine), theirs in zip(path_and_fresh, jax.tree.leaves(learned.learner), strict=True):
        begins = getattr(path[0], "name", None) in anew if path else False
        if begins or not jnp.issubdtype(mine.dtype, jnp.floating):
            leaves.append(mine)
        elif mine.shape[1:] == theirs.shape[1:]:
            leaves.append(_for_all(theirs, num_runs))
        else:
            raise InputError(
                f"the run to begin with has {jax.tree_util.keystr(path)} of shape {list(theirs.shape[1:])}, this one "
                f"{list(mine.shape[1:])}: the spaces of the environment and the sizes of the networks must be the same."
            )
    taken = fresh._replace(learner=jax.tree.unflatten(structure, leaves))
    if not jax.tree.leaves(getattr(fresh, "signals", ())):
        return taken
    if jax.tree.structure(fresh.signals) != jax.tree.structure(getattr(learned, "signals", ())):
        raise InputError("the run to begin with works on experience in another way, such as by normalising it.")

    def statistics(mine: Any, theirs: Any) -> Any:
        # What differs in shape is of the environments in parallel, as discounted returns so far are.
        return _for_all(theirs, num_runs) if mine.shape[1:] == theirs.shape[1:] else mine

    return taken._replace(signals=jax.tree.map(statistics, fresh.signals, learned.signals))


def _for_all(leaf: Any, num_runs: int) -> jax.Array:
    # A copy: what is trained is given away, and the run before may be looked at again.
    return jnp.array(np.broadcast_to(np.asarray(leaf), (num_runs, *leaf.shape[1:])))


def _name(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
