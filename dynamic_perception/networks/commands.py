"""`dynamic-perception import-ofa`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.networks.bundle import MODEL_FILE, ModelBundle, Subnetwork, write_bundle

IMAGENET_MEAN, IMAGENET_STANDARD_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ACCURACY_SOURCE = "not measured; statistics sliced from the checkpoint's"


def add_import_ofa(commands: argparse._SubParsersAction) -> None:
    """Add the `import-ofa` command."""
    parser = commands.add_parser(
        "import-ofa",
        help="make a model bundle of a published Once-for-All MobileNetV3 checkpoint",
        description="Read a supernet checkpoint of the Once-for-All authors (kernels 3 5 7, expansions 3 4 6, depths "
        "2 3 4) and write a bundle with its smallest, a middle and its largest subnetwork. Nothing in the file is "
        "executed, and a tensor that is missing or does not belong is an error.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the authors' file")
    parser.add_argument(
        "--width-multiplier",
        type=_multiplier,
        default=None,
        metavar="W",
        help="of the channels, or auto: read off the file (default)",
    )
    parser.add_argument(
        "--resolutions",
        type=int,
        nargs="+",
        metavar="R",
        help="input sizes [pixel] of the subnetworks (default: 128 160 192 224)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="bundle to write (default: models/ofa_mobilenet_v3_w<width multiplier>)"
    )
    parser.set_defaults(run_command=run_import_ofa)


def run_import_ofa(arguments: argparse.Namespace) -> int:
    """Read the checkpoint, write the bundle, and print its subnetworks."""
    from dynamic_perception.networks.ofa_checkpoint import read_checkpoint  # imports torch, unlike other commands

    resolutions = tuple(arguments.resolutions) if arguments.resolutions else None
    checkpoint = read_checkpoint(arguments.checkpoint, arguments.width_multiplier, resolutions)
    space = checkpoint.space
    out = arguments.out or Path("models") / f"ofa_mobilenet_v3_w{space.width_multiplier:g}"
    if out.exists() and not (out / MODEL_FILE).is_file():
        raise ValueError(f"{out} exists: expected a new folder, or a bundle to replace")
    configs = {"min": space.smallest(), "mid": space.middle(), "max": space.largest()}
    bundle = ModelBundle(
        out,
        out.resolve().name,
        space,
        IMAGENET_MEAN,
        IMAGENET_STANDARD_DEVIATION,
        _labels(space.classes),
        tuple(
            replace(Subnetwork.of(space, name, config), accuracy_source=ACCURACY_SOURCE)
            for name, config in configs.items()
        ),
        weights_sha256="",
        training={"method": "imported from the Once-for-All authors", "checkpoint": arguments.checkpoint.name},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    bundle = write_bundle(
        bundle,
        checkpoint.tensors,
        {name: space.subnet_statistics(config, checkpoint.statistics) for name, config in configs.items()},
    )
    table = Table(title=f"{bundle.name}: width multiplier {space.width_multiplier:g}, {space.classes} classes")
    for heading in ("subnetwork", "input [pixel]", "MACs", "parameters"):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right")
    for subnetwork in bundle.subnetworks:
        table.add_row(
            subnetwork.name, str(subnetwork.input_size[0]), f"{subnetwork.macs:,}", f"{subnetwork.parameters:,}"
        )
    console = Console()
    console.print(table)
    console.print(f"wrote {out}", soft_wrap=True)
    return 0


def _multiplier(text: str) -> float | None:
    return None if text == "auto" else float(text)


def _labels(classes: int) -> tuple[str, ...]:
    """ImageNet's class names for as many classes, else numbers."""
    from torchvision.models import MobileNet_V3_Large_Weights

    imagenet = MobileNet_V3_Large_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(imagenet) if classes == len(imagenet) else tuple(f"class {number}" for number in range(classes))
