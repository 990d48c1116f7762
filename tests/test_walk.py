"""Everything that is listed runs: see `tests.walk`, whose command takes all of it through every command."""

import pytest

from tests import walk

PAIRS = [(agent, env) for agent, names in walk.fitting().items() for env in names]
EVERY = 8  # one pair in so many is traced in the fast tests: every agent and every environment several times


def test_every_agent_fits_an_environment_and_every_environment_an_agent():
    met = {env for _, env in walk.pairs()}, {agent for agent, _ in walk.pairs()}
    assert met == (set(walk.envs.names()), set(walk.agents.NAMES))


@pytest.mark.parametrize(("agent", "env"), PAIRS[::EVERY])
def test_a_pair_is_traced(agent, env):
    walk.trace(agent, env)


@pytest.mark.slow
def test_every_pair_is_traced():
    failed = {}
    for agent, env in PAIRS:
        try:
            walk.trace(agent, env)
        except Exception as error:
            failed[agent, env] = error
    assert not failed


ONE_OF_EACH_FAMILY = [
    ("q_learning", "FrozenLake-v1"),
    ("dqn", "Catch-bsuite"),
    ("ppo", "CartPole-v1"),
    ("td3", "Pendulum-v1"),
]


@pytest.mark.parametrize(("agent", "env"), ONE_OF_EACH_FAMILY)
def test_a_pair_goes_through_every_command(agent, env, tmp_path):
    outcomes = list(walk.walk(agent, env, tmp_path))
    assert not [outcome for outcome in outcomes if not walk.allowed(outcome)]


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "env"), [pair for pair in walk.pairs() if pair not in ONE_OF_EACH_FAMILY])
def test_everything_goes_through_every_command(agent, env, tmp_path):
    test_a_pair_goes_through_every_command(agent, env, tmp_path)
