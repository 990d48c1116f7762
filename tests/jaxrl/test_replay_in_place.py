"""XLA's own account of a compiled iteration: the replay of every kind of agent is updated in place."""

import jax
import pytest

import envs
import jaxrl
from jaxrl import agents

SMALL = {"replay_capacity": 200_000, "hidden": (8,)}


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [
        ("dqn", "CartPole-v1", SMALL),
        ("dqn", "CartPole-v1", {**SMALL, "prioritized": True, "n_step": 3}),
        ("bootstrapped_dqn", "CartPole-v1", {**SMALL, "num_members": 2}),
        ("r2d2", "CartPole-v1", {"replay_capacity": 20_000, "hidden": (8,), "memory_size": 8}),  # of sequences
        ("ddpg", "Pendulum-v1", SMALL),
    ],
)
def test_replay_is_held_once(name, task, options):
    """Alone and in a batch of runs."""
    module = agents.get(name)
    env, params = envs.make(task)
    agent = module.make(env, module.Config(**options))
    hp = module.Hyperparams(total_steps=1e4)

    def program(state):
        return jaxrl.run(agent, state, 10)[0]

    def init(key):
        return agent.init(key, hp, params)

    keys = jax.random.split(jax.random.key(0), 4)
    for run, shapes in [
        (program, jax.eval_shape(init, keys[0])),
        (jax.vmap(program), jax.eval_shape(jax.vmap(init), keys)),
    ]:
        buffer = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.replay))
        memory = jax.jit(run, donate_argnums=0).lower(shapes).compile().memory_analysis()
        fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
        assert memory.alias_size_in_bytes > buffer
        assert memory.temp_size_in_bytes + fresh < 0.2 * buffer
