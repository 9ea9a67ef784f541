"""Files are written whole or not at all, and a full disk names the file and leaves nothing behind."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from dynamic_perception.file_writing import replacing, write_atomically

PACKAGE = Path(__file__).resolve().parents[1] / "dynamic_perception"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_new_file_replaces_the_old_one(tmp_path):
    for content in ("old", "new"):
        write_atomically(tmp_path / "folder" / "file", content)
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_a_full_disk_names_the_file_and_keeps_the_old_one(small_disk):
    path = small_disk / "table.yaml"
    write_atomically(path, "old")
    with pytest.raises(OSError, match=f"{re.escape(str(path))} cannot be written: No space left"):
        write_atomically(path, bytes(1 << 20))
    assert path.read_text() == "old"
    assert os.listdir(small_disk) == ["table.yaml"]


def test_an_exception_while_writing_keeps_the_old_file(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "file") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file/inside cannot be written: "):
        write_atomically(tmp_path / "file" / "inside", "content")


def test_no_other_module_renames_files_by_itself():
    """Those named rename whole folders, or write the files of a kernel that is emulated."""
    own = {
        "file_writing.py",
        "hardware/emulated_cpufreq.py",
        "networks/bundle.py",
        "training/images.py",
    }
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"os\.replace|os\.rename|\.rename\(|temporary\.replace", path.read_text()):
            found.add(str(path.relative_to(PACKAGE)))
    assert found == own
