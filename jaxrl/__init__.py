"""Functional reinforcement learning in pure JAX: a run is one compiled function, a thousand runs are one vmap."""
