"""What connects the parts of an agent: schedules that reach the policy, seeds and labels that belong together.

The parts themselves are tested by hand beside them; a line that wires one wrongly leaves those tests green.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs.base import Env, Step
from envs.spaces import Box, Discrete
from jaxrl import agents, networks, policies
from jaxrl.agents import q_learning, r2d2, trpo
from jaxrl.evaluate import evaluate
from jaxrl.train import fields_of, make_train
from jaxrl.types import Context, Policy, Transition

DECAYING = [
    name
    for name in agents.NAMES
    if "epsilon_start" in fields_of(agents.get(name).Hyperparams())
    and "num_envs" in fields_of(agents.get(name).Config())
    and "hidden" in fields_of(agents.get(name).Config())  # tables: tests/jaxrl/test_tabular_agents.py
]
SMALL = {
    "num_envs": 2,
    "hidden": (4, 4),
    "replay_capacity": 64,
    "warmup_steps": 32,
    "batch_size": 4,
    "memory_size": 4,
    "rollout_length": 8,
    "num_minibatches": 1,
    "num_quantiles": 4,
    "burn_in": 1,
}


def small(module):
    """The smallest configuration: its own defaults but for what makes it large."""
    config = module.Config()
    return dataclasses.replace(config, **{k: v for k, v in SMALL.items() if k in fields_of(config)})


def share_of_other_actions(agent, state, rows=4_000):
    """How often the policy that explores departs from the greedy one, in one observation."""
    obs = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (rows, *x.shape[1:])), state.episode.obs)

    def act(policy, key):
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *jnp.shape(x))), policy.memory)
        return policy.act(key, obs, memory)[0]

    greedy = act(agent.policy(state), jax.random.key(0))
    return float(jnp.mean(act(agent.explore(state), jax.random.key(1)) != greedy))


@pytest.mark.parametrize("name", DECAYING)
def test_epsilon_falls_from_its_start_to_its_end(name):
    """Of ε (n − 1) in n depart from the greedy action: at the start, at the horizon and beyond."""
    module = agents.get(name)
    env, params = envs.make("Catch-bsuite")
    config = small(module)
    if "noisy" in fields_of(config):
        config = dataclasses.replace(config, noisy=False)
    agent = module.make(env, config)
    horizon = agent.warmup_steps + 100 * agent.steps_per_iteration
    hp = module.Hyperparams(epsilon_start=0.8, epsilon_end=0.2, epsilon_fraction=0.5, total_steps=float(horizon))
    state = jax.jit(agent.init)(jax.random.key(0), hp, params)
    if name == "iqn":  # its quantiles are drawn anew for every row: they must not decide
        plain = jax.tree.map(lambda x: jnp.arange(3.0) if x.shape == (3,) else jnp.zeros_like(x), state.learner.params)
        state = state._replace(learner=state.learner._replace(params=plain))
    others = 1 - 1 / env.action_space.n
    for progress, epsilon in ((0.0, 0.8), (1.0, 0.2), (3.0, 0.2)):
        done = max(round((progress * horizon - agent.warmup_steps) / agent.steps_per_iteration), 0)
        begun = agent.warmup_steps / horizon if progress == 0 else 0.0
        wanted = epsilon - begun / 0.5 * 0.6
        at = state._replace(iteration=jnp.int32(done))
        np.testing.assert_allclose(share_of_other_actions(agent, at), wanted * others, atol=0.03)


# A memory that only the parameter moves, where the observation is 1: q = memory.
MEMORY = networks.Recurrent(
    lambda key: jnp.float32(1.0),
    jnp.zeros(1),
    lambda w, obs, memory: ((memory + w * obs,), memory + w * obs),
    lambda w, obs, memory, ended: _sums(w, obs, memory, ended),
)


def _sums(w, obs, memory, ended):
    memories = []
    for t in range(len(obs)):
        memories.append(memory + w * obs[t])
        memory = jnp.where(ended[t][:, None], 0.0, memories[-1])
    return (jnp.stack(memories),), jnp.stack(memories)


def updated_memory(obs, ended, config):
    """One update of R2D2 on a sequence of three steps, the first of which is burn-in."""
    batch = Transition(
        obs=jnp.asarray(obs)[None, :3, None],
        action=jnp.zeros((1, 3), jnp.int32),
        reward=jnp.full((1, 3), 5.0),
        terminated=jnp.asarray(ended)[None],
        truncated=jnp.zeros((1, 3), bool),
        next_obs=jnp.asarray(obs)[None, 1:, None],
        memory=jnp.full((1, 1), 10.0),
    )
    hp = r2d2.Hyperparams(learning_rate=0.1, gamma=0.0, total_steps=1e4)
    learner = r2d2.init_learner(MEMORY, jax.random.key(0), hp)
    return r2d2.update(config, MEMORY, hp, Context(), learner, batch, jax.random.key(0))


BURN_IN = r2d2.Config(burn_in=1, n_step=1, rollout_length=2, double=False, value_rescaling=False)


def test_no_gradient_passes_through_the_burn_in():
    """The parameter matters through the first observation alone: nothing may move it."""
    learner, told = updated_memory([1.0, 0.0, 0.0, 0.0], [False] * 3, BURN_IN)
    assert float(told.scalars["loss"]) > 0
    assert float(learner.params) == 1.0
    learner, _ = updated_memory([0.0, 1.0, 0.0, 0.0], [False] * 3, BURN_IN)
    assert float(learner.params) != 1.0


@pytest.mark.parametrize(("ended", "stored", "memory"), [(False, True, 11.0), (True, True, 0.0), (False, False, 1.0)])
def test_the_memory_after_the_burn_in(ended, stored, memory):
    """Of the actor's 10 and the burn-in's 1; set back where its last step ends an episode; from 0 if none is stored."""
    config = dataclasses.replace(BURN_IN, stored_memory=stored)
    _, told = updated_memory([1.0, 0.0, 0.0, 0.0], [ended, False, False], config)
    np.testing.assert_allclose(told.scalars["loss"], np.square(5.0 - memory) / 2, rtol=1e-6)


def test_trpo_takes_no_step_that_lowers_its_objective():
    """With a divergence that allows steps far beyond the linear model, the longest ones make the objective worse."""
    config = trpo.Config(hidden=(8,), line_search_steps=12, critic_minibatches=1)
    nets = trpo.build(config, Box(-1, 1, (3,)), Discrete(3))
    hp = trpo.Hyperparams(max_kl=1e6, damping=1e-6, total_steps=1e4)
    refused = 0
    for seed in range(6):
        learner = trpo.init_learner(nets, jax.random.key(seed), hp)
        obs = jax.random.normal(jax.random.key(seed + 100), (16, 4, 3))
        out = nets.policy(learner.params, obs)
        action = out.sample(jax.random.key(seed + 200))
        extras = policies.Sampled(action, out.log_prob(action))
        flags = jnp.zeros((16, 4), bool)
        reward = jax.random.normal(jax.random.key(seed + 300), (16, 4))
        batch = Transition(obs, action, reward, flags, flags, obs, extras)
        _, told = trpo.update(config, nets, hp, Context(), learner, batch, jax.random.key(0))
        gain, length = float(told.scalars["surrogate_gain"]), float(told.scalars["step_length"])
        assert gain > 0 or length == 0
        refused += length < 1
    assert refused


@dataclasses.dataclass(frozen=True)
class Coins(Env):
    """Ten steps, each of which pays the action: 0 or 1."""

    @property
    def observation_space(self):
        return Box(0.0, 10.0, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    def default_params(self):
        return ()

    def reset(self, key, params):
        return jnp.zeros(1), jnp.float32(0)

    def step(self, key, state, action, params):
        return Step(jnp.full(1, state + 1), state + 1, action.astype(jnp.float32), state + 1 >= 10, {})


def test_every_step_of_an_evaluation_has_a_key_of_its_own():
    def act(key, obs, memory):
        return jax.random.bernoulli(key, 0.5, (len(obs),)).astype(jnp.int32), memory, ()

    returns = np.asarray(evaluate(Coins(), (), Policy(act), jax.random.key(0), 200, max_steps=12).returns)
    assert abs(returns.mean() - 5) < 0.6
    np.testing.assert_allclose(returns.var(), 2.5, rtol=0.3)  # 25, were all steps alike


def test_the_labels_of_a_sweep_are_those_of_its_runs():
    """Three by two by three, in an order that is not its own inverse."""
    env, params = envs.make("GridWorld-3x3", max_steps=20)
    rates, sizes, seeds = [0.9, 0.1, 0.4], [30, 10], [7, 2, 5]
    grid = {"hp.learning_rate": rates, "config.steps_per_iteration": sizes}
    found = jaxrl.sweep("q_learning", env, params, env_steps=90, seeds=seeds, grid=grid, num_evals=1, eval_episodes=2)
    for size in sizes:
        agent = q_learning.make(env, q_learning.Config(steps_per_iteration=size))
        train = jax.jit(jax.vmap(make_train(agent, 90, 1, 2), in_axes=(0, None, None)))
        for rate in rates:
            alone = train(
                jax.vmap(jax.random.key)(jnp.asarray(seeds)), q_learning.Hyperparams(learning_rate=rate), params
            )
            lanes = found.sel({"hp.learning_rate": rate, "config.steps_per_iteration": size})
            wanted = np.asarray(alone.metrics.scalars["td_error"]).mean((-2, -1))
            assert len(np.unique(wanted)) == len(seeds)
            mine = lanes.learner_td_error.sel(seed=seeds).isel(env_step=-1).values
            np.testing.assert_allclose(mine, wanted, rtol=1e-5)
