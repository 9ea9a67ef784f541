"""The modelled tables in `config/profiles`, made again.

.venv/bin/python -m dynamic_perception.profiling.modelled_tables config/profiles
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamic_perception.networks.bundle import FLOAT32, find_bundle, read_bundle
from dynamic_perception.profiling import jetson_xavier_nx, odroid_xu3
from dynamic_perception.profiling.table_file import ProfileFile, write_table

MODELLED = "modelled"  # in place of an engine's name


def xu3_profile() -> ProfileFile:
    """The shipped classifier on the modelled Odroid XU3."""
    bundle = read_bundle(find_bundle("group_cnn_cifar10"))
    # The board's cores are older than the instructions for products of 8 bits.
    return ProfileFile(
        odroid_xu3.modelled_table(bundle.of_precision(FLOAT32)),
        bundle.name,
        bundle.weights_sha256,
        MODELLED,
        "1",
        odroid_xu3.PLATFORM,
        {"clocks": "every one of both clusters", **odroid_xu3.ASSUMPTIONS},
    )


def xavier_nx_profile() -> ProfileFile:
    """Dynamic-OFA's published subnetworks on the modelled Jetson Xavier NX."""
    board = jetson_xavier_nx
    return ProfileFile(
        board.modelled_table(),
        board.MODEL,
        board.WEIGHTS,
        MODELLED,
        "1",
        board.PLATFORM,
        {
            "clocks": "of the GPU",
            **board.ASSUMPTIONS,
            "subnetworks": {
                s.name: f"{s.resolution} pixel, depths {' '.join(map(str, s.depths))}" for s in board.PUBLISHED
            },
        },
    )


TABLES = {"odroid_xu3": xu3_profile, "jetson_xavier_nx": xavier_nx_profile}


def write_all(folder: Path) -> list[Path]:
    """Write `<platform>/<model>.yaml` of every table into `folder`; gives the files."""
    paths = []
    for platform, make in TABLES.items():
        profile = make()
        paths.append(folder / platform / f"{profile.model}.yaml")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        write_table(paths[-1], profile)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="config/profiles of the source tree")
    print(*write_all(parser.parse_args().folder), sep="\n")
