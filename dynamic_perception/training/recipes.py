"""How each family is trained from a data set to a bundle."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import safe_open

from dynamic_perception.engines.scaling import scale_image
from dynamic_perception.networks.bundle import WEIGHTS_FILE, ModelBundle, Subnetwork, write_bundle
from dynamic_perception.networks.families import make_supernet
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.networks.segmenter_space import SegmenterSpace
from dynamic_perception.networks.supernet import Supernet
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training import distributed, incremental, sandwich
from dynamic_perception.training.evaluation import dataset_folder
from dynamic_perception.training.images import LabelledFrames, LabelledImages, read_frames, read_split, read_tracks
from dynamic_perception.training.road_frames import ROAD_SCENE, render_road_frames
from dynamic_perception.training.sandwich import CHECKPOINT, SandwichTrainer, SandwichTraining
from dynamic_perception.training.tasks import ClassificationTask, SegmentationTask, Task

# CamVid's eleven classes and colours (G. Brostow et al., "Semantic Object Classes in Video", 2009).
PALETTE = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
CLASSES_FILE = "classes.txt"
HELD_OUT = 0.05  # of the training images, where the data set has no validation split
CALIBRATION_IMAGES = 2000
CROP = 8 / 9, 13 / 15  # of a frame's height and width that a training crop has
# What --epochs, --batch-size, --learning-rate, --weight-decay are when not given.
DEFAULTS = {"ofa_mobilenet_v3": (16, 128, 0.1, 1e-4), "segmenter": (60, 8, 0.05, 5e-4)}


def train_groups(arguments: argparse.Namespace, run: Path, out: Path, console: Console) -> ModelBundle:
    """Train a group CNN, group by group."""
    (data,) = (dataset_folder(name) for name in _one(arguments.data))
    size = GroupCNNSpace(classes=2).resolution
    train = read_split(data, "train", size)
    train = replace(train, images=np.stack([scale_image(image, (size, size)) for image in train.images]))
    space = GroupCNNSpace(
        classes=len(train.classes), **({"channels": tuple(arguments.channels)} if arguments.channels else {})
    )
    settings = incremental.IncrementalTraining(
        **_given(
            epochs=tuple(arguments.epochs or ()),
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            weight_decay=arguments.weight_decay,
        ),
        seed=arguments.seed,
        precision=_precision(arguments, "bfloat16"),
    )
    trainer = incremental.IncrementalTrainer(space, settings, train, run)
    console.print(
        f"training {out.name}: {space.groups} groups, {sum(settings.epochs)} epochs, {settings.precision}; "
        f"log in {run / incremental.LOG}; Ctrl-C stops, the same command goes on"
    )
    with progress_bar(console) as bar:
        done = sum(settings.epochs[: trainer.group]) + trainer.epoch
        steps = trainer.steps_per_epoch
        task = bar.add_task("training", total=sum(settings.epochs) * steps, completed=done * steps)
        network = trainer.run(
            lambda group, epoch: bar.update(task, advance=1, description=f"group {group + 1}, epoch {epoch + 1}"),
            lambda r: console.print(
                f"group {r.group} epoch {r.epoch}: loss {r.loss:.4f}, training {r.train_accuracy:.4f}, validation "
                f"{r.validation_accuracy:.4f}, {r.seconds:.0f} s"
            ),
        )
    subnetworks = tuple(Subnetwork.of(space, label, config) for label, config in space.subnetworks().items())
    training = _origin("incremental training, group by group (MLCAD 2019)", [data.name], len(train.labels), settings)
    bundle = ModelBundle(
        out,
        out.name,
        space,
        tuple(trainer.mean.tolist()),
        tuple(trainer.standard_deviation.tolist()),
        train.classes,
        subnetworks,
        "",
        training,
    )
    return write_bundle(bundle, {key: tensor.numpy() for key, tensor in network.tensors().items()})


def train_sandwich(arguments: argparse.Namespace, run: Path, out: Path, console: Console) -> ModelBundle | None:
    """Train a once-for-all network or a segmenter with the sandwich rule, and calibrate some of its subnetworks.

    Of several processes only the first one writes the bundle; the others get None.
    """
    distributed.join_processes()
    try:
        return _train_sandwich(arguments, run, out, console)
    finally:
        distributed.leave_processes()


def _train_sandwich(arguments: argparse.Namespace, run: Path, out: Path, console: Console) -> ModelBundle | None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.architecture == SegmenterSpace.family:
        space, task, labels = prepare_segmentation(arguments.data, arguments.held_out)
    else:
        space, task, labels = prepare_classification(
            arguments.data, arguments.width_multiplier, arguments.resolutions, arguments.mirrored
        )
    epochs, batch_size, learning_rate, weight_decay = DEFAULTS[space.family]
    # Depthwise convolutions on CPUs are slower in bfloat16.
    fast = "bfloat16" if space.task == "segmentation" or device.type == "cuda" else "float32"
    settings = SandwichTraining(
        epochs=_one(arguments.epochs)[0] if arguments.epochs else epochs,
        batch_size=arguments.batch_size or batch_size,
        learning_rate=arguments.learning_rate or learning_rate,
        weight_decay=weight_decay if arguments.weight_decay is None else arguments.weight_decay,
        largest_alone=arguments.largest_alone,
        progressive=arguments.progressive,
        random_subnetworks=arguments.random_subnetworks,
        seed=arguments.seed,
        precision=_precision(arguments, fast),
    )
    network = make_supernet(space)
    network.initialise(torch.Generator().manual_seed(settings.seed))
    network.to(device)
    if arguments.initial:
        network.load_tensors(read_initial(Path(arguments.initial)))
    trainer = SandwichTrainer(network, task, settings, run)
    first = distributed.rank() == 0
    if first:
        console.print(
            f"training {out.name}: {settings.epochs} epochs of {len(task)} images on {device}, "
            f"{settings.precision}; log in {run / sandwich.LOG}; Ctrl-C stops, the same command goes on"
        )
    with progress_bar(console if first else Console(quiet=True)) as bar:
        steps = trainer.steps_per_epoch
        progress = bar.add_task("training", total=settings.epochs * steps, completed=trainer.epoch * steps)
        trainer.run(
            lambda epoch: bar.update(progress, advance=1, description=f"epoch {epoch + 1}"),
            lambda r: (
                first
                and console.print(
                    f"epoch {r.epoch}: loss {r.loss:.4f}, distance {r.distance:.4f}, held out: largest "
                    f"{r.largest:.4f}, smallest {r.smallest:.4f}, {r.seconds:.0f} s"
                )
            ),
        )
    if not first:
        return None
    if space.task == "segmentation" and task.held_out:
        correct_bias(network, task, settings.seed)
    training = _origin(
        "sandwich rule with in-place distillation", [dataset_name(name) for name in arguments.data], len(task), settings
    )
    if space.task == "segmentation":
        training["held out"] = task.held_out
    if arguments.initial:
        training["initial weights"] = str(arguments.initial)
    palette = tuple(PALETTE[label] for label in labels) if set(labels) <= set(PALETTE) else ()
    bundle = ModelBundle(
        out,
        out.name,
        space,
        tuple(task.mean.tolist()),
        tuple(task.deviation.tolist()),
        labels,
        (),
        "",
        training,
        palette,
    )
    return write_calibrated(bundle, network, task, name_by_macs(space, space.ladder(arguments.subnetworks)))


@torch.no_grad()
def correct_bias(network: Supernet, task: SegmentationTask, seed: int, images: int = 128) -> None:
    """Correct the classifier's bias, which all subnetworks share, as serves the largest on the held-out frames best."""
    largest, device = network.space.largest(), next(network.parameters()).device
    size = network.space.input_size(largest)
    network.activate(
        largest, network.calibrate(largest, (x.to(device) for x in task.calibration_images(size, images, seed)))
    )
    answers = [(network(x.to(device)).cpu(), labels) for x, labels in task.held_out_images(size)]
    network.tensors()["classifier.conv.bias"] += task.bias_correction(answers).to(device)
    network.forget_slices()


