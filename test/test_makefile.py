"""What `make setup` says to a machine that it cannot install on, and that two of it wait for each other."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for

SOURCE = Path(__file__).resolve().parents[1]
MAKE_VARIABLES = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def setup_error(tmp_path):
    """Runs `make setup` for an environment that does not exist yet, and returns its one sentence."""

    def run(*variables):
        command = [
            "make",
            "-C",
            SOURCE,
            "--no-print-directory",
            "setup",
            f"VENV={tmp_path / 'venv'}",
            f"HEADERS={tmp_path / 'python_headers'}",
            *variables,
        ]
        environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        finished = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert finished.returncode != 0
        assert not (tmp_path / "venv").exists()
        [sentence] = [line for line in finished.stderr.splitlines() if not line.startswith("make: ***")]
        return sentence

    return run


@pytest.mark.parametrize("variable, word", [("PYTHON", "python3"), ("CC", "gcc"), ("CXX", "g++")])
def test_missing_program_is_named_with_the_package_to_install(setup_error, variable, word):
    sentence = setup_error(f"{variable}=no-such-program")
    assert sentence.startswith("error: ") and "no-such-program" in sentence and word in sentence


@pytest.mark.parametrize(
    "lack, sentence_part",
    [
        ("import sys; sys.version_info = (3, 9, 2)", "Python 3.9"),
        ("import sys; sys.version_info = (3, 15, 0)", "Python 3.15"),
        ("import platform; platform.machine = lambda: 'aarch64'", "this machine is aarch64"),
        ("import sys; sys.modules['ensurepip'] = None", "python3-venv"),
        ("import sysconfig; sysconfig.get_path = lambda name: '/nowhere'", "python3-dev"),
    ],
)
def test_unsuitable_python_is_refused(setup_error, tmp_path, lack, sentence_part):
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 100\n")  # Debian's package of header files cannot be had
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(lack)
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    sentence = setup_error(f"PYTHON={interpreter}")
    assert sentence.startswith("error: ") and sentence_part in sentence


class Setup:
    """`make setup` into a new environment, whose pip only says that it runs and waits until it may end."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, []
        (folder / "sources").mkdir()
        for name in ("Makefile", "setup.py", "pyproject.toml", "CMakeLists.txt", "package.xml"):
            shutil.copy(SOURCE / name, folder / "sources" / name)
        for name in ("dynamic_perception", "msg", "config", "launch", "models", "scripts"):
            (folder / "sources" / name).mkdir()
        pip = f"#!/bin/sh\necho run >> {folder}/runs\nwhile [ ! -e {folder}/go ]; do sleep 0.05; done\n"
        (folder / "pip").write_text(pip)
        (folder / "pip").chmod(0o755)
        venv = f'mkdir -p "$3/bin" && cp {folder}/pip "$3/bin/pip"'
        python = f'#!/bin/sh\nif [ "$1" = -m ]; then {venv}; else exec {sys.executable} "$@"; fi\n'
        (folder / "python").write_text(python)
        (folder / "python").chmod(0o755)
        (folder / "headers" / "usr").mkdir(parents=True)

    def start(self) -> subprocess.Popen:
        number = len(self.started)
        variables = [f"PYTHON={self.folder}/python", f"HEADERS={self.folder}/headers"]
        command = ["make", "-C", self.folder / "sources", "--no-print-directory", "setup", *variables]
        environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
        with open(self.folder / f"output{number}", "w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        self.started.append(process)
        return process

    def output(self, number: int) -> str:
        return (self.folder / f"output{number}").read_text()

    def runs(self) -> int:
        """How often pip ran."""
        return len((self.folder / "runs").read_text().split()) if (self.folder / "runs").exists() else 0

    def close(self) -> None:
        (self.folder / "go").touch()
        for process in self.started:
            process.wait(20)


@pytest.fixture
def setup(tmp_path):
    setup = Setup(tmp_path)
    yield setup
    setup.close()


def test_a_second_installation_waits_says_for_whom_and_finds_nothing_left_to_do(setup, tmp_path):
    first = setup.start()
    wait_for(lambda: setup.runs() == 1, "the first installation")
    second = setup.start()
    wait_for(lambda: "== Waiting for process " in setup.output(1), "the second to wait")
    assert first.poll() is None and second.poll() is None
    (tmp_path / "go").touch()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert setup.runs() == 1 and "is up to date" in setup.output(1)


def test_an_installation_that_was_killed_holds_nobody_up_and_is_begun_anew(setup, tmp_path):
    first = setup.start()
    wait_for(lambda: setup.runs() == 1, "the first installation")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (tmp_path / "go").touch()
    assert setup.start().wait(20) == 0
    assert setup.runs() == 2 and "was interrupted" in setup.output(1)
