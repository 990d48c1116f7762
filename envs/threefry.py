"""Random numbers for draws in bulk: Threefry-2x32 as `jax.random` has it, with its rounds written out.

XLA's CPU backend gets JAX's default generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") as a
loop over rounds, and encrypts a block of two words for each word that it needs. Here the twenty rounds are one piece of
vector code and both words of a block are used. The words are those of `jax.random` in its first form
(`jax.threefry_partitionable(False)`), bit for bit. It pays where words are drawn in bulk; for a few words in an inner
loop the smaller program of the default is the better one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.random import define_prng_impl

from envs.errors import InputError

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def _cipher(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Encrypts blocks (x, y) of two words with a key u32[2]."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = x + schedule[0], y + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << np.uint32(distance)) | (y >> np.uint32(32 - distance))) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _words(key: jax.Array, num: int) -> jax.Array:
    """The first `num` words u32[num] of a key. The concatenation also keeps XLA from fusing, and so repeating, this."""

    def draw(key: jax.Array) -> jax.Array:  # u32[2, ...] -> u32[num, ...]
        blocks = -(-num // 2)
        first, second = jnp.arange(2 * blocks, dtype=jnp.uint32).reshape(2, blocks, *[1] * (key.ndim - 1))
        if num % 2:
            second = second.at[-1].set(0)
        return jnp.concatenate(jnp.broadcast_arrays(*_cipher(key, first, second)))[:num]

    @custom_vmap
    def words(key: jax.Array) -> jax.Array:
        return draw(key)

    @words.def_vmap
    def words_of_keys(axis_size: int, in_batched: list[bool], keys: jax.Array) -> tuple[jax.Array, bool]:
        # Many keys and few words of each lie the other way round in memory, for whole vectors.
        del in_batched
        return (draw(keys.T).T if axis_size > num else jax.vmap(draw)(keys)), True

    return words(key)


def _seed(seed: jax.Array) -> jax.Array:
    low = jnp.asarray(seed).astype(jnp.uint32)
    return jnp.stack([jnp.zeros_like(low), low])


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    num = int(np.prod(shape))
    if num % 2 or num < 64:
        return _words(key, 2 * num).reshape(*shape, 2)
    # The same words, all first words of the new keys before all second ones.
    first = jnp.arange(0, num, 2, dtype=jnp.uint32)
    halves = [jnp.concatenate(_cipher(key, counter, counter + np.uint32(num))) for counter in (first, first + 1)]
    return jnp.stack(halves).T.reshape(*shape, 2)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    size = int(np.prod(shape))
    words = _words(key, -(-size * bit_width // 32))
    if bit_width == 64:
        high, low = jnp.split(words.astype(jnp.uint64), 2)
        bits = (high << np.uint64(32)) | low
    elif bit_width == 32:
        bits = words
    else:
        places = jnp.arange(0, 32, bit_width, dtype=jnp.uint32)
        bits = (words[None] >> places[:, None]).T.reshape(-1).astype(f"uint{bit_width}")[:size]
    return bits.reshape(shape)


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    low = _seed(data)
    return jnp.stack(_cipher(key, low[0], low[1]))


_WRITTEN_OUT = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="threefry2x32_bulk"
)
_DEFAULT = "threefry2x32"


def typed(key: jax.Array) -> jax.Array:
    """A key of `jax.random.PRNGKey` as one of `jax.random.key`; others as they are.

    Raises:
        InputError: it is neither.
    """
    if not hasattr(key, "dtype") or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if jnp.shape(key)[-1:] != (2,) or jnp.asarray(key).dtype != jnp.uint32:
            raise InputError(f"{key} is no key: make one with jax.random.key(seed).")
        return jax.random.wrap_key_data(key, impl=_DEFAULT)
    return key


def bulk(keys: jax.Array) -> jax.Array:
    """Keys of JAX's default generator, made keys of this one; keys of another generator as they are."""
    if jax.random.key_impl(keys) != _DEFAULT:
        return keys
    return jax.random.wrap_key_data(jax.random.key_data(keys), impl=_WRITTEN_OUT)


def spawn(key: jax.Array, num: int = 2) -> tuple[jax.Array, ...]:
    """Splits `num` keys off: the first as its generator was, to carry on with; the others of this one, to be used up.

    What is carried through a loop, checkpointed or handed to a user keeps JAX's own type of key.
    """
    carried, *spent = jax.random.split(bulk(key), num)
    return (default(carried), *spent)


def consecutive(key: jax.Array, num: int) -> jax.Array:
    """`num` keys for one draw each, as `jax.random.split` gives them but without encrypting anything.

    The second word of the key counts up. Every key of Threefry is a stream of its own, neighbours among them (Salmon
    et al. 2011, section 2): what `split` adds is that keys of keys of keys do not meet, which these, drawn from and
    done with, do not need. One alone is split off all the same, so that it is not `key` itself; so are keys of other
    generators.
    """
    kind = jax.random.key_impl(key)
    if num == 1 or (kind != _DEFAULT and key.dtype != _BULK_DTYPE):
        return jax.random.split(key, num)
    first, second = jax.random.key_data(key)
    data = jnp.broadcast_arrays(first, second + jnp.arange(num, dtype=jnp.uint32))
    return jax.random.wrap_key_data(jnp.stack(data).T, impl=kind)


def default(tree: Any) -> Any:
    """Undoes `bulk` in every leaf of a pytree that holds keys of this generator."""

    def undo(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or leaf.dtype != _BULK_DTYPE:
            return leaf
        return jax.random.wrap_key_data(jax.random.key_data(leaf), impl=_DEFAULT)

    return jax.tree.map(undo, tree)


_BULK_DTYPE = jax.eval_shape(lambda: bulk(jax.random.key(0))).dtype
