# Everything is set up on the first call: only Python >= 3.11 and a network for the packages are needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test newest slow lint docs clean

# 64 agents in one compiled program: a table, a picture, a run directory under runs/.
demo: $(STAMP)
	$(BIN)/jaxrl train ppo CartPole-v1 --seeds 64 --steps 500000 --evals 10

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The same tests on the newest versions that pip gives the newest Python found, without constraints.
NEWEST := $(firstword $(foreach v,3.14 3.13 3.12 3.11,$(shell command -v python$(v))))
newest:
	$(NEWEST) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[dev]'
	.venv-newest/bin/python -c "import sys, jax, flax, optax, numpy; print('Python', sys.version.split()[0], 'jax', jax.__version__, 'flax', flax.__version__, 'optax', optax.__version__, 'numpy', numpy.__version__)"
	.venv-newest/bin/python -m pytest -n 2 -m "not slow"

# Learning runs of minutes each.
slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# What is generated: the tables of docs/.
docs: $(STAMP)
	$(BIN)/python docs/generate.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
