import jax
import numpy as np
import pytest

import envs
import jaxrl
from envs.episode import EpisodeStats
from envs.errors import InputError
from jaxrl.agents import ppo, q_learning
from jaxrl.driver import NonFiniteError, _check_finite
from jaxrl.evaluate import Evaluation
from jaxrl.train import schedule
from jaxrl.types import Metrics


@pytest.fixture(scope="module")
def agent():
    env, params = envs.make("GridWorld-4x4")
    return q_learning.make(env), params


def test_seeds_do_not_depend_on_their_company(agent):
    agent, params = agent
    hp = q_learning.Hyperparams()
    together = jaxrl.fit(agent, params, hp, seeds=(3, 9, 4), env_steps=2_000, num_evals=2).results
    alone = jaxrl.fit(agent, params, hp, seeds=(9,), env_steps=2_000, num_evals=2).results
    for name in together:
        np.testing.assert_array_equal(together[name].sel(seed=[9]), alone[name])
    assert together.sizes == {"seed": 3, "env_step": 2}


def test_cost_is_reported(agent):
    out = jaxrl.fit(*agent, q_learning.Hyperparams(), seeds=(0, 1), env_steps=1_050, num_evals=2)
    assert out.cost["env_steps"] == 2 * 1_000  # ten whole iterations of 100
    assert out.cost["compile_s"] > 0
    assert out.cost["run_s"] > 0
    assert out.cost["peak_memory_bytes"] > 1e6
    assert out.cost["backend"] == "cpu"


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_bad_seeds(agent, seeds):
    with pytest.raises(InputError, match="seeds"):
        jaxrl.fit(*agent, q_learning.Hyperparams(), seeds=seeds, env_steps=10_000)


@pytest.mark.parametrize(
    ("steps", "evals", "message"), [(100, 2, "evaluations of q_learning need 200"), (1_000, 0, "num_evals=0")]
)
def test_bad_budgets(agent, steps, evals, message):
    with pytest.raises(InputError, match=message):
        schedule(agent[0], steps, evals)


@pytest.mark.parametrize(
    ("num_envs", "length", "steps", "evals"), [(64, 256, 300_000, 10), (2_048, 32, 1_000_000, 10), (4, 128, 300_000, 7)]
)
def test_a_budget_is_used_to_the_last_whole_iteration(num_envs, length, steps, evals):
    env, _ = envs.make("CartPole-v1")
    made = ppo.make(env, ppo.Config(num_envs=num_envs, rollout_length=length))
    plan = schedule(made, steps, evals)
    assert 0 <= plan.unused < num_envs * length
    assert plan.env_steps[-1] == steps - plan.unused
    assert plan.iterations.max() - plan.iterations.min() <= 1
    np.testing.assert_array_equal(plan.env_steps, np.cumsum(plan.iterations) * num_envs * length)


def test_uneven_stretches_are_one_run(agent):
    """Stretches of 2 and 3 iterations: the curves of `fit` and of `make_train`, and the state of 5 iterations in a row.

    Scalars are the means of the iterations that were taken; those that a shorter stretch lacks count for nothing.
    """
    made, params = agent
    steps = 5 * made.steps_per_iteration
    out = jaxrl.fit(made, params, q_learning.Hyperparams(), seeds=(3,), env_steps=steps, num_evals=2, eval_episodes=4)
    np.testing.assert_array_equal(out.results.env_step, [200, 500])
    hp = q_learning.Hyperparams(total_steps=float(steps))
    key = jax.random.key(3)
    result = jax.jit(jaxrl.make_train(made, steps, 2, 4))(key, hp, params)
    state, metrics = jax.jit(lambda: jaxrl.run(made, made.init(key, hp, params), 5))()
    td_error = np.asarray(metrics.scalars["td_error"])
    for q in (out.state.learner.q[0], result.state.learner.q):
        np.testing.assert_array_equal(q, state.learner.q)
    np.testing.assert_array_equal(result.metrics.scalars["td_error"], [[*td_error[:2], np.nan], td_error[2:]])
    np.testing.assert_allclose(out.results.learner_td_error[0], [td_error[:2].mean(), td_error[2:].mean()], rtol=1e-6)
    counts = np.asarray(metrics.episodes.count)
    np.testing.assert_array_equal(out.results.training_episodes[0], [counts[:2].sum(), counts[2:].sum()])
    swept = jaxrl.sweep("q_learning", made.env, params, env_steps=steps, seeds=[3], num_evals=2, eval_episodes=4)
    np.testing.assert_allclose(swept.learner_td_error[0], out.results.learner_td_error[0], rtol=1e-6)
    np.testing.assert_array_equal(swept.evaluation_return[0], out.results.evaluation_return[0])


def test_a_diverged_run_is_reported():
    env, params = envs.make("CartPole-v1")
    made = ppo.make(env, ppo.Config(num_envs=2, rollout_length=16, num_minibatches=1, hidden=(4,)))
    with pytest.raises(NonFiniteError, match=r"iteration \d+ .*lane 0 .*seed 5.*; 2 of 2 lanes"):
        jaxrl.fit(made, params, ppo.Hyperparams(learning_rate=1e38), seeds=(5, 6), env_steps=2_000, num_evals=2)


def test_the_first_bad_lane_and_iteration_are_named(agent):
    agent, _ = agent
    loss = np.zeros((4, 10))
    loss[3, 7], loss[1, 8] = np.nan, np.inf
    episodes = EpisodeStats(np.zeros((4, 10)), np.zeros((4, 10), int), np.zeros((4, 10), int))
    evaluation = Evaluation(np.zeros((4, 2)), np.zeros((4, 2)), np.ones((4, 2), bool))
    with pytest.raises(
        NonFiniteError,
        match=r"^loss is not finite in iteration 27 \(environment step 2,800\), lane 3 \(seed 13\); 2 of 4",
    ):
        _check_finite(Metrics(episodes, {"loss": loss}), evaluation, (10, 11, 12, 13), 20, agent)
