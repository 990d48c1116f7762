"""What XLA's CPU backend is slow at, written so that it is fast (times: jaxlib 0.10.2).

Every function here has a plain twin, named in its docstring, which says the same in the words that any other backend
is fast at. A caller asks `targeted` which of the two it wants. With a CPU backend that has the twin's speed, this
package can go.
"""

import jax


def targeted() -> bool:
    """Whether the program being traced is for XLA's CPU backend.

    That is asked while tracing, so that a program holds one of the two forms alone. `lax.platform_dependent` would
    choose while lowering, to the same number of compiled operations, but it traces and differentiates both forms (a
    quarter to a third more time before compilation for the gradient of a small network), and a policy that is exported
    as a graph (`jaxrl.export`) cannot hold the choice. A program put on the CPU of a machine whose default is another
    backend gets the plain form: right, only slower.
    """
    return jax.default_backend() == "cpu"
