"""What `make setup` says to a machine that it cannot install on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
