"""Named evaluations: who plays, where, and what may not be asked for."""

import jax
import numpy as np
import pytest

import envs
import jaxrl
from envs.errors import InputError
from envs.games.nim import Nim
from jaxrl import evaluations, results
from jaxrl.agents import es, ppo
from jaxrl.evaluate import evaluate
from jaxrl.train import EVAL_SEED, evaluate_agent
from jaxrl.types import Evaluated

SMALL = ppo.Config(num_envs=2, rollout_length=8, num_minibatches=1, hidden=(4,))


def evaluated(name, env, params, **config):
    agent = evaluations.add(ppo.make(env, SMALL), [name], params)
    state = agent.init(jax.random.key(0), ppo.Hyperparams(total_steps=1e4), params)
    greedy, others = jax.jit(lambda state: evaluate_agent(agent, state, 16))(state)
    assert list(others) == [name]
    return agent, state, greedy, others[name]


def test_the_exploring_policy_draws():
    env, params = envs.make("CartPole-v1")
    agent, state, greedy, sampled = evaluated("sampling", env, params)
    assert not np.array_equal(greedy.returns, sampled.returns)
    again = evaluate(env, params, agent.explore(state), jax.random.key(EVAL_SEED), 16)
    np.testing.assert_array_equal(sampled.returns, again.returns)


def test_the_own_reward_is_that_of_the_bare_environment():
    """Catch pays 1 or −1; ten times as much, with noise on top, is what the agent is paid here."""
    env, params = envs.make("CatchScale-bsuite", reward_scale=10.0, max_steps=20)
    _, _, paid, own = evaluated("own_reward", env, params)
    np.testing.assert_allclose(paid.returns, 10 * own.returns)
    assert set(np.unique(own.returns)) <= {-1.0, 1.0}


def test_held_out_levels_are_others():
    env, params = envs.make("Maze-Procgen-v0", num_levels=3, max_steps=5)
    agent, state, _, _ = evaluated("test", env, params)
    held_out = agent.evaluations[0].params(state, ())
    assert int(held_out.start_level) == 3
    assert int(held_out.num_levels) == 0
    with pytest.raises(InputError, match="num_levels is 0"):
        evaluations.add(agent._replace(evaluations=()), ["test"], envs.make("Maze-Procgen-v0")[1])


@pytest.mark.parametrize(
    ("name", "message"),
    [("samling", "Did you mean 'sampling'"), ("own_reward", "no wrapper changes it"), ("test", "no numbered levels")],
)
def test_what_cannot_be_had_is_refused(name, message):
    env, params = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=message):
        evaluations.add(ppo.make(env, SMALL), [name], params)


def test_a_population_does_not_act_alone():
    env, params = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="no exploring policy"):
        evaluations.add(es.make(env, es.Config(population=2)), ["sampling"], params)
    with pytest.raises(InputError, match="each may be named once"):
        evaluations.add(ppo.make(env, SMALL), ["sampling", "sampling"], params)


def test_every_evaluation_has_a_name_of_its_own():
    agent = ppo.make(envs.make("CartPole-v1")[0], ppo.Config())
    with pytest.raises(InputError, match="each may be named once"):
        evaluations.add(evaluations.add(agent, ["sampling"]), ["sampling"])
    with pytest.raises(InputError, match="must be a list of names"):
        evaluations.add(agent, "sampling")


@pytest.mark.parametrize(("start", "number"), [(1, 2**31 - 1), (2**31 - 50, 50)])
def test_no_levels_are_held_out_beyond_the_last(start, number):
    env, params = envs.make("Maze-Procgen-v0", start_level=start, num_levels=number)
    with pytest.raises(InputError, match="leave no level beyond them"):
        env.held_out(params)
    assert int(env.held_out(params._replace(num_levels=number - 1)).start_level) == 2**31 - 1


@pytest.mark.parametrize("names", [("x", "x"), ("greedy",)])
def test_own_evaluations_need_names_of_their_own(names):
    env, params = envs.make("CartPole-v1")
    agent = ppo.make(env, SMALL)
    more = tuple(Evaluated(name, env, lambda state, shared: params, agent.policy) for name in names)
    with pytest.raises(InputError, match="each needs a name of its own"):
        evaluate_agent(agent._replace(evaluations=more), None, 2)


def test_an_evaluation_is_chosen_by_its_name():
    returns, lengths = np.arange(12.0).reshape(2, 3, 2), np.ones((2, 3, 2))
    several = results.curves([0, 5, 9], [3, 4], returns, lengths, others={"sampling": (returns - 20, lengths)})
    greedy = results.of_evaluation(several)
    assert results.configurations(greedy)[0][0] == {}
    np.testing.assert_array_equal(greedy.evaluation_return, returns.mean(-1))
    np.testing.assert_array_equal(results.of_evaluation(several, "sampling").evaluation_return, returns.mean(-1) - 20)
    with pytest.raises(InputError, match="Did you mean 'sampling'"):
        results.of_evaluation(several, "samplin")
    alone = results.curves([0, 5, 9], [3, 4], returns, lengths)
    assert results.of_evaluation(alone).identical(alone)


def test_games_are_refused_where_results_have_no_players():
    game = Nim(max_steps=20)
    options = {"env_steps": 64, "num_evals": 1}
    with pytest.raises(InputError, match=r"has 2 players.*jaxrl\.make_train"):
        jaxrl.fit(ppo.make(game, SMALL), game.default_params(), ppo.Hyperparams(), seeds=[0], **options)
    with pytest.raises(InputError, match=r"has 2 players.*jaxrl\.make_train"):
        jaxrl.sweep("ppo", game, game.default_params(), seeds=1, config=SMALL, **options)
