"""TRPO: the Fisher-vector product against the Fisher matrix, conjugate gradients, the KL of a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import envs
import jaxrl
from envs import threefry
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import policies
from jaxrl.agents import trpo
from jaxrl.rollout import rollout


def actor_of(nets):
    params = {k: v for k, v in nets.init(jax.random.key(0)).items() if k != "critic"}
    # Away from the start, where all heads are nearly 0.
    flat, unravel = ravel_pytree(params)
    return flat + 0.5 * jax.random.normal(jax.random.key(1), flat.shape), unravel


def test_fisher_vector_product_of_a_softmax_is_the_matrix_times_the_vector():
    """F = E_s Σ_a π(a|s) ∇log π(a|s) ∇log π(a|s)ᵀ, added up."""
    nets = trpo.build(trpo.Config(hidden=(5,)), Box(-9, 9, (3,)), Discrete(4))
    theta, unravel = actor_of(nets)
    obs = jax.random.normal(jax.random.key(2), (7, 3))

    def policy(theta):
        return nets.policy(unravel(theta), obs)

    log_probs = policy(theta).log_probs()
    score = jax.jacobian(lambda theta: policy(theta).log_probs())(theta)  # [7, 4, n]
    fisher = np.einsum("sa,sai,saj->ij", np.exp(log_probs) / 7, score, score)
    vectors = jax.random.normal(jax.random.key(3), (3, *theta.shape))
    got = jax.jit(jax.vmap(lambda v: trpo.fisher_vector_product(policy, theta, v)))(vectors)
    np.testing.assert_allclose(got, vectors @ fisher, rtol=1e-3, atol=1e-5)
    assert np.abs(fisher).max() > 0.01


@pytest.mark.slow
def test_fisher_vector_product_of_a_gaussian_through_convolutions():
    """F = Σ over mean and standard deviation of Jᵀ diag(1/σ², 2/σ²) J; networks with a CNN have no forward mode."""
    nets = trpo.build(trpo.Config(torso="minatar_cnn", hidden=(3,)), Box(0, 1, (4, 4, 1)), Box(-1, 1, (2,)))
    theta, unravel = actor_of(nets)
    obs = jax.random.uniform(jax.random.key(2), (5, 4, 4, 1))

    def policy(theta):
        return nets.policy(unravel(theta), obs)

    std = np.asarray(policy(theta).std)[0]
    jac_mean = jax.jacrev(lambda theta: policy(theta).mean)(theta)  # [5, 2, n]
    jac_std = jax.jacrev(lambda theta: policy(theta).std[0])(theta)  # [2, n]
    vector = jax.random.normal(jax.random.key(3), theta.shape)
    want = np.einsum("sdi,d,sdj,j->i", jac_mean, std**-2 / 5, jac_mean, vector)
    want = want + np.einsum("di,d,dj,j->i", jac_std, 2 * std**-2, jac_std, vector)
    got = jax.jit(lambda v: trpo.fisher_vector_product(policy, theta, v))(vector)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_conjugate_gradient_solves():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)).astype(np.float32)
    matrix = jnp.asarray(root @ root.T + 2 * np.eye(6, dtype=np.float32))
    target = jnp.asarray(rng.normal(size=6), jnp.float32)
    x, residual = jax.jit(lambda b: trpo.conjugate_gradient(lambda v: matrix @ v, b, 12))(target)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, target), rtol=1e-3, atol=1e-4)
    assert float(residual) < 1e-6
    zero, _ = trpo.conjugate_gradient(lambda v: matrix @ v, jnp.zeros(6), 3)
    np.testing.assert_array_equal(zero, 0.0)  # no 0/0


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_the_divergence_is_held_in_every_update_and_the_policy_learns(name):
    """30 updates; the KL is computed once more from the parameters before and after, on the states of the rollout."""
    env, params = envs.make(name)
    agent = trpo.make(env, trpo.Config(num_envs=8, rollout_length=128, hidden=(32,)))
    hp = trpo.Hyperparams(max_kl=0.02)
    nets = trpo.build(agent.config, env.observation_space, env.action_space)

    @jax.jit
    def learn(key):
        def step(state, _):
            _, key_rollout, _ = threefry.spawn(state.key, 3)  # as the agent does
            acting = policies.sampling(nets, state.learner.params)
            obs = rollout(env, params, acting, state.episode, (), key_rollout, 128).transitions.obs
            following, metrics = agent.step(state)
            old, new = (nets.policy(x.learner.params, obs) for x in (state, following))
            return following, (metrics.scalars, old.kl(new).mean())

        state, out = jax.lax.scan(step, agent.init(key, hp, params), None, length=30)
        return jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 32).returns.mean(), out

    score, (scalars, kl) = learn(jax.random.key(1005))
    np.testing.assert_allclose(scalars["kl"], kl, rtol=0.02, atol=1e-5)
    assert (np.asarray(kl) <= 1.01 * 0.02).all()
    moved = np.asarray(scalars["step_length"]) > 0
    assert moved.mean() > 0.9
    assert np.median(np.asarray(kl)[moved]) > 0.005  # steps as long as they may be, not merely small ones
    assert (np.asarray(scalars["surrogate_gain"])[moved] > 0).all()
    if name == "CartPole-v1":
        assert float(score) >= 80  # a random policy has 22


def test_sizes_that_do_not_divide():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="critic_minibatches=7 does not divide"):
        trpo.make(env, trpo.Config(critic_minibatches=7))
