"""Where the files that are not Python lie: shipped models, configuration, launch files."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "dynamic_perception"


def share_folder() -> Path:
    """Folder with `models/`, `config/` and `launch/`: `<prefix>/share/dynamic_perception`, or the source tree.

    Both `pip install` and `colcon build` put the modules somewhere below the prefix that holds `share/`.
    """
    for parent in Path(__file__).resolve().parents:
        share = parent / "share" / PACKAGE
        if (share / "package.xml").is_file():
            return share
        if (parent / "package.xml").is_file() and (parent / "models").is_dir():
            return parent
    raise FileNotFoundError(f"no share/{PACKAGE} above {Path(__file__).resolve()}: the installation is incomplete")


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$XDG_CACHE_HOME/dynamic_perception`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PACKAGE


def data_folder() -> Path:
    """Where what was measured on this machine is kept: `$XDG_DATA_HOME/dynamic_perception`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / PACKAGE
