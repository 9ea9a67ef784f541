"""Model bundles: a folder that holds everything needed to run a dynamic DNN.

    model.yaml               search space, normalisation, labels, subnetworks with their accuracy; the only index
    weights.safetensors      the supernet's learned tensors, of which a subnetwork uses a part
    statistics.safetensors   each subnetwork's batch-normalisation statistics, as `<subnetwork>/<tensor>`; not for a
                             family that shares them between subnetworks, where they are in the weight file
    ranges.safetensors       of each int8 subnetwork the range of every activation, as `<subnetwork>/<value>`, if there
                             is one; its weights are those of the float32 subnetwork of the same configuration

An ONNX graph of a subnetwork follows from these; `networks/graph_files.py` makes it.

Reading validates once and completely; everything behind it can trust the bundle.  No torch here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dynamic_perception.documents import InvalidDocument, read_yaml
from dynamic_perception.file_writing import write_atomically
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.families import find_space
from dynamic_perception.networks.search_space import SearchSpace, Shape, SubnetConfig

SCHEMA_VERSION = 2
MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "weights.safetensors"
STATISTICS_FILE = "statistics.safetensors"
RANGES_FILE = "ranges.safetensors"
FLOAT32, INT8 = PRECISIONS = ("float32", "int8")
METRICS = {"classification": "top-1", "segmentation": "mean IoU"}
KEYS = {
    "schema_version": int,
    "name": str,
    "architecture": dict,
    "normalisation": dict,
    "labels": list,
    "weights_sha256": str,
    "metric": str,
    "subnetworks": list,
    "training": dict,
}
SUBNETWORK_KEYS = {
    "name": str,
    "config": dict,
    "input_size": list,
    "parameters": int,
    "macs": int,
    "accuracy": float,
    "accuracy_source": str,
}
Colour = tuple[int, int, int]


class BundleError(ValueError):
    """A bundle that cannot be used; the message names the file, the key, and what was expected."""


@dataclass(frozen=True)
class Subnetwork:
    """One executable part of the network.

    Attributes:
        name: as commands name it, such as "50%".
        config: what it executes.
        input_size: height and width of its input [pixel].
        parameters: learned numbers.
        macs: multiply-accumulates of one image.
        accuracy: on the test split by the bundle's metric, [0..1]; NaN before it was measured.
        accuracy_source: how that number came to be.
        precision: "float32", or "int8" for weights and activations of 8 bits.
    """

    name: str
    config: SubnetConfig
    input_size: tuple[int, int]
    parameters: int
    macs: int
    accuracy: float = float("nan")
    accuracy_source: str = "not measured"
    precision: str = FLOAT32

    @classmethod
    def of(cls, space: SearchSpace, name: str, config: SubnetConfig) -> Subnetwork:
        """A subnetwork of `space` whose accuracy was not measured yet."""
        return cls(name, config, space.input_size(config), space.parameters(config), space.macs(config))


@dataclass(frozen=True)
class ModelBundle:
    """A validated bundle.

    Attributes:
        folder: where it lies.
        name: of the model.
        space: search space of the subnetworks.
        mean, standard_deviation: of the training images per RGB channel, [0..1]; the input is normalised with them.
        labels: class names by class number.
        subnetworks: in rising size; an int8 one right before the float32 one of the same configuration.
        weights_sha256: digest of the weight file followed by the other files of numbers; names the weights in profiles.
        training: how it was trained, for people.
        palette: RGB colours [0..255] of the classes, for pictures; empty if there are none.
    """

    folder: Path
    name: str
    space: SearchSpace
    mean: tuple[float, float, float]
    standard_deviation: tuple[float, float, float]
    labels: tuple[str, ...]
    subnetworks: tuple[Subnetwork, ...]
    weights_sha256: str
    training: Mapping[str, Any]
    palette: tuple[Colour, ...] = ()

    @property
    def task(self) -> str:
        """What it does: "classification" or "segmentation"."""
        return self.space.task

    @property
    def metric(self) -> str:
        """What accuracies mean: "top-1" or "mean IoU"."""
        return METRICS[self.task]

    def subnetwork(self, name: str) -> Subnetwork:
        """The subnetwork of that name; ValueError that lists the known ones."""
        for subnetwork in self.subnetworks:
            if subnetwork.name == name:
                return subnetwork
        raise ValueError(
            f"subnetwork '{name}' is not in {self.name}: expected one of {', '.join(s.name for s in self.subnetworks)}"
        )

    def input_size(self, name: str) -> tuple[int, int]:
        """Height and width [pixel] of that subnetwork's input."""
        return self.subnetwork(name).input_size

    def of_precision(self, precision: str) -> tuple[Subnetwork, ...]:
        """The subnetworks of that precision, in rising size."""
        return tuple(s for s in self.subnetworks if s.precision == precision)

    def full_precision(self, name: str) -> Subnetwork:
        """The float32 subnetwork of the same configuration as that subnetwork."""
        config = self.subnetwork(name).config
        return next(s for s in self.of_precision(FLOAT32) if s.config == config)

    def tensors(self) -> dict[str, np.ndarray]:
        """Everything in the weight file, float32: what the supernet loads."""
        with safe_open(self.folder / WEIGHTS_FILE, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}

    def statistics(self, name: str) -> dict[str, np.ndarray]:
        """Batch-normalisation statistics of that subnetwork, float32."""
        shapes = self.space.statistics_shapes(self.subnetwork(name).config)
        if self.space.shares_statistics:
            with safe_open(self.folder / WEIGHTS_FILE, "numpy") as file:
                return {key: file.get_tensor(key)[: shape[0]] for key, shape in shapes.items()}
        with safe_open(self.folder / STATISTICS_FILE, "numpy") as file:
            return {key: file.get_tensor(f"{self.full_precision(name).name}/{key}") for key in shapes}

    def ranges(self, name: str) -> dict[str, tuple[float, float]]:
        """Least and greatest value of every activation of that int8 subnetwork, by its name in the float32 graph."""
        with safe_open(self.folder / RANGES_FILE, "numpy") as file:
            prefix = f"{name}/"
            return {
                key.removeprefix(prefix): tuple(file.get_tensor(key).tolist())
                for key in file.keys()
                if key.startswith(prefix)
            }


