"""What every agent must do: learn the probes, treat truncation right, have independent lanes, resume bitwise."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes, threefry
from envs.errors import InputError
from jaxrl import agents, checkpoint, normalize, placement, policies, portable
from jaxrl.agents import (
    a2c,
    actor_critic,
    apg,
    awr,
    bandit,
    bootstrapped_dqn,
    c51,
    crossq,
    d4pg,
    ddpg,
    dqn,
    dyna_q,
    es,
    impala,
    iqn,
    monte_carlo,
    mpo,
    n_step_sarsa,
    ppo,
    ppo_recurrent,
    ppo_transformer,
    pqn,
    q_learning,
    qr_dqn,
    r2d2,
    rainbow,
    reinforce,
    sac,
    sac_discrete,
    sarsa,
    sarsa_lambda,
    td3,
    tqc,
    trpo,
)
from jaxrl.export import export_policy
from jaxrl.rollout import rollout
from jaxrl.train import EVAL_SEED, make_train, schedule
from jaxrl.types import Context

GAMMA = 0.9


class Case(NamedTuple):
    """An agent at a size that learns a probe in seconds."""

    module: Any
    config: Any
    hp: Any
    values: (
        Callable[[Any, Any, Any], Any] | None
    )  # (agent, state, obs of all states) -> V [num_states]; None: none learnt
    iterations: int
    continuous: bool = False
    tabular: bool = False
    env: str = "CartPole-v1"  # a registered environment for tests of machinery
    probes: tuple[str, ...] | None = None  # those that the agent can solve; None: all


def count(obs):
    return len(jax.tree.leaves(obs)[0])


def dqn_values(agent, state, obs):
    net = dqn.build(agent.config, agent.env.observation_space, 2)
    return net.apply(state.learner.params, obs).max(-1)


def c51_values(agent, state, obs):
    net = c51.build(agent.config, agent.env.observation_space, 2)
    return c51.q_values(state.hp, net.apply(state.learner.params, obs)).max(-1)


def qr_dqn_values(agent, state, obs):
    net = qr_dqn.build(agent.config, agent.env.observation_space, 2)
    return net.apply(state.learner.params, obs).mean(-1).max(-1)


def iqn_values(agent, state, obs):
    net = iqn.build(agent.config, agent.env.observation_space, 2)
    return net.apply(state.learner.params, obs, iqn.midpoints(agent.config, (count(obs),))).mean(-1).max(-1)


def rainbow_values(agent, state, obs):
    net = rainbow.build(agent.config, agent.env.observation_space, 2)
    return rainbow.q_values(agent.config, state.hp, net.apply(state.learner.params, obs)).max(-1)


def bootstrapped_dqn_values(agent, state, obs):
    net, learner = bootstrapped_dqn.build(agent.config, agent.env.observation_space, 2), state.learner
    return bootstrapped_dqn.q_values(net, state.hp, learner.params, learner.prior, obs).mean(0).max(-1)


def r2d2_values(agent, state, obs):
    """Of each state as the first of an episode."""
    net = r2d2.build(agent.config, agent.env.observation_space, 2)
    memory = jnp.broadcast_to(net.memory, (count(obs), *net.memory.shape))
    return net.step(state.learner.params, obs, memory)[0][0].max(-1)


def pqn_values(agent, state, obs):
    return pqn.build(agent.config, agent.env.observation_space, 2).apply(state.learner.params, obs).max(-1)


def critic_values(agent, state, obs):
    """Of the agents whose networks are those of `jaxrl.policies`."""
    nets = agents.get(agent.name).build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.value(state.learner.params, obs)


def apg_values(agent, state, obs):
    nets = apg.build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.critic.apply(state.learner.critic, obs)


def memory_values(agent, state, obs):
    """Of each state as the first of an episode; in DelayedReward, of state 1 after state 0."""
    nets = agents.get(agent.name).build(agent.config, agent.env.observation_space, agent.env.action_space)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(obs), *x.shape)), nets.memory)
    ways = jnp.stack([jnp.broadcast_to(obs[0], obs.shape), obs])  # [time, state, ...]
    after_0 = nets.unroll(state.learner.params, ways, start, jnp.zeros((2, len(obs)), bool))[1][1]
    first = nets.step(state.learner.params, obs, start)[1]
    delayed = state.env_params.which == [type(probe).__name__ for probe in agent.env.probes].index("DelayedReward")
    return jnp.where(delayed & (jnp.arange(len(obs)) > 0), after_0, first)


def ddpg_values(agent, state, obs):
    nets = ddpg.build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.critics.apply(state.learner.critics, obs, nets.actor.apply(state.learner.actor, obs))[0, ..., 0]


def td3_values(agent, state, obs):
    nets = td3.build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.critics.apply(state.learner.critics, obs, nets.actor.apply(state.learner.actor, obs))[..., 0].min(0)


def crossq_values(agent, state, obs):
    nets, learner = crossq.build(agent.config, agent.env.observation_space, agent.env.action_space), state.learner
    action = crossq.policy_of(nets.actor.apply(learner.actor, learner.actor_statistics, obs)).mode()
    x = jnp.concatenate([obs, action], -1)
    return jax.vmap(nets.critic.apply, (0, 0, None))(learner.critics, learner.critics_statistics, x)[..., 0].min(0)


def mpo_values(agent, state, obs):
    nets = mpo.build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.critic.apply(state.learner.critic, obs, nets.actor.apply(state.learner.actor, obs).mode())[0, ..., 0]


def sac_values(agent, state, obs):
    nets = sac.build(agent.config, agent.env.observation_space, agent.env.action_space)
    action = nets.actor.apply(state.learner.actor, obs).mode()
    return nets.critics.apply(state.learner.critics, obs, action)[..., 0].min(0)


def tqc_values(agent, state, obs):
    nets = tqc.build(agent.config, agent.env.observation_space, agent.env.action_space)
    action = nets.actor.apply(state.learner.actor, obs).mode()
    return nets.critics.apply(state.learner.critics, obs, action).mean((0, -1))


def d4pg_values(agent, state, obs):
    nets = d4pg.build(agent.config, agent.env.observation_space, agent.env.action_space)
    logits = nets.critics.apply(state.learner.critics, obs, nets.actor.apply(state.learner.actor, obs))[0]
    return jax.nn.softmax(logits) @ jnp.linspace(state.hp.v_min, state.hp.v_max, agent.config.num_atoms)


def sac_discrete_values(agent, state, obs):
    nets = sac_discrete.build(agent.config, agent.env.observation_space, agent.env.action_space)
    return nets.critics.apply(state.learner.critics, obs).min(0).max(-1)


PPO = Case(
    ppo,
    ppo.Config(num_envs=16, rollout_length=16, hidden=(16,), anneal_learning_rate=False, clip_value=False),
    ppo.Hyperparams(learning_rate=5e-3, gamma=GAMMA, total_steps=1e6),
    critic_values,
    iterations=150,
)
A2C = PPO._replace(
    module=a2c,
    config=a2c.Config(num_envs=32, rollout_length=8, hidden=(16,), anneal_learning_rate=False),
    hp=a2c.Hyperparams(learning_rate=5e-3, gamma=GAMMA, entropy_coef=0.01, total_steps=1e6),
    iterations=800,
)
REINFORCE = PPO._replace(
    module=reinforce,
    config=reinforce.Config(num_envs=32, rollout_length=8, hidden=(16,), anneal_learning_rate=False),
    hp=reinforce.Hyperparams(
        learning_rate=5e-3, value_learning_rate=5e-3, gamma=GAMMA, entropy_coef=0.01, total_steps=1e6
    ),
    iterations=800,
)
TRPO = PPO._replace(
    module=trpo,
    config=trpo.Config(num_envs=16, rollout_length=16, hidden=(16,), critic_epochs=4, critic_minibatches=4),
    hp=trpo.Hyperparams(gamma=GAMMA, critic_learning_rate=5e-3),
)
Q_LEARNING = Case(
    q_learning,
    q_learning.Config(num_envs=4),
    q_learning.Hyperparams(learning_rate=0.02, gamma=GAMMA, epsilon_start=1.0, epsilon_end=1.0, total_steps=1e6),
    lambda agent, state, obs: state.learner.q.max(-1),
    iterations=50,
    tabular=True,
    env="GridWorld-4x4",
)
PROBES = {probe.__name__: probe for probe in probes.ALL if probe is not probes.Recall}
PPO_RECURRENT = PPO._replace(
    module=ppo_recurrent,
    config=ppo_recurrent.Config(
        rollout_length=16,
        num_minibatches=2,
        hidden=(),
        memory_size=8,
        normalize_reward=False,
        anneal_learning_rate=False,
    ),
    hp=ppo_recurrent.Hyperparams(learning_rate=1e-2, gamma=GAMMA, total_steps=1e6),
    values=memory_values,
    iterations=60,
    # Not DelayedActionReward, where a good policy leaves state 1 alone and a shared memory moves its value, nor
    # TimeLimit, whose last successor has a past in which nobody acts: their own tests have Recall and exact cuts.
    probes=("ConstantReward", "RandomReward", "ObservedReward", "DelayedReward", "ActionReward", "ActionObservation"),
)
# Agents that learn about the policy that acts must not act at random for long.
ON_POLICY = {"learning_rate": 0.05, "gamma": GAMMA, "epsilon_start": 1.0, "epsilon_end": 0.02, "total_steps": 1e4}
OFF_POLICY = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (16,)}
DDPG = Case(
    ddpg,
    ddpg.Config(**OFF_POLICY, num_updates=2),
    ddpg.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_rate=0.05, noise_std=0.3),
    ddpg_values,
    iterations=800,
    continuous=True,
    env="Pendulum-v1",
)
# Soft values hold a bonus for entropy: the temperature is kept where it is small.
SOFT = {"gamma": GAMMA, "target_rate": 0.05, "temperature": 0.01, "temperature_learning_rate": 0.0}
SOFT |= {"policy_learning_rate": 5e-3, "critic_learning_rate": 5e-3}
CASES = {
    "q_learning": Q_LEARNING,
    "sarsa": Q_LEARNING._replace(module=sarsa, config=sarsa.Config(num_envs=4), hp=sarsa.Hyperparams(**ON_POLICY)),
    "sarsa_lambda": Q_LEARNING._replace(
        module=sarsa_lambda,
        config=sarsa_lambda.Config(num_envs=4),
        hp=sarsa_lambda.Hyperparams(**ON_POLICY, trace_lambda=0.5),
    ),
    "n_step_sarsa": Q_LEARNING._replace(
        module=n_step_sarsa, config=n_step_sarsa.Config(num_envs=4), hp=n_step_sarsa.Hyperparams(**ON_POLICY)
    ),
    "monte_carlo": Q_LEARNING._replace(
        module=monte_carlo,
        config=monte_carlo.Config(num_envs=4, sample_average=False),
        hp=monte_carlo.Hyperparams(**ON_POLICY),
    ),
    "dyna_q": Q_LEARNING._replace(
        module=dyna_q,
        hp=dyna_q.Hyperparams(learning_rate=0.02, gamma=GAMMA, epsilon=1.0),
        config=dyna_q.Config(num_envs=4, planning_steps=2),
        # Its model remembers the last reward, so random ones are out.
        probes=tuple(name for name in PROBES if name != "RandomReward"),
    ),
    "bandit": Q_LEARNING._replace(
        module=bandit,
        config=bandit.Config(num_envs=4),
        hp=bandit.Hyperparams(epsilon=1.0),
        # one-step problems
        probes=("ConstantReward", "RandomReward", "ObservedReward", "ActionReward", "ActionObservation"),
    ),
    "dqn": Case(
        dqn,
        dqn.Config(num_envs=4, batch_size=64, warmup_steps=200, replay_capacity=2_000, hidden=(16,), num_updates=2),
        dqn.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_period=20, epsilon_end=1.0, total_steps=1e6),
        dqn_values,
        iterations=800,
    ),
    "ddpg": DDPG,
    "td3": DDPG._replace(
        module=td3,
        config=td3.Config(**OFF_POLICY, num_updates=2),
        hp=td3.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_rate=0.05, noise_std=0.3, target_noise_std=0.05),
        values=td3_values,
    ),
    "sac": DDPG._replace(
        module=sac, config=sac.Config(**OFF_POLICY, num_updates=2), hp=sac.Hyperparams(**SOFT), values=sac_values
    ),
    "crossq": DDPG._replace(
        module=crossq,
        config=crossq.Config(**OFF_POLICY, num_updates=3, critic_hidden=(16,)),
        # An entropy that is always exceeded lets the temperature fall from where it is small.
        hp=crossq.Hyperparams(learning_rate=5e-3, gamma=GAMMA, temperature=0.01, target_entropy=-5.0),
        values=crossq_values,
    ),
    "mpo": DDPG._replace(
        module=mpo,
        config=mpo.Config(**OFF_POLICY, num_updates=2, num_samples=8, target_period=20),
        hp=mpo.Hyperparams(
            policy_learning_rate=5e-3, critic_learning_rate=5e-3, gamma=GAMMA, epsilon_mean=0.05, epsilon_std=0.01
        ),
        values=mpo_values,
    ),
    "tqc": DDPG._replace(
        module=tqc,
        config=tqc.Config(**OFF_POLICY, num_updates=2, num_quantiles=5, num_dropped=0),
        hp=tqc.Hyperparams(**SOFT),
        values=tqc_values,
    ),
    "d4pg": DDPG._replace(
        module=d4pg,
        config=d4pg.Config(**OFF_POLICY, num_updates=2, n_step=2),
        hp=d4pg.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_rate=0.05, noise_std=0.3, v_min=-10.0, v_max=10.0),
        values=d4pg_values,
    ),
    "sac_discrete": DDPG._replace(
        module=sac_discrete,
        config=sac_discrete.Config(**OFF_POLICY, num_updates=2),
        hp=sac_discrete.Hyperparams(**SOFT),
        values=sac_discrete_values,
        continuous=False,
        env="CartPole-v1",
    ),
    "c51": Case(
        c51,
        # Small steps and a long memory: the larger of two noisy means is biased upwards.
        c51.Config(**OFF_POLICY | {"replay_capacity": 8_000}, num_updates=2, num_atoms=21),
        c51.Hyperparams(
            learning_rate=1e-3, gamma=GAMMA, target_period=20, epsilon_end=1.0, total_steps=1e6, v_min=-2.0, v_max=8.0
        ),
        c51_values,
        iterations=1600,
    ),
    "qr_dqn": Case(
        qr_dqn,
        qr_dqn.Config(**OFF_POLICY | {"replay_capacity": 8_000}, num_updates=2, num_quantiles=11),
        qr_dqn.Hyperparams(learning_rate=2e-3, gamma=GAMMA, target_period=20, epsilon_end=1.0, total_steps=1e6),
        qr_dqn_values,
        iterations=1600,
    ),
    "bootstrapped_dqn": Case(
        bootstrapped_dqn,
        bootstrapped_dqn.Config(**OFF_POLICY, num_updates=2, num_members=4),
        # The members stop exploring once they agree: priors that stay apart for a while.
        bootstrapped_dqn.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_period=20, mask_probability=1.0),
        bootstrapped_dqn_values,
        iterations=800,
    ),
    "r2d2": Case(
        r2d2,
        r2d2.Config(num_envs=4, rollout_length=4, burn_in=2, warmup_steps=200, memory_size=16, hidden=(), n_step=2),
        r2d2.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_period=20, epsilon_end=1.0, total_steps=1e6),
        r2d2_values,
        iterations=300,
        # Whose states are all met with an empty memory; the others, and the time limit, in test_r2d2.
        probes=("ConstantReward", "RandomReward", "ObservedReward", "ActionReward", "ActionObservation"),
    ),
    "iqn": Case(
        iqn,
        iqn.Config(
            **OFF_POLICY | {"replay_capacity": 8_000, "hidden": (16, 16)},
            num_updates=2,
            num_quantiles=8,
            num_target_quantiles=8,
            num_policy_quantiles=8,
            num_cosines=8,
        ),
        iqn.Hyperparams(learning_rate=2e-3, gamma=GAMMA, target_period=20, epsilon_end=1.0, total_steps=1e6),
        iqn_values,
        iterations=1600,
    ),
    "rainbow": Case(
        rainbow,
        rainbow.Config(**OFF_POLICY, num_updates=2, num_atoms=21),
        rainbow.Hyperparams(learning_rate=5e-3, gamma=GAMMA, target_period=20, total_steps=1e4, v_min=-2.0, v_max=8.0),
        rainbow_values,
        iterations=800,
    ),
    "pqn": Case(
        pqn,
        pqn.Config(
            num_envs=16, rollout_length=8, num_epochs=2, num_minibatches=2, hidden=(16,), anneal_learning_rate=False
        ),
        pqn.Hyperparams(learning_rate=2e-3, gamma=GAMMA, epsilon_end=1.0, q_lambda=0.0, total_steps=1e6),
        pqn_values,
        iterations=400,
    ),
    "apg": Case(
        apg,
        apg.Config(horizon=8, critic_epochs=2, hidden=(16,), anneal_learning_rate=False),
        apg.Hyperparams(policy_learning_rate=2e-3, critic_learning_rate=2e-3, gamma=GAMMA, total_steps=1e6),
        apg_values,
        iterations=400,
        continuous=True,
        env="Pendulum-v1",
    ),
    "awr": PPO._replace(
        module=awr,
        config=awr.Config(num_envs=16, rollout_length=8, num_rollouts=4, critic_steps=8, policy_steps=8, hidden=(16,)),
        hp=awr.Hyperparams(policy_learning_rate=2e-3, critic_learning_rate=5e-3, gamma=GAMMA),
    ),
    "es": Case(
        es,
        es.Config(population=16, episodes=4, horizon=8, hidden=(8,)),
        es.Hyperparams(),
        None,
        iterations=60,
        probes=("ActionReward", "ActionObservation", "DelayedActionReward"),
    ),
    "a2c": A2C,
    "reinforce": REINFORCE,
    "reinforce_continuous": REINFORCE._replace(continuous=True, env="Pendulum-v1"),
    "actor_critic": REINFORCE._replace(
        module=actor_critic,
        config=actor_critic.Config(num_envs=32, steps_per_iteration=8, hidden=(16,), anneal_learning_rate=False),
        hp=actor_critic.Hyperparams(learning_rate=2e-3, value_learning_rate=2e-3, gamma=GAMMA, total_steps=1e6),
        iterations=200,
    ),
    "trpo": TRPO,
    "impala": A2C._replace(
        module=impala,
        config=impala.Config(num_envs=32, rollout_length=8, hidden=(16,), lag=1, anneal_learning_rate=False),
        hp=impala.Hyperparams(learning_rate=5e-3, gamma=GAMMA, total_steps=1e6),
    ),
    "ppo": PPO,
    "ppo_recurrent": PPO_RECURRENT,
    "ppo_transformer": PPO_RECURRENT._replace(
        module=ppo_transformer,
        config=ppo_transformer.Config(
            rollout_length=16,
            num_minibatches=2,
            features=8,
            memory_length=2,
            normalize_reward=False,
            anneal_learning_rate=False,
        ),
        hp=ppo_transformer.Hyperparams(learning_rate=1e-2, gamma=GAMMA, total_steps=1e6),
    ),
    "ppo_continuous": PPO._replace(continuous=True, env="Pendulum-v1"),
}


def test_every_agent_has_a_case():
    assert {case.module.__name__.rpartition(".")[2] for case in CASES.values()} == set(agents.NAMES)


# Minutes of compilation between them: variants of agents that are in, and the largest programs.
LONG = {"ppo_continuous", "reinforce_continuous", "ppo_transformer", "iqn", "tqc", "d4pg", "mpo", "sac_discrete"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]
)
def test_probes(name, optimised):
    """The values that the probes are known to have; for TimeLimit they tell every wrong treatment of truncation."""
    case = CASES[name]
    env = probes.Chosen(tabular=case.tabular, continuous=case.continuous)
    agent = case.module.make(env, case.config)
    names = [type(probe).__name__ for probe in env.probes]
    chosen = np.array([names.index(probe) for probe in case.probes or names])
    obs = jnp.arange(env.num_states) if case.tabular else jnp.eye(env.num_states)

    @optimised
    @jax.vmap
    def learn(which):
        params = probes.ChosenParams(which=which)
        state, _ = jaxrl.run(agent, agent.init(jax.random.key(7), case.hp, params), case.iterations)
        played = jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 64, max_steps=3)
        values = case.values(agent, state, obs) if case.values else jnp.asarray(env.values(GAMMA))[which]
        return values, played.returns.mean()

    for probe, values, mean, want in zip(chosen, *learn(chosen), env.values(GAMMA)[chosen], strict=True):
        # Continuous policies keep some spread, which costs a little reward and so a little value.
        tolerance = 0.1 * max(1.0, float(np.nanmax(np.abs(want)))) + (0.05 if case.continuous else 0.0)
        tolerance += 0.25 if names[probe] == "RandomReward" else 0.0  # a mean of few rewards, each 1 ± 1
        met = np.isfinite(want)
        np.testing.assert_allclose(np.asarray(values)[met], want[met], atol=tolerance, err_msg=names[probe])
        if names[probe] in ("ActionReward", "ActionObservation", "DelayedActionReward"):
            best = 0.0 if case.continuous else 1.0
            np.testing.assert_allclose(mean, best, atol=0.05, err_msg=names[probe])


VALUES = ("dqn", "c51", "qr_dqn", "iqn", "rainbow", "bootstrapped_dqn", "r2d2", "pqn", "sac_discrete")


@pytest.mark.parametrize(
    "name",
    [name if name in ("dqn", "pqn") else pytest.param(name, marks=pytest.mark.slow) for name in (*VALUES, "ppo")],
)
def test_forbidden_actions_are_neither_taken_nor_hoped_for(name, optimised):
    case, env = CASES[name], probes.ForbiddenAction()
    agent = case.module.make(env, case.config)
    seen = {"state": jnp.eye(2), "action_mask": jnp.array([[True, True], [True, False]])}

    @optimised
    def learn(key):
        state, metrics = jaxrl.run(agent, agent.init(key, case.hp, probes.Params()), case.iterations)
        played = jaxrl.evaluate(env, probes.Params(), agent.policy(state), jax.random.key(1), 16, max_steps=3)
        return metrics.episodes, played.returns, case.values(agent, state, seen)

    episodes, returns, values = learn(jax.random.key(7))
    np.testing.assert_array_equal(episodes.return_sum, -np.asarray(episodes.count, np.float32))  # taken it pays 3
    np.testing.assert_array_equal(returns, -1.0)
    np.testing.assert_allclose(values[0], env.values(GAMMA)[0], atol=0.1)


@pytest.mark.parametrize(
    "name",
    ["ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a2c", "trpo", "reinforce", "impala", "awr"))],
)
def test_several_actions_at_once_are_learnt_and_exported(name, optimised, tmp_path):
    case, env = CASES[name], probes.ActionCombination()
    agent = case.module.make(env, case.config)
    init, step = optimised(agent.init), optimised(lambda state: jaxrl.run(agent, state, case.iterations))
    state, _ = step(init(jax.random.key(7), case.hp, probes.Params()))
    acting = agent.policy(state)
    action = jax.jit(acting.act)(jax.random.key(0), jnp.eye(3), ())[0]
    np.testing.assert_array_equal(action, env.best())
    np.testing.assert_allclose(case.values(agent, state, jnp.eye(3)), 1.0, atol=0.1)
    path = export_policy(tmp_path / "policy.npz", agent.policy, state, env.observation_space, env.action_space)
    policy = portable.load(path)
    for seen, best in zip(np.eye(3, dtype=np.float32), env.best(), strict=True):
        np.testing.assert_array_equal(policy.act(seen)[0], best)


NORMALISING = (a2c, ppo, trpo)  # observations and rewards, by statistics of their own


def machinery(name):
    """(agent, env_params, hp, n iterations) in a real environment, small."""
    case = CASES[name]
    env, params = envs.make(case.env)
    config = case.config
    if case.module in NORMALISING:
        config = case.module.Config(hidden=(8,), normalize_obs=True, normalize_reward=True, rollout_length=32)
    return case.module.make(env, config), params, case.hp


def batched(agent, params, hp, seeds):
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    n = len(seeds)
    return keys, *jax.tree.map(lambda x: jnp.repeat(np.asarray(x)[None], n, 0), (hp, params))


def raw(tree):
    """Leaves as NumPy arrays, keys as their data."""

    def leaf(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return jax.tree.map(leaf, tree)


def assert_close(got, want):
    """To rounding, which another place in a batch, or another batch, may change."""
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4, err_msg=jax.tree_util.keystr(path))


def assert_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(one, other)


# Built like one that is always tested (dqn, rainbow, r2d2; sac; a2c, ppo): these wait for the slow tests.
LIKE_OTHERS = {
    *("c51", "qr_dqn", "iqn", "bootstrapped_dqn"),
    *("ddpg", "td3", "d4pg", "tqc", "sac_discrete", "crossq", "mpo"),
    *("reinforce", "actor_critic", "trpo", "impala", "ppo_transformer"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name
        for name in CASES
        if not name.endswith("_continuous") or name == "ppo_continuous"
    ],
)
def test_lanes_and_resume(name, tmp_path):
    """Runs do not depend on their place and company; run(3), a checkpoint on disk, run(3) is bitwise as without it.

    64 initialisations on two devices; a hang here is XLA's thread pool waiting for itself: see `networks.orthogonal`.
    """
    agent, params, hp = machinery(name)
    init = jax.jit(placement.map_runs(agent.init))
    keys, hps, environments = batched(agent, params, hp, range(64))
    states = init(keys, hps, environments)
    assert all(len(leaf) == 64 for leaf in jax.tree.leaves(states))
    assert_close(jax.tree.map(lambda x: x[::-1], raw(init(keys[::-1], hps, environments))), raw(states))

    program = jax.jit(placement.map_runs(lambda state: jaxrl.run(agent, state, 3)[0]))

    def three(state):
        return program(placement.spread(state))  # compiled once: always the same sharding

    start = jax.tree.map(lambda x: x[:8], states)
    middle = three(start)
    want = raw(three(middle))
    flat = np.concatenate([np.reshape(x, (8, -1)).astype(np.float64) for x in jax.tree.leaves(want.learner)], 1)
    assert len(np.unique(flat, axis=0)) == 8  # and no two lanes are alike

    others = jax.tree.map(lambda x: x[np.array([3, *range(8, 15)])], states)
    assert_close(jax.tree.map(lambda x: x[0], raw(three(others))), jax.tree.map(lambda x: x[3], raw(middle)))

    checkpoint.save(tmp_path, middle, 3, {"agent": name})
    restored, step = checkpoint.restore(tmp_path, jax.eval_shape(lambda x: x, middle), {"agent": name})
    assert step == 3
    assert_equal(raw(three(restored)), want)


@pytest.mark.parametrize("name", ["q_learning", pytest.param("dqn", marks=pytest.mark.slow)])
def test_alone_and_in_one_stretch(name):
    """Of a batch of 8, run(6) is bitwise run(3), run(3); and seed 3 of it is seed 3 compiled alone."""
    agent, params, hp = machinery(name)
    start = jax.jit(placement.map_runs(agent.init))(*batched(agent, params, hp, range(8)))
    three, six = (jax.jit(placement.map_runs(lambda state, n=n: jaxrl.run(agent, state, n)[0])) for n in (3, 6))
    want = raw(six(start))
    assert_equal(raw(three(three(start))), want)
    alone = jax.jit(lambda key: jaxrl.run(agent, agent.init(key, hp, params), 6)[0])(jax.random.key(3))
    assert_close(raw(alone), jax.tree.map(lambda x: x[3], want))


@pytest.mark.parametrize("name", CASES)
def test_one_trace_serves_every_hyper_parameter(name):
    """No Python branch of a whole training reads one: it is traced without their values."""
    agent, params, hp = machinery(name)
    steps = agent.warmup_steps + 2 * agent.steps_per_iteration
    abstract = jax.eval_shape(lambda tree: tree, jax.tree.map(jnp.asarray, (hp, params)))
    out = jax.eval_shape(make_train(agent, steps, 1, 2), jax.random.key(0), *abstract)
    assert jax.tree.leaves(out)


@pytest.mark.parametrize("name", CASES)
def test_state_is_arrays_and_keeps_its_types(name):
    """A checkpoint is the tree: no callables in it, and one step changes no shape and no dtype."""
    agent, params, hp = machinery(name)
    before = jax.eval_shape(agent.init, jax.random.key(0), hp, params)
    after, metrics = jax.eval_shape(agent.step, before)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), jax.tree_util.keystr(path)
    assert {"hp", "env_params", "key", "learner"} <= set(before._fields)
    assert all(leaf.shape == () for leaf in jax.tree.leaves(metrics))


@pytest.mark.parametrize("module", NORMALISING)
def test_running_normalisation(module, tmp_path):
    """The update sees what the policy saw, then the statistics move; evaluation and a portable policy use them."""
    env, params = envs.make("MountainCar-v0")
    options = {} if module is trpo else {"anneal_learning_rate": False}
    config = module.Config(
        num_envs=4, rollout_length=64, hidden=(8,), normalize_obs=True, normalize_reward=True, **options
    )
    agent, hp = module.make(env, config), module.Hyperparams()
    nets = module.build(config, env.observation_space, env.action_space)
    algorithm = module.algorithm(config, env.observation_space, env.action_space)
    step, seen = jax.jit(agent.step), []

    @jax.jit
    def parts(state, mean, std):
        """The rollout of a step, and the learner that should come of it."""
        _, key_rollout, *rest = threefry.spawn(state.key, 2 + algorithm.update_draws)
        sampling = policies.sampling(nets, state.learner.params)
        acting = sampling._replace(act=lambda key, obs, memory: sampling.act(key, (obs - mean) / std, memory))
        data = rollout(env, params, acting, state.episode, (), key_rollout, 64).transitions
        ended = data.terminated | data.truncated
        _, reward = normalize.scale_rewards(state.signals[1], data.reward, ended, hp.gamma)
        batch = data._replace(obs=(data.obs - mean) / std, next_obs=(data.next_obs - mean) / std, reward=reward)
        key_update = rest[0] if rest else key_rollout  # not used
        return data.obs, algorithm.update(hp, Context(), state.learner, batch, key_update)[0]

    state, mean, std = agent.init(jax.random.key(3), hp, params), np.zeros(2), np.ones(2)
    for _ in range(2):
        obs, learner = parts(state, mean, std)
        state, _ = step(state)
        assert_close(raw(state.learner.params), raw(learner.params))
        seen.append(np.asarray(obs, np.float64).reshape(-1, 2))
        mean, std = np.concatenate(seen).mean(0), np.concatenate(seen).std(0)
        moments, _ = state.signals
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.m2 / moments.count, std**2, rtol=1e-3)
    assert float(state.signals[1].moments.count) == 2 * 64 * 4

    obs = seen[-1][::8].astype(np.float32)
    want = nets.policy(state.learner.params, (obs - mean) / std).mode()
    action, _, _ = agent.policy(state).act(jax.random.key(0), obs, ())
    np.testing.assert_array_equal(action, want)
    assert (want != nets.policy(state.learner.params, obs).mode()).any()
    path = export_policy(tmp_path / "policy.npz", agent.policy, state, env.observation_space, env.action_space)
    alone = portable.load(path)
    np.testing.assert_array_equal([alone.act(row)[0] for row in obs], want)

    with pytest.raises(InputError, match="normalize_obs needs Box observations"):
        module.make(envs.make("GridWorld-4x4")[0], module.Config(normalize_obs=True))


def test_make_train_is_init_run_and_evaluate():
    """The pure function of a whole run is its parts."""
    agent, params, hp = machinery("q_learning")
    hp = dataclasses.replace(hp, total_steps=None)
    steps = 4 * agent.steps_per_iteration + 1
    result = jax.jit(make_train(agent, steps, num_evals=2, eval_episodes=4))(jax.random.key(5), hp, params)
    plan = schedule(agent, steps, 2)
    np.testing.assert_array_equal(plan.iterations, [2, 2])
    assert plan.unused == 1
    np.testing.assert_array_equal(plan.env_steps, [2 * agent.steps_per_iteration, 4 * agent.steps_per_iteration])
    assert result.state.hp.total_steps == steps
    state = agent.init(jax.random.key(5), dataclasses.replace(hp, total_steps=float(steps)), params)
    state, _ = jax.jit(lambda state: jaxrl.run(agent, state, 4))(state)
    np.testing.assert_array_equal(state.learner.q, result.state.learner.q)
    score = jaxrl.evaluate(agent.env, params, agent.policy(state), jax.random.key(EVAL_SEED), 4)
    np.testing.assert_array_equal(score.returns, result.evaluation.returns[-1])
