"""What must be there before the demo starts anything: images, network, operating points."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.nodes.image_sources import open_source
from dynamic_perception.nodes.parameters import NODE_PARAMETERS
from dynamic_perception.profiling.commands import ProfileRequest, profile_to
from dynamic_perception.profiling.table_choice import differences
from dynamic_perception.profiling.table_file import ProfileFile, default_profile, read_table
from dynamic_perception.profiling.turn_log import AnotherRun
from dynamic_perception.report.recorded_run import Limits
from dynamic_perception.scenes import road_scene

SYNTHETIC = "synthetic"
ROAD = {"scene": "road", "width": 480, "height": 360}  # [pixel] frames as the shipped segmenter was trained on
OBJECTS = {"scene": "objects", "width": 640, "height": 480}


def read_source(images: Path | None, video: Path | None) -> str:
    """The camera's source; ValueError or OSError if it cannot be read."""
    if images is not None and not images.is_dir():
        raise ValueError(f"--images {images}: expected a folder with images")
    if video is not None and not video.is_file():
        raise ValueError(f"--video {video}: expected a video file")
    path = images or video
    if path is None:
        return SYNTHETIC
    open_source(str(path), width=0, height=0, frame_rate=0, seed=0).close()
    return str(path.resolve())


def read_model(name_or_path: str) -> ModelBundle:
    """The bundle; ValueError if there is none, or only one subnetwork to choose from."""
    bundle = read_bundle(find_bundle(name_or_path))
    if len(bundle.subnetworks) < 2:
        name = bundle.subnetworks[0].name
        raise ValueError(f"{bundle.folder} has only subnetwork '{name}': expected at least two to choose from")
    return bundle


def choose_camera(source: str, bundle: ModelBundle) -> dict[str, object]:
    """Parameters of the camera: a segmenter sees a road, a classifier objects, unless there are the user's frames."""
    scene = {} if source != SYNTHETIC else ROAD if bundle.task == "segmentation" else OBJECTS
    return {"source": source, **scene}


def describe_truth(source: str, bundle: ModelBundle) -> str:
    """What the answers can be measured against, for people; empty: nothing."""
    known = source == SYNTHETIC and bundle.task == "segmentation" and bundle.labels == road_scene.LABELS
    return "measured against the synthetic camera's truth" if known else ""


def open_table(bundle: ModelBundle, console: Console) -> tuple[Path, OperatingPointTable]:
    """This machine's operating points of `bundle`, measured now if that was not done before."""
    path = default_profile(bundle.name)
    if path.exists():
        file = read_table(path)
        why = _why_not(file, bundle)
        if not why:
            return path, file.table
        console.print(f"{path} {why}: measuring the operating points again", markup=False, highlight=False)
    else:
        console.print("no operating points of this network on this machine yet: measuring them once")
    try:
        return path, profile_to(path, bundle).table
    except AnotherRun as error:
        console.print(f"{error}: starting again", markup=False, highlight=False)
        return path, profile_to(path, bundle, ProfileRequest(restart=True)).table


def _why_not(file: ProfileFile, bundle: ModelBundle) -> str:
    """Why a table cannot be used; empty: it can."""
    differing = differences(file, bundle, platform_fingerprint(Path("/sys")))
    if differing:
        return " and ".join(differing)
    here = {(s.name, element.name) for s in bundle.subnetworks for element in discover_elements()}
    marked = {(mark["subnetwork"], mark["compute_element"]) for mark in file.conditions.get("marked", ())}
    if here - marked != set(zip(file.table.subnetwork, file.table.compute_element)) - marked:
        return "has other operating points than this process may use"
    return ""


def read_limits() -> Limits:
    """The limits that the resource manager has by default, as it has in the demo."""
    values = {spec.name: spec.default for spec in NODE_PARAMETERS["resource_manager"]}
    return Limits(
        values["thermal_switch_on_temperature"],
        values["thermal_control_temperature"],
        values["thermal_critical_temperature"],
        tuple(values["battery_thresholds"]),
    )