def write_calibrated(
    bundle: ModelBundle, network: Supernet, task: Task, configs: Mapping[str, SubnetConfig], seed: int = 1
) -> ModelBundle:
    """Calibrate the subnetworks `configs`, by name, on training images and write the bundle with just them."""
    space, statistics, subnetworks = bundle.space, {}, []
    device = next(network.parameters()).device
    with progress_bar() as bar:
        by_size = sorted(configs.items(), key=lambda named: space.macs(named[1]))
        for name, config in bar.track(by_size, description="calibrating"):
            images = task.calibration_images(space.input_size(config), CALIBRATION_IMAGES, seed)
            measured = network.calibrate(config, (x.to(device) for x in images))
            statistics[name] = {key: tensor.cpu().numpy() for key, tensor in measured.items()}
            subnetworks.append(Subnetwork.of(space, name, config))
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.tensors().items()}
    return write_bundle(replace(bundle, subnetworks=tuple(subnetworks)), tensors, statistics)


def name_by_macs(space: SearchSpace, configs: Sequence[SubnetConfig]) -> dict[str, SubnetConfig]:
    """Names for subnetworks: their multiply-accumulates in millions, with a letter where that name is taken."""
    named: dict[str, SubnetConfig] = {}
    for config in configs:
        macs = space.macs(config)
        name = f"{macs / 1e6:.3g}M" if macs < 999.5e6 else f"{macs / 1e6:.0f}M"
        letters = ("", *"bcdefghijklmnopqrstuvwxyz")
        named[next(name + letter for letter in letters if name + letter not in named)] = config
    return named


