"""XLA's compiled programs, kept for the next start."""

import os
import tempfile
from pathlib import Path

import jax


def use_cache(directory: Path | str | None = None) -> Path | None:
    """Switches on JAX's persistent compilation cache.

    A place that the user has given to JAX itself (JAX_COMPILATION_CACHE_DIR) stays. JAXRL_CACHE=off switches the cache
    off, JAXRL_CACHE=DIR moves it.

    Args:
        directory: where; None: JAXRL_CACHE or the user's cache directory.

    Returns:
        The directory; None where there is none: it is switched off, or nothing can be written there.
    """
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    named = os.environ.get("JAXRL_CACHE", "")
    if directory is None and named.lower() in ("off", "0", "no"):
        return None
    if directory is None and not named and chosen:
        return Path(chosen)
    try:
        place = Path(directory or named or _home() / "jaxrl" / "xla")
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, RuntimeError):  # a container's user may have no home, a node of a cluster no right to write there
        return None
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return place


def _home() -> Path:
    """The user's cache directory.

    Raises:
        RuntimeError: the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
