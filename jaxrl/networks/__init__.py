"""Networks behind one seam: `Network(init, apply)`, built from the spaces of an environment.

Torsos (MLP, the DQN CNN, the MinAtar CNN) are chosen by name; heads are for values, dueling values, distributions of
values and policies. Weights are orthogonal, drawn without any LAPACK call: see `orthogonal`. `noisy` turns a network
into one that explores by the noise of its weights. `linear` is where the backend decides how a product or a convolution
is written.
"""

from jaxrl.networks.batch_renorm import BatchRenorm, Renormed, batch_renormed
from jaxrl.networks.continuous import critics, deterministic_policy, squashed_policy
from jaxrl.networks.heads import q_distribution, q_network, with_heads
from jaxrl.networks.iqn import implicit_quantiles
from jaxrl.networks.layers import ACTIVATIONS, MLP, Activation, dense
from jaxrl.networks.linear import convolve, multiply
from jaxrl.networks.network import Network, ensemble
from jaxrl.networks.noise import noisy
from jaxrl.networks.recurrence import Cell, Recurrent, SequenceNetwork, as_sequence_network, recurrent
from jaxrl.networks.torsos import CNN, MINATAR, NATURE, Torso, encode, input_shape, torso
from jaxrl.networks.weights import lecun, orthogonal

__all__ = [
    "ACTIVATIONS",
    "CNN",
    "MINATAR",
    "MLP",
    "NATURE",
    "Activation",
    "BatchRenorm",
    "Cell",
    "Network",
    "Recurrent",
    "Renormed",
    "SequenceNetwork",
    "Torso",
    "as_sequence_network",
    "batch_renormed",
    "convolve",
    "critics",
    "dense",
    "deterministic_policy",
    "encode",
    "ensemble",
    "implicit_quantiles",
    "input_shape",
    "lecun",
    "multiply",
    "noisy",
    "orthogonal",
    "q_distribution",
    "q_network",
    "recurrent",
    "squashed_policy",
    "torso",
    "with_heads",
]
