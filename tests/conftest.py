"""Two CPU devices for every test, as on a machine with two cores: the run axis is sharded in most of them."""

import functools
import os
import warnings

import jax
import pytest

os.environ["JAXRL_CACHE"] = "off"
# Most of a test is compilation; what LLVM would gain in speed the small programs here never earn back.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="session")
def optimised():
    """`jax.jit` for learning runs, which are long enough to earn back what LLVM does for them."""
    return functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})


@pytest.fixture(scope="session")
def rlax():
    # rlax brings tensorflow-probability, whose import alone can warn about other packages' deprecations.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import rlax as module
    return module
