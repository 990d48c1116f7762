"""Two CPU devices for every test, as on a machine with two cores: the run axis is sharded in most of them."""

import functools
import os
import warnings

import jax
import jaxlib
import pytest

os.environ["JAXRL_CACHE"] = "off"
# Most of a test is compilation; what LLVM would gain in speed the small programs here never earn back.
FLAGS = "--xla_backend_optimization_level=0"
# XLA's older emitters compile in two thirds of the time. A version that has dropped a flag would end the process.
if jaxlib.__version__.startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " " + FLAGS
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="session")
def optimised():
    """`jax.jit` for learning runs, which are long enough to earn back what LLVM does for them."""
    options = {"xla_backend_optimization_level": 2, "xla_llvm_disable_expensive_passes": False}
    return functools.partial(jax.jit, compiler_options=options)


@pytest.fixture(scope="session")
def rlax():
    # rlax brings tensorflow-probability, whose import alone can warn about other packages' deprecations.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import rlax as module
    return module
