import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import losses
from jaxrl.distributions import Categorical


def batch(seed=0, size=32, num_actions=5):
    rng = np.random.default_rng(seed)

    def values():
        return rng.normal(size=(size, num_actions)).astype(np.float32)

    def actions():
        return rng.integers(num_actions, size=size).astype(np.int32)

    r = rng.normal(size=size).astype(np.float32)
    discount = (0.9 * (rng.random(size) > 0.3)).astype(np.float32)
    return values, actions, r, discount


def test_q_learning_worked_example():
    q_tm1, q_t = jnp.array([3.0, -7.0]), jnp.array([5.0, 4.0])
    error = losses.q_learning(q_tm1, jnp.int32(0), -1.0, 0.9, q_t)
    np.testing.assert_allclose(error, 0.5, rtol=1e-6)
    np.testing.assert_allclose(q_tm1[0] + 0.1 * error, 3.05, rtol=1e-6)


def test_a_terminal_step_has_the_reward_as_its_target():
    error = losses.q_learning(jnp.array([3.0]), jnp.int32(0), -1.0, 0.0, jnp.array([1e6]))
    np.testing.assert_allclose(error, -4.0)


def test_double_q_learning_values_the_selectors_choice():
    error = losses.double_q_learning(
        jnp.array([1.0, 0.0]), jnp.int32(0), 2.0, 0.5, jnp.array([4.0, 10.0]), jnp.array([1.0, 0.0])
    )
    np.testing.assert_allclose(error, 2.0 + 0.5 * 4.0 - 1.0)


def test_sarsa_and_expected_sarsa_by_hand():
    q_tm1, q_t, probs = jnp.array([1.0, 0.0]), jnp.array([4.0, 10.0]), jnp.array([0.75, 0.25])
    np.testing.assert_allclose(losses.sarsa(q_tm1, jnp.int32(0), 2.0, 0.5, q_t, jnp.int32(1)), 6.0)
    np.testing.assert_allclose(losses.expected_sarsa(q_tm1, jnp.int32(0), 2.0, 0.5, q_t, probs), 3.75)


def test_td_errors_agree_with_rlax(rlax):
    values, actions, r, discount = batch()
    q, a, q_t, q_sel, a_t = values(), actions(), values(), values(), actions()
    probs = np.asarray(jax.nn.softmax(values()))
    pairs = [
        (losses.q_learning, rlax.q_learning, (q, a, r, discount, q_t)),
        (losses.double_q_learning, rlax.double_q_learning, (q, a, r, discount, q_t, q_sel)),
        (losses.sarsa, rlax.sarsa, (q, a, r, discount, q_t, a_t)),
        (losses.expected_sarsa, rlax.expected_sarsa, (q, a, r, discount, q_t, probs)),
    ]
    for ours, theirs, arguments in pairs:
        np.testing.assert_allclose(
            jax.jit(ours)(*arguments), jax.jit(jax.vmap(theirs))(*arguments), rtol=1e-5, atol=1e-6
        )


def test_surrogate_and_huber_agree_with_rlax(rlax):
    rng = np.random.default_rng(1)
    log_prob, old, advantage = rng.normal(scale=0.4, size=(3, 64)).astype(np.float32)
    ours = losses.clipped_surrogate(log_prob, old, advantage, 0.2)
    assert ours.shape == (64,)
    theirs = rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob - old), advantage, 0.2)
    np.testing.assert_allclose(ours.mean(), theirs, rtol=1e-5)
    error = 3 * rng.normal(size=64).astype(np.float32)
    np.testing.assert_allclose(losses.huber(error, 0.7), rlax.huber_loss(error, 0.7), rtol=1e-5)


