"""Where compiled programs are kept."""

import os
from pathlib import Path

import jax
import pytest

import jaxrl


@pytest.fixture(autouse=True)
def setting(monkeypatch):
    """JAX's own settings, put back; nothing in the environment."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    for name in ("JAXRL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jaxrl.use_cache() == tmp_path / "xdg/jaxrl/xla" == Path(jax.config.jax_compilation_cache_dir)
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAXRL_CACHE", str(tmp_path / "named"))
    assert jaxrl.use_cache() == tmp_path / "named"
    assert jaxrl.use_cache(tmp_path / "given") == tmp_path / "given"
    for word in ("off", "OFF", "0", "no"):
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("JAXRL_CACHE", word)
        assert jaxrl.use_cache() is None
        assert jax.config.jax_compilation_cache_dir is None


def test_a_place_given_to_jax_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))  # as JAX_COMPILATION_CACHE_DIR does
    assert jaxrl.use_cache() == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert not (tmp_path / "xdg").exists()


def test_without_a_home_or_the_right_to_write_there_is_none(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert jaxrl.use_cache() is None
    (tmp_path / "file").write_text("")
    assert jaxrl.use_cache(tmp_path / "file" / "below") is None
    if os.geteuid():  # nothing is forbidden to root
        (tmp_path / "closed").mkdir(mode=0o500)
        assert jaxrl.use_cache(tmp_path / "closed") is None
    assert jax.config.jax_compilation_cache_dir is None