def prepare_classification(
    names: Sequence[str], width_multiplier: float, resolutions: Sequence[int], mirrored: bool
) -> tuple[SearchSpace, Task, tuple[str, ...]]:
    """Search space, task and labels for an image folder, the only one of `names`."""
    space = OFAMobileNetV3Space(classes=2, width_multiplier=width_multiplier, resolutions=tuple(resolutions))
    task, labels = classification_task(names, space.resolutions[-1], mirrored)
    return replace(space, classes=len(labels)), task, labels


def classification_task(names: Sequence[str], resolution: int, mirrored: bool) -> tuple[Task, tuple[str, ...]]:
    """Task and labels for an image folder, the only one of `names`, on images of that height and width [pixel]."""
    (data,) = (dataset_folder(name) for name in _one(names))
    images, tracks = read_split(data, "train", resolution), read_tracks(data, "train")
    return ClassificationTask(images, choose_held_out(images, tracks), (resolution,) * 2, mirrored), images.classes


def prepare_segmentation(
    names: Sequence[str], held_out: int | None = None
) -> tuple[SearchSpace, Task, tuple[str, ...]]:
    """Search space, task and labels for one or more sets of labelled frames.

    Of the first one's `val` split, `held_out` frames, evenly taken (None: all), are held out; the others are trained
    on.
    """
    if held_out is not None and held_out < 0:
        raise ValueError(f"held out is {held_out}: expected 0 or more frames")
    labels = class_names(names)
    parts = [
        render_road_frames("train") if name == ROAD_SCENE else read_frames(dataset_folder(name), "train", labels)
        for name in names
    ]
    validated = dataset_folder(names[0]) if names[0] != ROAD_SCENE else None
    trained, validation = sum(len(part.labels) for part in parts), 0
    if validated is not None and (validated / "val").is_dir():
        parts.append(read_frames(validated, "val", labels))
        validation = len(parts[-1].labels)
    sizes = {part.labels.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise ValueError(f"the frames of {', '.join(names)} have sizes {sorted(sizes)}: expected one size for all")
    frames = LabelledFrames(
        np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]), labels
    )
    height, width = frames.labels.shape[1:]
    spaced = np.linspace(0, validation - 1, validation if held_out is None else min(held_out, validation))
    crop = round(height * CROP[0] / 16) * 16, round(width * CROP[1] / 16) * 16
    task = SegmentationTask(frames, trained + np.unique(spaced.round().astype(int)), crop)
    resolutions = tuple((round(height * share), round(width * share)) for share in (1 / 2, 2 / 3, 5 / 6, 1))
    return SegmenterSpace(classes=len(labels), resolutions=resolutions), task, labels


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes of labelled frames: those in `classes.txt` of the first set, one a line, or CamVid's."""
    if names[0] == ROAD_SCENE:
        return tuple(PALETTE)
    file = dataset_folder(names[0]) / CLASSES_FILE
    classes = tuple(file.read_text().split("\n")) if file.is_file() else tuple(PALETTE)
    classes = tuple(name.strip() for name in classes if name.strip())
    if ROAD_SCENE in names and classes != tuple(PALETTE):
        raise ValueError(f"{file} names {', '.join(classes)}: expected those of {ROAD_SCENE}, {', '.join(PALETTE)}")
    return classes