@pytest.mark.parametrize("name", ["q_learning", "double_q_learning", "sarsa", "expected_sarsa"])
def test_leading_axes_broadcast(name):
    values, actions, r, discount = batch(size=6)
    more = {"q_learning": (), "double_q_learning": (values(),), "sarsa": (actions(),), "expected_sarsa": (values(),)}
    q, a, q_t, extra = values(), actions(), values(), more[name]
    fn = jax.jit(getattr(losses, name))
    flat = fn(q, a, r, discount, q_t, *extra)
    assert flat.shape == (6,)
    folded = [x.reshape(2, 3, *x.shape[1:]) for x in (q, a, r, discount, q_t, *extra)]
    np.testing.assert_array_equal(fn(*folded), flat.reshape(2, 3))
    single = [x[0] for x in (q, a, r, discount, q_t, *extra)]
    np.testing.assert_allclose(fn(*single), flat[0], rtol=1e-6)
    np.testing.assert_allclose(fn(q[0], a, r, 0.5, q_t, *extra)[0], fn(q, a, r, 0.5, q_t, *extra)[0], rtol=1e-6)


def test_targets_carry_no_gradient_and_the_estimate_carries_minus_the_error():
    def loss(q_tm1, r, discount, q_t):
        return losses.squared(losses.q_learning(q_tm1, jnp.int32(1), r, discount, q_t))

    q_tm1, q_t = jnp.array([3.0, 1.0]), jnp.array([5.0, 2.0])
    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(q_tm1, 1.0, 0.5, q_t)
    # target 3.5, estimate 1: descending along the gradient raises the action taken, and nothing else
    np.testing.assert_allclose(grads[0], [0.0, -2.5])
    for grad in grads[1:]:
        np.testing.assert_array_equal(grad, jnp.zeros_like(grad))


def test_ppo_clip_worked_example():
    log_prob, old = jnp.log(1.5 * 0.3), jnp.log(0.3)
    np.testing.assert_allclose(losses.clipped_surrogate(log_prob, old, jnp.float32(2.0), 0.2), -2.4, rtol=1e-6)
    np.testing.assert_allclose(losses.clipped_surrogate(log_prob, old, jnp.float32(-2.0), 0.2), 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    # d loss/d log_prob is −ρA where the surrogate is not clipped, and 0 where it is
    [(1.0, 2.0, -2.0), (1.5, 2.0, 0.0), (1.5, -2.0, 3.0), (0.5, 2.0, -1.0), (0.5, -2.0, 0.0)],
)
def test_ppo_gradient_stops_only_where_the_step_would_go_too_far(ratio, advantage, slope):
    grads = jax.jit(jax.grad(losses.clipped_surrogate, argnums=(0, 1, 2)))(np.log(ratio), 0.0, advantage, 0.2)
    np.testing.assert_allclose(grads, [slope, 0.0, 0.0], rtol=1e-6)


def test_clipped_value_takes_the_larger_error():
    value, old, target = jnp.array([2.0, 2.0, 0.1]), jnp.zeros(3), jnp.array([3.0, 0.0, 1.0])
    # clipped values 0.2, 0.2, 0.1; errors (1, 2.8), (2, 0.2), (0.9, 0.9)
    loss = jax.jit(losses.clipped_value)(value, old, target, 0.2)
    np.testing.assert_allclose(loss, [0.5 * 2.8**2, 0.5 * 2.0**2, 0.5 * 0.9**2], rtol=1e-6)
    grad = jax.jit(jax.grad(lambda v: losses.clipped_value(v, old, target, 0.2).sum()))(value)
    np.testing.assert_allclose(grad, [0.0, 2.0, -0.9], rtol=1e-6)


def test_huber_is_quadratic_then_linear():
    np.testing.assert_allclose(losses.huber(jnp.array([0.5, -2.0, 1.0])), [0.125, 1.5, 0.5])
    slopes = jax.jit(jax.vmap(jax.grad(losses.huber)))(jnp.array([0.0, 0.5, -2.0, 30.0, 1.0]))
    np.testing.assert_allclose(slopes, [0.0, 0.5, -1.0, 1.0, 1.0])


def test_approx_kl_is_nonnegative_and_unbiased():
    old_log = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    new_log = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    per_action = losses.approx_kl(new_log, old_log)
    assert bool(jnp.all(per_action >= 0))
    exact = jnp.sum(jnp.exp(old_log) * (old_log - new_log))
    np.testing.assert_allclose(jnp.sum(jnp.exp(old_log) * per_action), exact, rtol=1e-5)
    np.testing.assert_allclose(losses.approx_kl(new_log, new_log), jnp.zeros(3))


