"""Exploration by the noise of a network's weights."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks.network import Network


def noisy(net: Network, sigma: float = 0.5) -> Network:
    """Gives every dense layer factorised Gaussian noise of learnt size (NoisyNet, Fortunato et al., arXiv:1706.10295).

        W = μ_W + σ_W ⊙ f(ε_in) f(ε_out)ᵀ,   b = μ_b + σ_b ⊙ f(ε_out),   f(x) = sign(x) √|x|

    ε is one standard normal per input and output of a layer, drawn in one call for all layers. Convolutions have no
    noise. σ begins at `sigma` / √inputs as in the paper; μ as `net` draws it (the paper: uniform in ± 1 / √inputs).

    Args:
        net: any network; params {"mean": its own, "sigma": those of its dense layers} take the place of its own.
        sigma: the paper's σ_0.

    Returns:
        A network whose apply(params, obs, key) draws one noise for the whole batch; without key it uses the means.
    """

    def init(key: jax.Array) -> Any:
        mean = net.init(key)

        def spread(layer: Any) -> Any:
            scale = sigma * layer["kernel"].shape[0] ** -0.5
            return jax.tree.map(lambda x: jnp.full_like(x, scale), layer)

        return {"mean": mean, "sigma": {path: spread(layer) for path, layer in _dense_layers(mean).items()}}

    def apply(params: Any, obs: Any, key: jax.Array | None = None) -> Any:
        if key is None:
            return net.apply(params["mean"], obs)
        layers = _dense_layers(params["mean"])
        sizes = [size for layer in layers.values() for size in layer["kernel"].shape]
        noise = jax.random.normal(key, (sum(sizes),))
        noise = jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))
        parts = iter(jnp.split(noise, np.cumsum(sizes)[:-1]))
        drawn = {}
        for path, layer in layers.items():
            into, out = next(parts), next(parts)
            shape = {"kernel": into[:, None] * out, "bias": out}
            drawn[path] = {name: x + params["sigma"][path][name] * shape[name] for name, x in layer.items()}
        return net.apply(_with_layers(params["mean"], drawn), obs)

    return Network(init, apply)


def _dense_layers(params: Any, path: str = "") -> dict[str, Any]:
    """The dense layers {"kernel" [in, out], "bias" [out]} in a tree of parameters, by their paths."""
    if not isinstance(params, Mapping):
        return {}
    if "kernel" in params:
        return {path: params} if params["kernel"].ndim == 2 else {}
    # Sorted, as JAX sorts the entries of a dict: the order decides which layer gets which part of the noise.
    names = sorted(params)
    return {found: layer for name in names for found, layer in _dense_layers(params[name], f"{path}/{name}").items()}


def _with_layers(params: Any, layers: Mapping[str, Any], path: str = "") -> Any:
    """The tree with some layers, named as by `_dense_layers`, replaced."""
    if path in layers or not isinstance(params, Mapping):
        return layers.get(path, params)
    return {name: _with_layers(part, layers, f"{path}/{name}") for name, part in params.items()}
