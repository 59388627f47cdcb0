# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo

# After the installation nothing needs the network.
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-engines test-llamacpp test-vllm lint types slow soak docs figures gpu-prove prove prove-long clean

demo: $(READY)
	rm -rf $(DEMO)
	$(BIN)/treewright profile --config configs/demo/profile.yaml
	$(BIN)/treewright collect --config configs/demo/collect.yaml
	$(BIN)/treewright train --config configs/demo/train.yaml
	$(BIN)/treewright bench --config configs/demo/bench.yaml
	$(BIN)/treewright generate --config configs/demo/generate.yaml

# Side by side, so one thread each: threads of small models mostly wait for each other.
test: export OMP_NUM_THREADS := 1
test: lint types $(READY)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

# Each other engine in an environment of its own: llama.cpp is compiled (10 minutes on two cores), vLLM takes 4 GB.
test-engines: test-llamacpp test-vllm

test-llamacpp: export OMP_NUM_THREADS := 1
test-llamacpp: .venv-llamacpp/.ready
	.venv-llamacpp/bin/python -m pytest -q -m engine tests/runtime/llamacpp tests/test_conformance.py -k "llamacpp or not conformance"

test-vllm: export OMP_NUM_THREADS := 1
test-vllm: .venv-vllm/.ready
	.venv-vllm/bin/python -m pytest -q -m engine tests/runtime/adapters/vllm tests/test_conformance.py -k "vllm or not conformance"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/basedpyright

slow: $(READY)
	$(BIN)/python -m pytest -q -m slow

# Half an hour of texts that come and go.
soak: $(READY)
	SOAK_SECONDS=1800 $(BIN)/python -m pytest -q -m slow tests/prove/test_soak.py

# The pages of docs/ as a site in build/site; the first run installs mkdocs-material.
docs: $(VENV)/.docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Measured numbers and the plot in README.md and docs/, from the committed JSON.
figures: $(READY)
	$(BIN)/python tests/figures.py

# On a CUDA device: is decoding right there, and what do its parts take? Some minutes; needs a torch built for CUDA.
gpu-prove: $(READY)
	$(BIN)/python -m pytest -q -m gpu tests
	$(BIN)/python -m treewright.collect.measure.gpu_prove.command

# Programs that others wrote, and clients that misbehave, before real server processes; numbers go into the pages.
prove: export PROVE := short
prove: $(READY) .venv-clients/.ready
	$(BIN)/python -m pytest -q -m slow tests/prove --ignore-glob "*_long.py" --ignore tests/prove/test_soak.py
	$(BIN)/python tests/figures.py

# The same at length, with hundreds of kills, a thousand damaged files and texts that come and go for minutes.
prove-long: export PROVE := long
prove-long: $(READY) .venv-clients/.ready
	$(BIN)/python -m pytest -q -m slow tests/prove
	$(BIN)/python tests/figures.py

# The link is the type checker's: it reads `import treewright` in tests without running the installation's finder.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[dev]"
	ln -sfn .. $(VENV)/treewright
	touch $(READY)

# The clients that `make prove` runs, apart from everything else.
.venv-clients/.ready: constraints-clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check -c constraints-clients.txt \
		openai "lm-eval[api]" guidellm schemathesis locust
	touch $@

.venv-llamacpp/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-llamacpp
	.venv-llamacpp/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,llamacpp]"
	touch $@

# vLLM pins its own versions, older ones than constraints.txt. Its torchvision and the like are built for CUDA, and
# transformers would import them.
.venv-vllm/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check -e ".[dev,vllm]"
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

$(VENV)/.docs-ready: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) .venv-clients .venv-llamacpp .venv-vllm runs build *.egg-info