def test_munchausen_by_hand():
    """τ = 1, α = ½: π(·|s) = (¾, ¼), and the successor's soft value is log Σ exp q."""
    log3 = np.log(3.0)
    q_tm1, target_tm1, q_t = jnp.array([0.5, 9.0]), jnp.array([log3, 0.0]), jnp.array([0.0, 0.0])

    def error(a, clip, alpha=0.5):
        return losses.munchausen_q_learning(q_tm1, jnp.int32(a), 1.0, 0.9, q_t, target_tm1, alpha, 1.0, clip)

    np.testing.assert_allclose(error(0, -9.0), 1 + 0.5 * np.log(0.75) + 0.9 * np.log(2.0) - 0.5, rtol=1e-6)
    np.testing.assert_allclose(error(1, -9.0), 1 + 0.5 * np.log(0.25) + 0.9 * np.log(2.0) - 9.0, rtol=1e-6)
    np.testing.assert_allclose(error(1, -1.0), 1 - 0.5 + 0.9 * np.log(2.0) - 9.0, rtol=1e-6)  # log ¼ < −1
    np.testing.assert_allclose(error(1, -1.0, alpha=0.0), 1 + 0.9 * np.log(2.0) - 9.0, rtol=1e-6)


def test_munchausen_tends_to_q_learning():
    """α = 0 and a temperature near 0 is the hard maximum."""
    values, actions, r, discount = batch()
    q, a, q_t = values(), actions(), values()
    soft = jax.jit(losses.munchausen_q_learning)(q, a, r, discount, q_t, values(), 0.0, 1e-4, -1.0)
    np.testing.assert_allclose(soft, losses.q_learning(q, a, r, discount, q_t), atol=1e-3)


def test_categorical_projection_by_hand():
    """Values 0, 1, 2. The point ½ is shared equally, ¼ goes ¾ to 0; −5 and 7 go to the ends."""
    project = jax.jit(losses.categorical_projection, static_argnums=4)
    np.testing.assert_allclose(project(jnp.ones(1), jnp.array([0.5]), 0.0, 2.0, 3), [0.5, 0.5, 0.0])
    probs = jnp.array([0.4, 0.1, 0.2, 0.3])
    got = project(probs, jnp.array([0.25, -5.0, 2.0, 7.0]), 0.0, 2.0, 3)
    np.testing.assert_allclose(got, [0.4 * 0.75 + 0.1, 0.4 * 0.25, 0.5], rtol=1e-6)
    # the values themselves stay where they are
    np.testing.assert_allclose(project(probs, jnp.array([-2.0, 0.0, 2.0, 4.0]), -2.0, 4.0, 4), probs, rtol=1e-6)


def categorical_batch(num_atoms=11, size=32, num_actions=3):
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2.0, size=(3, size, num_actions, num_atoms)).astype(np.float32)
    a = rng.integers(num_actions, size=size).astype(np.int32)
    r = rng.normal(scale=3.0, size=size).astype(np.float32)
    discount = (0.9 * (rng.random(size) > 0.3)).astype(np.float32)
    return (*logits, a, r, discount, np.linspace(-4.0, 6.0, num_atoms, dtype=np.float32))


@pytest.mark.filterwarnings("ignore:Rlax categorical_cross_entropy:PendingDeprecationWarning")
def test_categorical_losses_agree_with_rlax(rlax):
    online, target, selector, a, r, discount, atoms = categorical_batch()
    probs = np.asarray(jax.nn.softmax(target[:, 0]))
    support = np.sort(3 * np.random.default_rng(4).normal(size=probs.shape).astype(np.float32), axis=-1)
    ours = losses.categorical_projection(probs, support, -4.0, 6.0, 11)
    theirs = jax.jit(jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None)))(support, probs, atoms)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(ours.sum(-1), 1.0, rtol=1e-5)

    def greedy(logits):
        return jnp.argmax(jax.nn.softmax(logits) @ atoms, -1)

    @jax.jit
    def loss(online, a, r, discount, target, a_t):
        """The cross-entropy: the divergence and the target's entropy."""
        to = losses.categorical_target(r, discount, target, a_t, -4.0, 6.0)
        return losses.categorical_q_learning(online, a, to) - jax.scipy.special.xlogy(to, to).sum(-1)

    axes = (None, 0, 0, 0, 0, None, 0)
    single = jax.jit(jax.vmap(rlax.categorical_q_learning, in_axes=axes))
    want = single(atoms, online, a, r, discount, atoms, target)
    np.testing.assert_allclose(loss(online, a, r, discount, target, greedy(target)), want, rtol=2e-4)
    q = jax.nn.softmax(selector) @ atoms
    double = jax.jit(jax.vmap(rlax.categorical_double_q_learning, in_axes=(*axes, 0)))
    want = double(atoms, online, a, r, discount, atoms, target, q)
    np.testing.assert_allclose(loss(online, a, r, discount, target, greedy(selector)), want, rtol=2e-4)
    folded = [x.reshape(4, 8, *x.shape[1:]) for x in (online, a, r, discount, target, greedy(selector))]
    np.testing.assert_allclose(loss(*folded).ravel(), want, rtol=2e-4)


