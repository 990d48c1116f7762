import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import envs
import jaxrl
from envs.episode import EpisodeStats
from envs.errors import InputError
from jaxrl import driver, warm_start
from jaxrl.agents import dqn, ppo, q_learning
from jaxrl.driver import NonFiniteError, _check_finite, _Pace
from jaxrl.train import EVAL_SEED, schedule, with_total_steps
from jaxrl.types import Metrics, Policy


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
    assert together.sizes == {"seed": 3, "env_step": 3}


def test_the_first_evaluation_is_of_the_untrained_policy(agent):
    """At step 0, where nothing was trained yet: its training episodes and scalars are absent."""
    agent, params = agent
    hp = q_learning.Hyperparams(total_steps=2_000.0)
    results = jaxrl.fit(agent, params, hp, seeds=(3, 4), env_steps=2_000, num_evals=2, eval_episodes=8).results
    np.testing.assert_array_equal(results.env_step, [0, 1_000, 2_000])
    state = agent.init(jax.random.key(4), hp, params)
    played = jaxrl.evaluate(agent.env, params, agent.policy(state), jax.random.key(EVAL_SEED), 8)
    np.testing.assert_array_equal(results.evaluation_return[1, 0], played.returns.mean())
    np.testing.assert_array_equal(results.evaluation_length[1, 0], played.lengths.mean())
    assert np.isnan(results.training_return[:, 0]).all()
    assert np.isnan(results.learner_td_error[:, 0]).all()
    np.testing.assert_array_equal(results.training_episodes[:, 0], 0)
    assert np.isfinite(results.learner_td_error[:, 1:]).all()


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
    np.testing.assert_array_equal(out.results.env_step, [0, 200, 500])
    hp = q_learning.Hyperparams(total_steps=float(steps))
    key = jax.random.key(3)
    result = jax.jit(jaxrl.make_train(made, steps, 2, 4))(key, hp, params)
    state, metrics = jax.jit(lambda: jaxrl.run(made, made.init(key, hp, params), 5))()
    td_error = np.asarray(metrics.scalars["td_error"])
    for q in (out.state.learner.q[0], result.state.learner.q):
        np.testing.assert_array_equal(q, state.learner.q)
    np.testing.assert_array_equal(result.metrics.scalars["td_error"], [[*td_error[:2], np.nan], td_error[2:]])
    means = [np.nan, td_error[:2].mean(), td_error[2:].mean()]
    np.testing.assert_allclose(out.results.learner_td_error[0], means, rtol=1e-6)
    counts = np.asarray(metrics.episodes.count)
    np.testing.assert_array_equal(out.results.training_episodes[0], [0, counts[:2].sum(), counts[2:].sum()])
    swept = jaxrl.sweep("q_learning", made.env, params, env_steps=steps, seeds=[3], num_evals=2, eval_episodes=4)
    np.testing.assert_allclose(swept.learner_td_error[0], out.results.learner_td_error[0], rtol=1e-6)
    np.testing.assert_array_equal(swept.evaluation_return[0], out.results.evaluation_return[0])
    np.testing.assert_array_equal(swept.env_step, out.results.env_step)
    whole = jax.jit(jaxrl.make_train(made, steps, 2, 4, at_start=True))(key, hp, params)
    np.testing.assert_array_equal(whole.evaluation.returns[1:], result.evaluation.returns)
    np.testing.assert_array_equal(whole.evaluation.returns[0].mean(), out.results.evaluation_return[0, 0])


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
    with pytest.raises(
        NonFiniteError,
        match=r"^loss is not finite in iteration 27 \(environment step 2,800\), lane 3 \(seed 13\); 2 of 4",
    ):
        _check_finite(Metrics(episodes, {"loss": loss}), (10, 11, 12, 13), 20, agent)


def test_where_a_stretch_is_cut_changes_nothing(agent, monkeypatch):
    """Pieces of one iteration, or whatever the clock allows: state and results are bit for bit the same."""
    agent, params = agent
    options = {"seeds": (0, 1, 2), "env_steps": 6_000, "num_evals": 3, "eval_episodes": 4}
    outs = []
    for seconds, rows in ((0.5, 8_192), (0.0, 8_192), (0.5, 3)):
        monkeypatch.setattr(driver, "PIECE_SECONDS", seconds)
        monkeypatch.setattr(driver, "MOST_ROWS", rows)
        outs.append(jaxrl.fit(agent, params, q_learning.Hyperparams(), **options))
    for other in outs[1:]:
        xarray.testing.assert_identical(other.results, outs[0].results)
        np.testing.assert_array_equal(other.state.learner.q, outs[0].state.learner.q)


