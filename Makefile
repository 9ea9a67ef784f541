# Installs Dynamic Perception, with ROS 2 from PyPI, into .venv and runs it. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint figures colcon clean

VENV := .venv
PYTHON := python3
DEMO_ARGS :=
FIGURES_ARGS :=
PYTEST_ARGS :=
COLCON_ARGS :=

# A ROS 2 that was sourced in this shell would be mixed with the one in .venv.
unexport PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO
# Set by the ROS 2 wheels of another environment, it would keep those in .venv from finding their libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# With folders, whose time changes when a file is removed.
SOURCES := $(shell find dynamic_perception msg config launch models scripts -name __pycache__ -prune -o -print)
SOURCES += CMakeLists.txt package.xml
DEPENDENCIES := setup.py pyproject.toml
INSTALLED := $(VENV)/installed
INSTALLING := $(VENV)/installing
LOCK := $(VENV).lock
HEADERS := build/python_headers

help:
	@echo 'make setup      install into $(VENV), with what the tests need (PYTHON=$(PYTHON) to choose the interpreter)'
	@echo 'make demo       setup, then the demo (DEMO_ARGS="--duration 60 --headless" for its options)'
	@echo 'make test       setup, then every test that takes seconds (PYTEST_ARGS="-k battery" to choose)'
	@echo 'make test-all   setup, then every test'
	@echo 'make lint       setup, then ruff (style, format) and mypy (types)'
	@echo 'make figures    setup, then draw the pictures of the README from docs/results (FIGURES_ARGS=--again measures again)'
	@echo 'make colcon     setup, then colcon build on top of $(VENV) (COLCON_ARGS for its options)'
	@echo 'make clean      remove $(VENV) and all that was built'

setup: $(INSTALLED)
	@echo '== $(VENV) is up to date'

define check_machine
@command -v $(PYTHON) >/dev/null || \
	{ echo 'error: $(PYTHON) was not found: install python3, or name another interpreter with PYTHON=' >&2; exit 1; }
@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 14) or sys.exit("error: this is Python %d.%d, but \
	ROS 2 is on PyPI for Python 3.10 to 3.14: name one of these with PYTHON=" % sys.version_info[:2])'
@$(PYTHON) -c 'import platform, sys; platform.machine() == "x86_64" or sys.exit("error: ROS 2 is on PyPI for x86-64 \
	only, and this machine is %s: use colcon build with a ROS 2 installation" % platform.machine())'
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo 'error: $(PYTHON) cannot make virtual environments: install the package python3-venv' >&2; exit 1; }
@command -v $(CC) >/dev/null || { echo 'error: no C compiler ($(CC)): install the package gcc' >&2; exit 1; }
@command -v $(CXX) >/dev/null || { echo 'error: no C++ compiler ($(CXX)): install the package g++' >&2; exit 1; }
endef

# One at a time: two would remove each other's half of it. The lock is the kernel's and goes with its holder, whatever
# ends that; it lies beside $(VENV), which is removed at times. Whoever waited looks again whether there is work left.
define take_lock
exec 9>>'$(LOCK)' || exit 1; \
	flock -n 9 || { echo "== Waiting for $$(cat '$(LOCK)'), which installs into $(VENV)"; flock 9 || exit 1; }; \
	echo "process $$$$ ($(MAKE), since $$(date +%H:%M:%S))" > '$(LOCK)'
endef

# Compiling the messages takes Python's header files, which Debian has in a package of their own. Where they are not
# installed, that package is unpacked below build/, where setup.py looks for them; no root is needed for that.
define find_python_headers
@$(take_lock); \
	$(PYTHON) -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
	[ -d $(HEADERS)/usr ] || { \
	package=$$($(PYTHON) -c 'import sys; print("libpython%d.%d-dev" % sys.version_info[:2])'); \
	echo "== Fetching Python's header files (package $$package) into $(HEADERS)"; \
	rm -rf $(HEADERS).partial && mkdir -p $(HEADERS).partial && cd $(HEADERS).partial && \
	apt-get -qq download $$package && dpkg -x $$package*.deb . && mv $$PWD ../$(notdir $(HEADERS)) || \
	{ echo 'error: the header files of $(PYTHON) are missing: install the package python3-dev' >&2; exit 1; }; }
endef

# Pip looks at every dependency only when their list changed; otherwise it builds this package alone, with the tools
# and the build tree that are there. A pip that was killed can leave half a package that it takes for a whole one.
$(INSTALLED): $(SOURCES) $(DEPENDENCIES)
	$(check_machine)
	$(find_python_headers)
	@$(take_lock); \
	newer="$$(find $(SOURCES) $(DEPENDENCIES) -maxdepth 0 -newer $@ 2>/dev/null)"; \
	if [ -e $@ ] && [ ! -e $(INSTALLING) ] && [ -z "$$newer" ]; then exit 0; fi; \
	if [ -e $(INSTALLING) ]; then echo '== The last installation was interrupted: starting again'; rm -rf $(VENV); fi; \
	if [ -e $@ ] && [ -z "$$(find $(DEPENDENCIES) -maxdepth 0 -newer $@)" ]; then \
		echo '== Installing the changed package into $(VENV)'; \
		set -- --quiet --no-deps --no-build-isolation --force-reinstall .; \
	else \
		echo '== Installing the package, ROS 2 and PyTorch into $(VENV) (the first time some minutes and about 7 GB)'; \
		$(PYTHON) -m venv $(VENV) || exit 1; \
		set -- '.[test]'; \
	fi; \
	touch $(INSTALLING); \
	$(VENV)/bin/pip install "$$@" || { rm $(INSTALLING); exit 1; }; \
	touch $@; \
	rm $(INSTALLING)

demo: setup
	@echo '== Running the demo'
	@$(VENV)/bin/dynamic-perception demo $(DEMO_ARGS)

test: setup
	@echo '== Running the tests that take seconds'
	@$(VENV)/bin/pytest -m 'not slow' $(PYTEST_ARGS)

test-all: setup
	@echo '== Running every test'
	@$(VENV)/bin/pytest $(PYTEST_ARGS)

lint: setup
	@echo '== Checking style, format and types'
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

figures: setup
	@echo '== Drawing the pictures of the README from docs/results'
	@$(VENV)/bin/python scripts/figures.py $(FIGURES_ARGS)

# For CMake and colcon the environment is the ROS 2 installation that the package is built on.
colcon: setup
	@echo '== Building with colcon into build/, install/ and log/'
	@PATH='$(CURDIR)/$(VENV)/bin':"$$PATH" AMENT_PREFIX_PATH='$(CURDIR)/$(VENV)' CMAKE_PREFIX_PATH='$(CURDIR)/$(VENV)' \
		colcon build $(COLCON_ARGS)
	@echo '== Built: ". $(VENV)/bin/activate; . install/local_setup.sh" to use it'

clean:
	@echo '== Removing $(VENV) and all that was built'
	@$(take_lock); \
	rm -rf $(VENV) build install log dynamic_perception.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
