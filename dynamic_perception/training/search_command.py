"""`dynamic-perception search`: the family of Pareto-optimal subnetworks of a supernet on this machine."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dynamic_perception.hardware.compute_element import discover_elements, find_element, platform_fingerprint
from dynamic_perception.networks.bundle import WEIGHTS_FILE, ModelBundle, find_bundle, read_bundle
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training.commands import data_of, measure
from dynamic_perception.training.pareto import InfeasibleError, Limits, Point, front, spread_points
from dynamic_perception.training.search import RUNGS, search

if TYPE_CHECKING:
    from dynamic_perception.training.candidates import CandidateMeter, MeasurementLog

LOG, PICTURE = "evaluations.jsonl", "search.png"
CALIBRATION_IMAGES = {"classification": 256, "segmentation": 64}  # every pixel of a frame counts
SPARE = 2  # points of the front that are measured again, for each one that is asked for


def add_search(commands: argparse._SubParsersAction) -> None:
    """Add the `search` command."""
    parser = commands.add_parser(
        "search",
        help="choose the subnetworks of a bundle that are best on this machine",
        description="Search the supernet of a bundle for subnetworks that are Pareto-optimal in latency, measured on a "
        "compute element of this machine, and in accuracy on images held out of the training, and write a bundle with "
        "them. An interrupted search goes on where it was when the same command is given again. Leave the machine "
        "alone meanwhile. Exit code 2 if no subnetwork keeps to the limits.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument("--element", required=True, metavar="E", help="compute element to measure on, such as cpu:1")
    parser.add_argument(
        "--points", type=int, default=6, metavar="N", help="subnetworks to choose (default: %(default)s)"
    )
    parser.add_argument(
        "--max-latency",
        type=float,
        default=Limits.max_latency,
        metavar="S",
        help="of an inference, in seconds (default: none)",
    )
    parser.add_argument(
        "--min-accuracy",
        type=float,
        default=Limits.min_accuracy,
        metavar="A",
        help="on the held-out images, 0 to 1 (default: none)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="data folders, or names of data sets under "
        "$DYNAMIC_PERCEPTION_DATA (default: those that the bundle was trained on)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle to write (default: the one that is searched)")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="measurements and picture (default: runs/<bundle>_search_<element>)"
    )
    parser.add_argument(
        "--evaluations",
        type=int,
        default=150,
        metavar="N",
        help="subnetworks to measure at the most (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=500,
        metavar="N",
        help="held-out images to score with; what is kept is scored with all (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        metavar="N",
        help="training images to calibrate with (default: "
        + ", ".join(f"{count} for {task}" for task, count in CALIBRATION_IMAGES.items())
        + ")",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=30,
        metavar="N",
        help="inferences for a latency; what is kept is measured again (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads for accuracies (default: all)")
    parser.set_defaults(run_command=run_search)


def run_search(arguments: argparse.Namespace) -> int:
    """Search, draw the picture, write the bundle, and evaluate it on the test split."""
    limits = Limits(arguments.max_latency, arguments.min_accuracy)
    for name, least in (("points", 1), ("evaluations", RUNGS), ("images", 1), ("calibration_images", 1), ("frames", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: expected at least {least}")
    element = find_element(discover_elements(), arguments.element)
    bundle = read_bundle(find_bundle(arguments.bundle))
    if bundle.space.shares_statistics:
        raise ValueError(
            f"{bundle.name} is a {bundle.space.family}, and has all its subnetworks already: expected a "
            "bundle with more subnetworks than it names"
        )

    import torch  # only here: every other command starts without it

    from dynamic_perception.networks.families import make_supernet
    from dynamic_perception.report.search_picture import draw_search
    from dynamic_perception.training import candidates, recipes

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = arguments.data or data_of(bundle)
    task = recipes.prepare_trained(bundle, data)
    if not task.held_out:
        raise ValueError(f"{', '.join(data)} has no held-out images: expected some to score with")
    network = make_supernet(bundle.space)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    settings = candidates.MeasurementSettings(
        arguments.images,
        arguments.calibration_images or CALIBRATION_IMAGES[bundle.task],
        arguments.frames,
        arguments.seed,
    )
    machine = platform_fingerprint(Path("/sys"))
    run = arguments.run or Path("runs") / f"{bundle.name}_search_{element.name.replace(':', '_')}"
    log = candidates.MeasurementLog(
        run / LOG,
        bundle.space,
        {
            "weights": hashlib.sha256((bundle.folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
            "data": list(map(recipes.dataset_name, data)),
            "element": element.name,
            "machine": machine,
            **asdict(settings),
        },
    )
    meter = candidates.CandidateMeter(bundle, network, task, element, settings)

    console = Console(stderr=True)
    console.print(
        f"searching {bundle.name} on {element.name} for {arguments.points} subnetworks; measurements in "
        f"{run / LOG}; Ctrl-C stops, the same command goes on",
        soft_wrap=True,
    )
    points = _search(bundle.space, meter, log, limits, arguments)
    again = _measure_again(points, meter, log, limits, arguments.points)
    kept = [point for point in front(again) if limits.admit(point)]
    if not kept:
        raise InfeasibleError(bundle.space, limits, again)
    chosen = spread_points(kept, arguments.points)
    if len(chosen) < arguments.points:
        console.print(f"the front has fewer subnetworks than the {arguments.points} asked for: {len(chosen)}")

    configs = recipes.name_by_macs(bundle.space, [point.config for point in chosen])
    found = dict(zip(configs, chosen))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        bundle = replace(bundle, folder=arguments.out, name=arguments.out.resolve().name)
    origin = {
        "element": element.name,
        "machine": machine["cpu_model"],
        "evaluations": len(points),
        "seed": arguments.seed,
    }
    bundle = replace(bundle, training=_with_search(bundle, origin, found))
    bundle = recipes.write_calibrated(bundle, network, task, configs)
    draw_search(
        f"{bundle.name} on {element.name} of {machine['cpu_model']}",
        bundle.metric,
        points,
        again,
        found,
        limits,
        run / PICTURE,
    )
    Console().print(_table(bundle, found, element.name))
    for name in reversed(data):  # the first one last: its accuracies are the bundle's
        bundle = measure(bundle, name, write=True)
    console.print(f"wrote {bundle.folder} and {run / PICTURE}", soft_wrap=True)
    return 0


def _search(
    space: SearchSpace, meter: CandidateMeter, log: MeasurementLog, limits: Limits, arguments: argparse.Namespace
) -> list[Point]:
    from dynamic_perception.training.candidates import SEARCHED

    known = log.points[SEARCHED]
    with progress_bar() as bar:
        progress = bar.add_task("searching", total=arguments.evaluations)

        def measured(config: SubnetConfig) -> Point:
            if config not in known:
                log.add(SEARCHED, [meter.measure(config)])
            bar.update(progress, advance=1)
            return known[config]

        points = search(space, measured, limits, arguments.evaluations, arguments.seed)
        bar.update(progress, total=len(points))
    return points


def _measure_again(
    points: list[Point], meter: CandidateMeter, log: MeasurementLog, limits: Limits, wanted: int
) -> list[Point]:
    """More of the front than is wanted, measured precisely: some of it will turn out to have been lucky."""
    from dynamic_perception.training.candidates import SCORED, TIMED

    finalists = spread_points([point for point in front(points) if limits.admit(point)], SPARE * wanted)
    scored, timed = log.points[SCORED], log.points[TIMED]
    with progress_bar() as bar:
        for point in bar.track(finalists, description="scoring the front again"):
            if point.config not in scored:
                log.add(SCORED, [meter.score_again(point)])
        if not all(point.config in timed for point in finalists):
            progress = bar.add_task("timing the front again", total=100)
            log.add(
                TIMED,
                meter.time_again(
                    [scored[point.config] for point in finalists],
                    lambda share: bar.update(progress, completed=100 * share),
                ),
            )
    return [timed[point.config] for point in finalists]


def _with_search(bundle: ModelBundle, origin: dict[str, Any], found: dict[str, Point]) -> dict[str, Any]:
    """How the bundle was trained and its subnetworks were found, without what was measured of others before."""
    kept = {key: value for key, value in bundle.training.items() if not key.startswith(f"{bundle.metric} on ")}
    return {
        **kept,
        "search": {
            **origin,
            "latency_source": "measured",
            "latency [s]": {name: float(f"{point.latency:.4g}") for name, point in found.items()},
            f"{bundle.metric} on held-out images": {name: round(point.accuracy, 6) for name, point in found.items()},
        },
    }


def _table(bundle: ModelBundle, found: dict[str, Point], element: str) -> Table:
    table = Table(title=f"{bundle.name}: chosen on {element}")
    for heading in ("subnetwork", "input", "MACs", r"latency \[ms]" "\nmeasured", f"{bundle.metric}\nheld out"):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right")
    for s in bundle.subnetworks:
        height, width = s.input_size
        table.add_row(
            s.name,
            f"{width}x{height}",
            f"{s.macs:,}",
            f"{1e3 * found[s.name].latency:.3f}",
            f"{found[s.name].accuracy:.4f}",
        )
    return table