def test_categorical_q_learning_by_hand():
    """Values 0, 1, 2; Z(s') is ½ on 0 and ½ on 2. r = 1, γ = ½: ½ on 1 and ½ on 2, and at the end of the MDP 1 on 1."""
    logits_t = jnp.log(jnp.array([[1.0, 1e-20, 1e-20], [0.5, 1e-20, 0.5]]))
    logits_tm1 = jnp.log(jnp.array([[0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]))

    def both(discount, a_t):
        target = losses.categorical_target(1.0, discount, logits_t, jnp.int32(a_t), 0.0, 2.0)
        return target, losses.categorical_q_learning(logits_tm1, jnp.int32(0), target)

    target, loss = both(0.5, 1)
    np.testing.assert_allclose(target, [0.0, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(loss, 0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.6), rtol=1e-5)
    target, loss = both(0.0, 1)
    np.testing.assert_allclose(target, [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(loss, -np.log(0.2), rtol=1e-5)
    np.testing.assert_allclose(losses.categorical_mean(logits_t, 0.0, 2.0), [0.0, 1.0], atol=1e-6)


def test_categorical_loss_is_zero_where_it_is_learnt_and_moves_the_action_taken_alone():
    online, target, _, a, r, discount, _ = categorical_batch(size=4)

    def loss(online, r, target):
        to = losses.categorical_target(r, discount, target, a, -4.0, 6.0)
        return losses.categorical_q_learning(online, a, to).sum()

    to_online, to_r, to_target = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(online, r, target)
    assert not to_r.any()
    assert not to_target.any()
    taken = np.eye(3, dtype=bool)[a]
    assert (np.abs(np.asarray(to_online)[taken]).max(-1) > 1e-3).all()
    assert not np.asarray(to_online)[~taken].any()
    probs = jax.nn.softmax(online[np.arange(4), a])
    np.testing.assert_allclose(losses.categorical_q_learning(online, a, probs), 0.0, atol=1e-5)


def test_soft_value_and_temperature_by_hand():
    """π = (¾, ¼), q = (2, 6): mean 3, entropy 0.56234; with α = 0.2 the value is 3.11247."""
    policy, q = Categorical(jnp.log(jnp.array([0.75, 0.25]))), jnp.array([2.0, 6.0])
    np.testing.assert_allclose(losses.soft_value(policy, q, 0.2), 3 + 0.2 * 0.562335, rtol=1e-5)
    # The gradient to a logit z_a is π(a) (q(a) − α log π(a) − V), with the sign of what is above the value.
    grad = jax.grad(lambda z, q, a: losses.soft_value(Categorical(z), q, a), (0, 1, 2))(policy.logits, q, 0.2)
    above = 0.75 * (2 - 0.2 * np.log(0.75) - 3.112467)
    np.testing.assert_allclose(grad[0], [above, -above], rtol=1e-4)
    np.testing.assert_array_equal(grad[1], [0.0, 0.0])
    assert float(grad[2]) == 0.0
    # α = 0.2, entropy 0.7 against a target of −1: α (H − H̄) = 0.34, and so is its slope in log α.
    value, slopes = jax.value_and_grad(losses.temperature, (0, 1, 2))(jnp.log(0.2), 0.7, -1.0)
    np.testing.assert_allclose([value, *slopes], [0.34, 0.34, 0.0, 0.0], rtol=1e-6)


def test_quantile_regression_by_hand():
    """Two quantiles, at ¼ and ¾, against the samples −1 and 3."""
    quantiles, target = jnp.array([0.0, 1.0]), jnp.array([-1.0, 3.0])
    # Errors: −1, 3; −2, 2. Huber (δ = 1): ½, 2½; 1½, 1½. Weights: ¾, ¼; ¼, ¾.
    np.testing.assert_allclose(losses.quantile_regression(quantiles, target), [[0.375, 0.625], [0.375, 1.125]])
    np.testing.assert_allclose(
        losses.quantile_regression(quantiles, target, 0.5), [[0.75 * 0.75, 0.25 * 2.75], [0.25 * 1.75, 0.75 * 1.75]]
    )
    grads = jax.grad(lambda q, y: losses.quantile_regression(q, y).sum(), (0, 1))(quantiles, target)
    np.testing.assert_allclose(grads[0], [0.75 - 0.25, 0.25 - 0.75])
    np.testing.assert_array_equal(grads[1], [0.0, 0.0])


def test_quantile_regression_finds_the_quantiles_of_a_sample():
    samples = jax.random.normal(jax.random.key(0), (2_000,))

    def descend(quantiles, _):
        loss = lambda q: losses.quantile_regression(q, samples, 0.01).mean(-1).sum()  # noqa: E731
        return quantiles - 0.1 * jax.grad(loss)(quantiles), None

    found, _ = jax.jit(lambda start: jax.lax.scan(descend, start, length=400))(jnp.zeros(4))
    np.testing.assert_allclose(found, np.quantile(samples, [0.125, 0.375, 0.625, 0.875]), atol=0.05)


def test_quantile_q_learning_agrees_with_rlax(rlax):
    """At quantiles of the caller's choice, as IQN has them, one set for each element."""
    keys = jax.random.split(jax.random.key(3), 6)
    q_tm1, q_t = (jax.random.normal(key, (7, 3, n)) for key, n in zip(keys[:2], (4, 5), strict=True))
    tau = jax.random.uniform(keys[2], (7, 4))
    a, r = jax.random.randint(keys[3], (7,), 0, 3), jax.random.normal(keys[4], (7,))
    discount = jax.random.uniform(keys[5], (7,))
    theirs = jax.vmap(lambda q, *args: rlax.quantile_q_learning(q.T, *args[:-1], args[-1].T, args[-1].T, 1.0))(
        q_tm1, tau, a, r, discount, q_t
    )
    ours = losses.quantile_q_learning(q_tm1, a, r, discount, q_t, q_t.mean(-1).argmax(-1), 1.0, tau)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_value_rescaling_agrees_with_rlax_and_is_undone(rlax):
    x = jnp.concatenate([jnp.linspace(-1e4, 1e4, 101), jnp.array([-1e-3, 0.0, 0.5, 1.0])])
    np.testing.assert_allclose(losses.signed_hyperbolic(x), rlax.signed_hyperbolic(x, 1e-3), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses.signed_parabolic(losses.signed_hyperbolic(x)), x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("num_atoms", "v_min", "v_max"),
    [(51, 0.0, 90.0), (31, -100.0, 100.0), (101, -150.0, 200.0), (21, 0.0, 300.0), (51, -10.0, 10.0)],
)
def test_categorical_projection_at_the_ends(num_atoms, v_min, v_max):
    """(v_max − v_min) · (N − 1)/(v_max − v_min) may round to more than N − 1: no share is negative, no loss NaN."""
    logits = jnp.zeros((2, 1, num_atoms))
    target = losses.categorical_target(
        jnp.array([1e6, -1e6]), jnp.float32(0.9), logits, jnp.zeros(2, jnp.int32), v_min, v_max
    )
    want = np.zeros((2, num_atoms))
    want[0, -1] = want[1, 0] = 1.0
    np.testing.assert_allclose(target, want, atol=1e-6)
    assert np.min(target) >= 0
    loss = losses.categorical_q_learning(logits, jnp.zeros(2, jnp.int32), target)
    np.testing.assert_allclose(loss, np.log(num_atoms), rtol=1e-5)
