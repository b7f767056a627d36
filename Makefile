# Two commands do everything on a machine with Python 3.11 or newer, make and a package registry:
#   make demo   stylise the sample pair (in napari where there is a screen)
#   make test   run the tests on a real X server
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test clean

demo: $(VENV)/installed
	$(BIN)/napari-neural-style demo

test: $(VENV)/installed-dev
	./scripts/with-screen $(BIN)/python -m pytest

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "This Python cannot make environments; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing (PyTorch is several GB; the first time takes minutes)"
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf $(VENV) demo