def test_pieces_take_about_as_long_as_they_should(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(driver.time, "perf_counter", lambda: now[0])
    pace, taken = _Pace(1_000), []
    for iterations in (500, 3, 2_000):
        before = len(taken)
        for piece in pace.pieces(iterations):
            taken.append(piece)
            now[0] += piece * 0.01  # 50 iterations take as long as a piece should
        assert sum(taken[before:]) == iterations
    assert taken[:4] == [1, 8, 50, 50]
    assert max(taken) == 50
    slow = _Pace(1_000)
    for _ in slow.pieces(3):
        now[0] += 10.0
    assert slow.size == 1
    fast = _Pace(100)
    assert max(fast.pieces(10_000)) == 100


def test_a_callback_sees_every_evaluation_and_may_stop(agent):
    agent, params = agent
    seen = []

    def callback(results):
        seen.append(results.env_step.values.tolist())
        return len(seen) == 3

    options = {"seeds": (0,), "env_steps": 4_000, "num_evals": 4}
    out = jaxrl.fit(agent, params, q_learning.Hyperparams(), **options, callback=callback)
    assert seen == [[0], [0, 1_000], [0, 1_000, 2_000]]
    np.testing.assert_array_equal(out.results.env_step, seen[-1])
    assert out.cost["env_steps"] == 2_000
    half = jax.jit(lambda: jaxrl.run(agent, agent.init(jax.random.key(0), hp(4_000), params), 20)[0])()
    np.testing.assert_array_equal(out.state.learner.q[0], half.learner.q)


def hp(steps, **changes):
    return q_learning.Hyperparams(total_steps=float(steps), **changes)


def test_a_warm_start_takes_what_was_learnt_and_nothing_that_counts(agent):
    agent, params = agent
    options = {"env_steps": 3_000, "num_evals": 1, "eval_episodes": 4}
    first = jaxrl.fit(agent, params, hp(3_000), seeds=(0, 1), **options)
    before = np.asarray(first.state.learner.q).copy()
    seen = []
    rate = hp(3_000, learning_rate=0.0)
    again = jaxrl.fit(agent, params, rate, seeds=(7, 8), init=first.state, callback=seen.append, **options)
    np.testing.assert_array_equal(again.state.learner.q, before)  # nothing is learnt at rate 0
    np.testing.assert_array_equal(seen[0].evaluation_return[:, 0], first.results.evaluation_return[:, -1])
    np.testing.assert_array_equal(again.state.iteration, first.state.iteration)  # counted from 0 again
    np.testing.assert_array_equal(again.state.hp.learning_rate, 0)
    np.testing.assert_array_equal(first.state.learner.q, before)  # what was given is still there
    one = jax.tree.map(lambda x: x[:1], first.state)
    for_all = jaxrl.fit(agent, params, rate, seeds=(7, 8, 9), init=one, **options)
    np.testing.assert_array_equal(for_all.state.learner.q, np.broadcast_to(before[:1], (3, *before.shape[1:])))
    with pytest.raises(InputError, match="3 runs cannot begin with 2"):
        jaxrl.fit(agent, params, rate, seeds=(7, 8, 9), init=first.state, **options)


def test_a_warm_start_trains_at_the_rate_that_it_is_given():
    """The schedule begins anew, and so does the optimiser; another length of the pole is another environment."""
    env, params = envs.make("CartPole-v1")
    config = ppo.Config(num_envs=2, rollout_length=16, num_minibatches=1, hidden=(4,), normalize_obs=True)
    made = ppo.make(env, config)
    options = {"seeds": (0,), "env_steps": 640, "num_evals": 1, "eval_episodes": 1}
    first = jaxrl.fit(made, params, ppo.Hyperparams(), **options)
    longer = envs.make("CartPole-v1", length=2.0, max_steps=30)
    other = ppo.make(longer[0], config)
    second = jaxrl.fit(other, longer[1], ppo.Hyperparams(), init=first.state, **options)
    moved = jax.tree.map(lambda x, y: np.abs(np.asarray(x - y)).max(), second.state.learner, first.state.learner)
    assert max(jax.tree.leaves(moved.params)) > 1e-3
    assert float(second.state.signals[0].count[0]) > float(first.state.signals[0].count[0])
    np.testing.assert_array_equal(second.state.env_params.length, [2.0])
    fresh = other.init(jax.random.key(0), ppo.Hyperparams(total_steps=640.0), longer[1])
    taken = warm_start.take(jax.tree.map(lambda x: jnp.asarray(x)[None], fresh), first.state, 1)
    for mine, theirs in zip(
        jax.tree.leaves(taken.learner.opt_state), jax.tree.leaves(fresh.learner.opt_state), strict=True
    ):
        np.testing.assert_array_equal(mine[0], theirs)
    for mine, theirs in zip(
        jax.tree.leaves(taken.learner.params), jax.tree.leaves(first.state.learner.params), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_schedules_that_end_before_the_run_are_told(agent, capsys):
    made, params = agent
    options = {"seeds": (0,), "env_steps": 2_000, "num_evals": 1, "eval_episodes": 1}
    jaxrl.fit(made, params, hp(2_000), **options)
    assert "schedules" not in capsys.readouterr().err
    jaxrl.fit(made, params, hp(1_000), **options)
    assert "hp.total_steps=1,000: the schedules of q_learning end there, of 2,000 steps" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["n_step_sarsa", "dyna_q", "monte_carlo", "sarsa_lambda"])
def test_a_warm_start_forgets_what_was_met(name):
    """Windows, traces, visits and models are of the environment before; action values are what was learnt."""
    module = jaxrl.agents.get(name)
    env, params = envs.make("GridWorld-4x4", max_steps=20)
    made = module.make(env)
    hp = with_total_steps(module.Hyperparams(), 10_000)
    start = jax.jit(jax.vmap(lambda key: made.init(key, hp, params)))
    fresh = start(jax.random.split(jax.random.key(0), 2))
    later = jax.jit(jax.vmap(lambda state: jaxrl.run(made, state, 3)[0]))(start(jax.random.split(jax.random.key(1), 2)))
    taken = warm_start.take(fresh, later, 2).learner
    np.testing.assert_array_equal(taken.q, later.learner.q)
    assert np.any(np.asarray(taken.q) != np.asarray(fresh.learner.q))
    for field in taken._fields:
        if field != "q":
            jax.tree.map(np.testing.assert_array_equal, getattr(taken, field), getattr(fresh.learner, field))


def constant(action):
    return Policy(lambda key, obs, memory: (jnp.full(len(obs), action), memory, ()))


def test_what_an_environment_says_is_recorded(tmp_path):
    """A diver who goes right all the time has no bad episode, one who goes left at once has nothing else."""
    env, params = envs.make("DeepSea-bsuite", size=4, mapping_seed=None, max_steps=4)
    for action, bad in ((1, 0.0), (0, 1.0)):
        played = jaxrl.evaluate(env, params, constant(action), jax.random.key(0), 3)
        assert list(played.info) == ["bad_episode"]
        np.testing.assert_array_equal(played.info["bad_episode"], np.full(3, bad))
    options = {"seeds": 2, "env_steps": 2_000, "num_evals": 2, "eval_episodes": 4, "config": dqn.Config(hidden=(4,))}
    curves = jaxrl.fit("dqn", (env, params), **options).results
    assert curves.evaluation_info_bad_episode.dims == ("seed", "env_step")
    assert ((curves.evaluation_info_bad_episode >= 0) & (curves.evaluation_info_bad_episode <= 1)).all()
    swept = jaxrl.sweep("dqn", env, params, **options)
    np.testing.assert_allclose(swept.evaluation_info_bad_episode, curves.evaluation_info_bad_episode, rtol=1e-6)
    cartpole, physics = envs.make("CartPole-v1", max_steps=3)
    assert jaxrl.evaluate(cartpole, physics, constant(0), jax.random.key(0), 3).info == ()


def test_single_episodes_are_kept_on_request(agent, tmp_path):
    agent, params = agent
    options = {"env_steps": 2_000, "num_evals": 2, "eval_episodes": 6}
    kept = jaxrl.fit(agent, params, seeds=2, **options, keep_episodes=True, directory=tmp_path / "run").results
    plain = jaxrl.fit(agent, params, seeds=2, **options).results
    assert kept.evaluation_episode_return.dims == ("seed", "env_step", "episode")
    np.testing.assert_allclose(kept.evaluation_episode_return.mean("episode"), plain.evaluation_return, rtol=1e-6)
    np.testing.assert_allclose(kept.evaluation_episode_length.mean("episode"), plain.evaluation_length, rtol=1e-6)
    xarray.testing.assert_identical(kept.drop_dims("episode"), plain)
    xarray.testing.assert_equal(jaxrl.results.load(tmp_path / "run" / "results.nc"), kept)
    swept = jaxrl.sweep("q_learning", agent.env, params, seeds=2, **options, keep_episodes=True, evaluate=["sampling"])
    assert swept.evaluation_episode_return.dims == ("evaluation", "seed", "env_step", "episode")
    greedy = swept.evaluation_episode_return.sel(evaluation="greedy")
    np.testing.assert_array_equal(greedy, kept.evaluation_episode_return)
    rows = jaxrl.tables.to_dataframe(kept)
    assert len(rows) == 2 * 3
    assert len(jaxrl.results.configurations(swept)) == 2  # greedy and sampling, not one for each episode


def test_what_cannot_begin_with_another_run_is_refused(agent):
    agent, params = agent
    small = ppo.Config(num_envs=2, rollout_length=16, num_minibatches=1, hidden=(4,))
    env, env_params = envs.make("CartPole-v1")
    options = {"seeds": (0,), "env_steps": 320, "num_evals": 1, "eval_episodes": 1}
    state = jaxrl.fit(ppo.make(env, small), env_params, ppo.Hyperparams(), **options).state
    with pytest.raises(InputError, match=r"another learner \(ppo.Learner\) than this one \(q_learning.Learner\)"):
        jaxrl.fit(agent, params, q_learning.Hyperparams(), init=state, **options)
    for config, spaces, message in (
        (dataclasses.replace(small, hidden=(8,)), env, r"of shape \[4\], this one \[8\]"),
        (dataclasses.replace(small, normalize_obs=True), env, "in another way, such as by normalising it"),
        (small, envs.make("Acrobot-v1")[0], r"of shape \[4, 4\], this one \[6, 4\]: the spaces of the environment"),
    ):
        with pytest.raises(InputError, match=message):
            jaxrl.fit(ppo.make(spaces, config), spaces.default_params(), ppo.Hyperparams(), init=state, **options)


@pytest.mark.parametrize(("allowed", "advice"), [(1 << 20, "Not even one would fit"), (20 << 20, "About 4 would fit")])
def test_what_does_not_fit_is_refused_before_anything_is_computed(monkeypatch, allowed, advice):
    """By the state alone, before the compiler is asked."""
    env, params = envs.make("CartPole-v1")
    made = dqn.make(env, dqn.Config(replay_capacity=100_000, hidden=(4,)))
    monkeypatch.setattr("jaxrl.memory.free_memory", lambda: allowed)
    begun = []
    with pytest.raises(
        InputError, match=r"^6 runs of dqn need \d+(\.\d+)? MiB, and .* may be used.*, of it replay "
    ) as caught:
        driver.fit(
            made, params, dqn.Hyperparams(), seeds=range(6), env_steps=2_000, num_evals=1, begin=lambda: begun.append(1)
        )
    assert not begun
    assert advice in str(caught.value)


def test_the_planner_says_what_the_programs_take(monkeypatch):
    """Small states with large rollouts: the compiler's figure counts; it is within a factor of what really is taken."""
    env, params = envs.make("CartPole-v1")
    made = ppo.make(env, ppo.Config(num_envs=512, rollout_length=64))
    monkeypatch.setattr("jaxrl.memory.free_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match="needs") as caught:
        jaxrl.fit(made, params, ppo.Hyperparams(), seeds=(0,), env_steps=100_000, num_evals=1)
    said = float(re.search(r"needs ([\d.]+) MiB", str(caught.value))[1]) * 2**20
    rollout = 512 * 64 * 4 * (2 * 4 + 4)  # two observations, and an action, a reward, a log-probability, two flags
    assert rollout < said < 20 * rollout
