"""`dynamic-perception export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.file_writing import write_atomically
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.networks.families import make_graph
from dynamic_perception.networks.graph_files import cached_graph, file_stem, keep_graph
from dynamic_perception.report.progress import progress_bar


def add_export(commands: argparse._SubParsersAction) -> None:
    """Add the `export` command."""
    parser = commands.add_parser(
        "export",
        help="write the ONNX graph of every subnetwork of a bundle",
        description="Write one ONNX graph per subnetwork: batch normalisation is folded into the convolutions, and "
        "normalisation, layout change and arg-max or ranking are inside, so that it takes a camera's image, uint8 "
        "[H, W, 3] in RGB. By default they go where the nodes look for them, which then start faster.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: the nodes' cache)")
    parser.set_defaults(run_command=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    """Write the graphs and print where they are."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    table = Table(title=f"{bundle.name}: graphs")
    for heading in ("subnetwork", "MB", "file"):
        table.add_column(heading, justify="right" if heading == "MB" else "left", overflow="fold")
    with progress_bar() as bar:
        for subnetwork in bar.track(bundle.subnetworks, description="exporting"):
            graph = make_graph(bundle, subnetwork.name)
            path = cached_graph(bundle, subnetwork.name)
            if arguments.out is None:
                keep_graph(path, graph)
            else:
                path = arguments.out / f"{file_stem(subnetwork.name)}.onnx"
                write_atomically(path, graph)
            table.add_row(subnetwork.name, f"{1e-6 * len(graph):.2f}", str(path))
    Console().print(table)
    return 0