def find_bundle(name_or_path: str) -> Path:
    """Folder of a shipped bundle by its name, or of any bundle by its path."""
    shipped = share_folder() / "models"
    for folder in (Path(name_or_path).expanduser(), shipped / name_or_path):
        if (folder / MODEL_FILE).is_file():
            return folder
    names = sorted(entry.parent.name for entry in shipped.glob(f"*/{MODEL_FILE}"))
    raise BundleError(
        f"no model bundle at '{name_or_path}': expected a folder with {MODEL_FILE}, or one of the shipped "
        f"{', '.join(names) or '(none)'}"
    )


def read_bundle(folder: Path) -> ModelBundle:
    """Read and validate the bundle in `folder`.

    Raises:
        BundleError: something is missing or wrong; names the file, the key and what was expected.
    """
    path = folder / MODEL_FILE
    try:
        plain = read_yaml(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except InvalidDocument as error:
        raise BundleError(str(error)) from None
    _check_mapping(path, "", plain, {"schema_version": int})
    if plain["schema_version"] != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version is {plain['schema_version']}: expected {SCHEMA_VERSION}, "
            "so this bundle belongs to another version of dynamic_perception"
        )
    _check_mapping(path, "", plain, KEYS)
    space = _read_space(path, plain["architecture"])
    labels = tuple(str(label) for label in plain["labels"])
    if len(labels) != space.classes:
        raise BundleError(f"{path}: labels has {len(labels)} entries: expected {space.classes}, one per class")
    bundle = ModelBundle(
        folder,
        plain["name"],
        space,
        _channels(path, plain["normalisation"], "mean"),
        _channels(path, plain["normalisation"], "standard_deviation"),
        labels,
        _read_subnetworks(path, plain["subnetworks"], space),
        plain["weights_sha256"],
        plain["training"],
        _read_palette(path, plain.get("palette"), space.classes),
    )
    if plain["metric"] != bundle.metric:
        raise BundleError(f"{path}: metric is '{plain['metric']}': expected '{bundle.metric}' for {bundle.task}")
    _check_files(bundle)
    return bundle