def prepare_trained(bundle: ModelBundle, names: Sequence[str]) -> Task:
    """Task of the data sets `names`, for the supernet of a bundle: with its input sizes and its normalisation."""
    if bundle.task == "segmentation":
        _, task, labels = prepare_segmentation(names, bundle.training.get("held out"))
    else:
        resolution, _ = bundle.space.input_size(bundle.space.largest())
        task, labels = classification_task(names, resolution, mirrored=False)
    if labels != bundle.labels:
        raise ValueError(
            f"{', '.join(names)} has classes {', '.join(labels)}: expected those of {bundle.name}, "
            f"{', '.join(bundle.labels)}"
        )
    task.mean, task.deviation = np.array(bundle.mean), np.array(bundle.standard_deviation)
    return task


def choose_held_out(images: LabelledImages, tracks: np.ndarray | None, seed: int = 1) -> np.ndarray:
    """Indices of a share of the images, whole tracks where there are any: frames of one track are near-duplicates."""
    groups = np.arange(len(images.labels)) if tracks is None else tracks
    count = groups.max() + 1
    return np.flatnonzero(np.isin(groups, np.random.default_rng(seed).permutation(count)[: round(HELD_OUT * count)]))


def read_initial(folder: Path) -> dict[str, torch.Tensor]:
    """The learned tensors of a bundle, or of the checkpoint of a run, to start a training from."""
    for file_name, prefix in ((WEIGHTS_FILE, ""), (CHECKPOINT, "network/")):
        if (folder / file_name).is_file():
            with safe_open(folder / file_name, "pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]
                return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    raise ValueError(
        f"no weights in '{folder}': expected a bundle ({WEIGHTS_FILE}) or the folder of a run ({CHECKPOINT})"
    )


def dataset_name(name_or_path: str) -> str:
    """What a data set is called in a bundle."""
    return name_or_path if name_or_path == ROAD_SCENE else re.sub(r"\.tar.*", "", dataset_folder(name_or_path).name)


def _origin(method: str, data: Sequence[str], images: int, settings: Any) -> dict[str, Any]:
    """How a bundle was trained, for its model.yaml."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
    return {"method": method, "data": list(data), "images": images, "settings": plain}


def _one(values: Sequence[Any]) -> Sequence[Any]:
    if len(values) != 1:
        raise ValueError(f"{', '.join(map(str, values))}: expected a single value for this architecture")
    return values


def _given(**values: Any) -> dict[str, Any]:
    """Those that were given."""
    return {key: value for key, value in values.items() if value not in (None, ())}


def _precision(arguments: argparse.Namespace, fast: str) -> str:
    """The asked precision; for "auto" `fast` if the processor multiplies bfloat16 in hardware."""
    if arguments.precision != "auto":
        return arguments.precision
    in_hardware = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    return fast if in_hardware else "float32"
