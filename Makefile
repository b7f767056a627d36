# Two commands do everything on a machine with Python 3.11 or newer, make and a package registry:
#   make demo   stylise the sample pair (in napari where there is a screen)
#   make test   run the tests on a real X server
# Further ones, for those who change things: soak, test-lowest, docs, package, pictures, bench, bench-gpu, clean (see CONTRIBUTING.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
TWO_AT_A_TIME := -n 2 --dist loadgroup

.PHONY: demo test soak test-lowest docs package pictures bench bench-gpu clean

demo: $(VENV)/installed
	$(BIN)/napari-neural-style demo

test: $(VENV)/installed-dev
	./scripts/with-screen $(BIN)/python -m pytest $(TWO_AT_A_TIME)

# Faults in large numbers, and long runs: about an hour. SOAK=0.1 makes a tenth of the cases.
SOAK ?= 1
soak: $(VENV)/installed-dev
	SOAK=$(SOAK) ./scripts/with-screen $(BIN)/python -m pytest --timeout 7200 tests/faults \
		tests/engine/test_download.py tests/viewer/test_underfoot.py tests/viewer/test_long_run.py

# The lowest versions have no wheels for the newest Pythons: make test-lowest PYTHON=python3.11
test-lowest: $(LOWEST)/installed-dev
	./scripts/with-screen $(LOWEST)/bin/python -m pytest $(TWO_AT_A_TIME)

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

package: $(VENV)/installed-dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/npe2 validate --imports src/napari_neural_style/napari.yaml

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/report.py

bench-gpu: $(VENV)/installed-dev
	$(BIN)/python benchmarks/report.py --gpu

# VGG=FILE also makes those with trained features: the original VGG-19 in Caffe's convention.
pictures: $(VENV)/installed-dev
	./scripts/with-screen $(BIN)/python scripts/animation.py
	./scripts/with-screen $(BIN)/python scripts/pictures.py
	$(BIN)/python scripts/gallery.py $(if $(VGG),--vgg $(VGG))
	$(BIN)/python scripts/notebook.py

$(VENV)/bin/python $(LOWEST)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(@:/bin/python=) || \
		{ rm -rf $(@:/bin/python=); echo "This Python cannot make environments; on Debian: apt install python3-venv"; exit 1; }
	$@ -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing (PyTorch is several GB; the first time takes minutes)"
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

$(LOWEST)/installed-dev: pyproject.toml | $(LOWEST)/bin/python
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST) --resolution lowest-direct --editable ".[all,cluster]"
	$(LOWEST)/bin/uv pip install --python $(LOWEST) --group dev
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build demo dist site