def write_bundle(
    bundle: ModelBundle,
    tensors: Mapping[str, np.ndarray],
    statistics: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> ModelBundle:
    """Write the bundle into `bundle.folder`, whole or not at all; return it as read back, with the weights' digest.

    The files are written into a temporary folder beside it, which is then renamed; an older bundle there is replaced.

    Args:
        bundle: everything but the numbers.
        tensors: by their names in the weight file.
        statistics: of every float32 subnetwork by its name, where the family does not share them.
        ranges: of every int8 subnetwork by its name.
    """
    partial = bundle.folder.with_name(f"{bundle.folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _save(partial / WEIGHTS_FILE, tensors)
        if statistics:
            flat = {f"{name}/{key}": array for name, of_one in statistics.items() for key, array in of_one.items()}
            _save(partial / STATISTICS_FILE, flat)
        if ranges:
            flat = {f"{name}/{key}": np.array(pair) for name, of_one in ranges.items() for key, pair in of_one.items()}
            _save(partial / RANGES_FILE, flat)
        (partial / MODEL_FILE).write_text(_to_yaml(bundle, _digest(partial)))
        read_bundle(partial)
        replaced = bundle.folder.with_name(f"{bundle.folder.name}.replaced-{os.getpid()}")
        if bundle.folder.exists():
            for extra in bundle.folder.iterdir():  # a model card or a picture stays with the bundle
                rewritten = extra.name in (STATISTICS_FILE, RANGES_FILE) or (partial / extra.name).exists()
                if extra.is_file() and not rewritten:
                    shutil.copy2(extra, partial / extra.name)
            bundle.folder.rename(replaced)
        partial.rename(bundle.folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_bundle(bundle.folder)


def write_model_file(bundle: ModelBundle) -> None:
    """Write only `model.yaml` again, for example with accuracies that were measured just now."""
    write_atomically(bundle.folder / MODEL_FILE, _to_yaml(bundle, bundle.weights_sha256))


def _save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    save_file({name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}, path)
    path.chmod(0o644)  # safetensors writes it for the owner alone; a robot's nodes may be another user


def _digest(folder: Path) -> str:
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes())
    for name in (STATISTICS_FILE, RANGES_FILE):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _to_yaml(bundle: ModelBundle, digest: str) -> str:
    plain = {
        "schema_version": SCHEMA_VERSION,
        "name": bundle.name,
        "architecture": {"family": bundle.space.family, **bundle.space.to_plain()},
        "normalisation": {"mean": list(bundle.mean), "standard_deviation": list(bundle.standard_deviation)},
        "labels": list(bundle.labels),
        **({"palette": [list(colour) for colour in bundle.palette]} if bundle.palette else {}),
        "weights_sha256": digest,
        "metric": bundle.metric,
        "subnetworks": [
            {
                "name": s.name,
                "config": s.config.to_plain(),
                "input_size": list(s.input_size),
                "parameters": s.parameters,
                "macs": s.macs,
                "accuracy": s.accuracy,
                "accuracy_source": s.accuracy_source,
                **({"precision": s.precision} if s.precision != FLOAT32 else {}),
            }
            for s in bundle.subnetworks
        ],
        "training": dict(bundle.training),
    }
    return yaml.safe_dump(plain, sort_keys=False, width=120, default_flow_style=None)


def _read_space(path: Path, plain: Mapping[str, Any]) -> SearchSpace:
    try:
        space = find_space(str(plain.get("family")))
    except ValueError as error:
        raise BundleError(f"{path}: architecture.{error}") from None
    try:
        return space.from_plain({key: value for key, value in plain.items() if key != "family"})
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: architecture: {error}") from None


def _read_subnetworks(path: Path, plain: list, space: SearchSpace) -> tuple[Subnetwork, ...]:
    subnetworks = []
    for number, entry in enumerate(plain):
        key = f"subnetworks[{number}]"
        _check_mapping(path, f"{key}.", entry, SUBNETWORK_KEYS)
        try:
            expected = Subnetwork.of(space, entry["name"], space.subnet(entry["config"]))
        except ValueError as error:
            raise BundleError(f"{path}: {key}.config: {error}") from None
        for name, value in (
            ("input_size", list(expected.input_size)),
            ("parameters", expected.parameters),
            ("macs", expected.macs),
        ):
            if entry[name] != value:
                raise BundleError(f"{path}: {key}.{name} is {entry[name]}: expected {value} by the architecture")
        accuracy = entry["accuracy"]
        if not (np.isnan(accuracy) or 0 <= accuracy <= 1):
            raise BundleError(f"{path}: {key}.accuracy is {accuracy}: expected 0 to 1, or .nan before it was measured")
        precision = entry.get("precision", FLOAT32)
        if precision not in PRECISIONS:
            raise BundleError(f"{path}: {key}.precision is {precision!r}: expected {' or '.join(PRECISIONS)}")
        subnetworks.append(
            replace(expected, accuracy=accuracy, accuracy_source=entry["accuracy_source"], precision=precision)
        )
    names = [s.name for s in subnetworks]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{path}: subnetworks are named {names}: expected at least one, all different")
    macs = [s.macs for s in subnetworks]
    if macs != sorted(macs):
        raise BundleError(f"{path}: subnetworks have macs {macs}: expected rising numbers")
    for subnetwork, following in zip(subnetworks, [*subnetworks[1:], None]):
        if subnetwork.precision == INT8 and (
            following is None or following.config != subnetwork.config or following.precision != FLOAT32
        ):
            raise BundleError(
                f"{path}: subnetwork {subnetwork.name} is {INT8}: expected the {FLOAT32} one of the same "
                "config right after it"
            )
    return tuple(subnetworks)


def _read_palette(path: Path, plain: Any, classes: int) -> tuple[Colour, ...]:
    if plain is None:
        return ()
    colours = tuple(tuple(colour) for colour in plain if isinstance(colour, list)) if isinstance(plain, list) else ()
    if len(colours) != classes or not all(
        len(colour) == 3 and all(type(value) is int and 0 <= value <= 255 for value in colour) for colour in colours
    ):
        raise BundleError(f"{path}: palette is {plain!r}: expected {classes} colours [R, G, B] of 0 to 255")
    return colours


def _check_mapping(path: Path, prefix: str, plain: Any, keys: Mapping[str, type]) -> None:
    if not isinstance(plain, dict):
        raise BundleError(f"{path}: {prefix.rstrip('.') or 'the file'} is {type(plain).__name__}: expected a mapping")
    for key, kind in keys.items():
        if key not in plain:
            raise BundleError(f"{path}: {prefix}{key} is missing: expected {kind.__name__}")
        if type(plain[key]) is not kind:
            raise BundleError(f"{path}: {prefix}{key} is {plain[key]!r}: expected {kind.__name__}")


def _channels(path: Path, plain: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = plain.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, float) and 0 < v < 1 for v in values):
        raise BundleError(
            f"{path}: normalisation.{key} is {values!r}: expected three numbers between 0 and 1 (R, G, B)"
        )
    return tuple(values)


def _check_files(bundle: ModelBundle) -> None:
    weights, statistics = bundle.space.tensor_shapes(), {}
    if bundle.space.shares_statistics:
        weights = weights | bundle.space.statistics_shapes(bundle.space.largest())
    else:
        statistics = {
            f"{s.name}/{key}": shape
            for s in bundle.of_precision(FLOAT32)
            for key, shape in bundle.space.statistics_shapes(s.config).items()
        }
    _check_tensors(bundle.folder / WEIGHTS_FILE, weights)
    if statistics:
        _check_tensors(bundle.folder / STATISTICS_FILE, statistics)
    for subnetwork in bundle.of_precision(INT8):
        try:
            found = bundle.ranges(subnetwork.name)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{bundle.folder / RANGES_FILE} is not a readable safetensors file: {error}") from None
        if not found:
            raise BundleError(f"{bundle.folder / RANGES_FILE}: there is nothing of subnetwork '{subnetwork.name}'")
    measured = _digest(bundle.folder)
    if measured != bundle.weights_sha256:
        files = " + ".join(
            name for name in (WEIGHTS_FILE, STATISTICS_FILE, RANGES_FILE) if (bundle.folder / name).exists()
        )
        raise BundleError(
            f"{bundle.folder / files}: sha256 is {measured}: expected weights_sha256 {bundle.weights_sha256} "
            f"of {MODEL_FILE}"
        )


def _check_tensors(path: Path, expected: Mapping[str, Shape]) -> None:
    try:
        with safe_open(path, "numpy") as file:
            found = {
                name: (tuple(file.get_slice(name).get_shape()), file.get_slice(name).get_dtype())
                for name in file.keys()
            }
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} is not a readable safetensors file: {error}") from None
    for name, shape in expected.items():
        if name not in found:
            raise BundleError(f"{path}: tensor '{name}' is missing: expected shape {shape}")
        if found[name] != (shape, "F32"):
            raise BundleError(
                f"{path}: tensor '{name}' has shape {found[name][0]} and type {found[name][1]}: "
                f"expected shape {shape} and type F32"
            )
    if set(found) != set(expected):
        raise BundleError(f"{path}: tensor '{min(set(found) - set(expected))}' does not belong to the architecture")
