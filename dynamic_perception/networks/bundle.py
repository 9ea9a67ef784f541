"""Model bundles: a folder that holds everything needed to run a dynamic DNN.

    model.yaml            architecture, input, labels, subnetworks with their measured accuracy; the only index
    weights.safetensors   the full tensors; a subnetwork uses a prefix of each
    <subnetwork>.onnx     one graph per subnetwork without weights of its own: each initialiser is a prefix of a
                          tensor in weights.safetensors, so all graphs together take a few kilobytes

Reading validates once and completely; everything behind it can trust the bundle.  No torch here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dynamic_perception.installation import share_folder
from dynamic_perception.networks.group_cnn_architecture import GroupCNNArchitecture

SCHEMA_VERSION = 1
MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "weights.safetensors"
GROUP_CNN = "group_cnn"
KEYS = {
    "schema_version": int,
    "name": str,
    "architecture": dict,
    "normalisation": dict,
    "labels": list,
    "weights_sha256": str,
    "subnetworks": list,
    "training": dict,
}
SUBNETWORK_KEYS = {
    "name": str,
    "groups": int,
    "graph": str,
    "parameters": int,
    "macs": int,
    "accuracy": float,
    "accuracy_source": str,
}


class BundleError(ValueError):
    """A bundle that cannot be used; the message names the file, the key, and what was expected."""


@dataclass(frozen=True)
class Subnetwork:
    """One executable part of the network.

    Attributes:
        name: as commands name it, such as "50%".
        groups: channel groups that it executes.
        graph: file name of its ONNX graph.
        parameters: learned numbers.
        macs: multiply-accumulates of one image.
        accuracy: top-1 on the test split, [0..1]; NaN before it was measured.
        accuracy_source: how that number came to be.
    """

    name: str
    groups: int
    graph: str
    parameters: int
    macs: int
    accuracy: float
    accuracy_source: str


@dataclass(frozen=True)
class ModelBundle:
    """A validated bundle.

    Attributes:
        folder: where it lies.
        name: of the model.
        architecture: of the full network.
        mean, standard_deviation: of the training images per RGB channel, [0..1]; the input is normalised with them.
        labels: class names by class number.
        subnetworks: in rising size.
        weights_sha256: digest of the weight file, which names the weights in profiles.
        training: how it was trained, for people.
    """

    folder: Path
    name: str
    architecture: GroupCNNArchitecture
    mean: tuple[float, float, float]
    standard_deviation: tuple[float, float, float]
    labels: tuple[str, ...]
    subnetworks: tuple[Subnetwork, ...]
    weights_sha256: str
    training: Mapping[str, Any]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return self.architecture.input_size, self.architecture.input_size

    def subnetwork(self, name: str) -> Subnetwork:
        """The subnetwork of that name; ValueError that lists the known ones."""
        for subnetwork in self.subnetworks:
            if subnetwork.name == name:
                return subnetwork
        raise ValueError(
            f"subnetwork '{name}' is not in {self.name}: expected one of {', '.join(s.name for s in self.subnetworks)}"
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """All full tensors, read from the weight file."""
        with safe_open(self.folder / WEIGHTS_FILE, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}


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
        plain = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not YAML: {error}") from None
    _check_mapping(path, "", plain, {"schema_version": int})
    if plain["schema_version"] != SCHEMA_VERSION:
        raise BundleError(f"{path}: schema_version is {plain['schema_version']}: expected {SCHEMA_VERSION}")
    _check_mapping(path, "", plain, KEYS)
    family = plain["architecture"].get("family")
    if family != GROUP_CNN:
        raise BundleError(f"{path}: architecture.family is {family!r}: expected '{GROUP_CNN}'")
    try:
        architecture = GroupCNNArchitecture.from_plain(
            {k: v for k, v in plain["architecture"].items() if k != "family"}
        )
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: architecture: {error}") from None
    labels = tuple(str(label) for label in plain["labels"])
    if len(labels) != architecture.classes:
        raise BundleError(f"{path}: labels has {len(labels)} entries: expected {architecture.classes}, one per class")
    bundle = ModelBundle(
        folder,
        plain["name"],
        architecture,
        _channels(path, plain["normalisation"], "mean"),
        _channels(path, plain["normalisation"], "standard_deviation"),
        labels,
        _read_subnetworks(path, plain["subnetworks"], architecture),
        plain["weights_sha256"],
        plain["training"],
    )
    _check_weights(folder / WEIGHTS_FILE, architecture, bundle.weights_sha256)
    for subnetwork in bundle.subnetworks:
        if not (folder / subnetwork.graph).is_file():
            raise BundleError(
                f"{path}: graph '{subnetwork.graph}' of subnetwork '{subnetwork.name}' is not in the folder"
            )
    return bundle


def write_bundle(bundle: ModelBundle, tensors: Mapping[str, np.ndarray]) -> ModelBundle:
    """Write weights, graphs and `model.yaml` into `bundle.folder`, whole or not at all; return it as read back.

    The files are written into a temporary folder beside it, which is then renamed; an older bundle there is replaced.
    """
    # The graphs need the onnx package, which a robot that only runs them does without.
    from dynamic_perception.networks.group_cnn_graph import write_graphs

    partial = bundle.folder.with_name(f"{bundle.folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        save_file({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}, partial / WEIGHTS_FILE)
        (partial / WEIGHTS_FILE).chmod(
            0o644
        )  # safetensors writes it for the owner alone; a robot's nodes may be another user
        write_graphs(partial, bundle, partial / WEIGHTS_FILE)
        digest = hashlib.sha256((partial / WEIGHTS_FILE).read_bytes()).hexdigest()
        (partial / MODEL_FILE).write_text(_to_yaml(bundle, digest))
        read_bundle(partial)
        replaced = bundle.folder.with_name(f"{bundle.folder.name}.replaced-{os.getpid()}")
        if bundle.folder.exists():
            for extra in bundle.folder.iterdir():  # a model card or the like stays with the bundle
                if not (partial / extra.name).exists() and extra.suffix != ".onnx":
                    shutil.copy2(extra, partial / extra.name)
            bundle.folder.rename(replaced)
        partial.rename(bundle.folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_bundle(bundle.folder)


def write_model_file(bundle: ModelBundle) -> None:
    """Write only `model.yaml` again, for example with accuracies that were measured just now."""
    partial = bundle.folder / f"{MODEL_FILE}.partial"
    partial.write_text(_to_yaml(bundle, bundle.weights_sha256))
    os.replace(partial, bundle.folder / MODEL_FILE)


def _to_yaml(bundle: ModelBundle, digest: str) -> str:
    plain = {
        "schema_version": SCHEMA_VERSION,
        "name": bundle.name,
        "architecture": {"family": GROUP_CNN, **bundle.architecture.to_plain()},
        "normalisation": {"mean": list(bundle.mean), "standard_deviation": list(bundle.standard_deviation)},
        "labels": list(bundle.labels),
        "weights_sha256": digest,
        "subnetworks": [{key: getattr(s, key) for key in SUBNETWORK_KEYS} for s in bundle.subnetworks],
        "training": dict(bundle.training),
    }
    return yaml.safe_dump(plain, sort_keys=False, width=120, default_flow_style=None)


def _read_subnetworks(path: Path, plain: list, architecture: GroupCNNArchitecture) -> tuple[Subnetwork, ...]:
    subnetworks = []
    for number, entry in enumerate(plain):
        key = f"subnetworks[{number}]"
        _check_mapping(path, f"{key}.", entry, SUBNETWORK_KEYS)
        s = Subnetwork(**{name: entry[name] for name in SUBNETWORK_KEYS})
        if not 1 <= s.groups <= architecture.groups:
            raise BundleError(f"{path}: {key}.groups is {s.groups}: expected 1 to {architecture.groups}")
        for name, expected in (
            ("parameters", architecture.parameters(s.groups)),
            ("macs", architecture.macs(s.groups)),
        ):
            if getattr(s, name) != expected:
                raise BundleError(
                    f"{path}: {key}.{name} is {getattr(s, name)}: expected {expected} by the architecture"
                )
        if not (np.isnan(s.accuracy) or 0 <= s.accuracy <= 1):
            raise BundleError(
                f"{path}: {key}.accuracy is {s.accuracy}: expected 0 to 1, or .nan before it was measured"
            )
        if Path(s.graph).name != s.graph:
            raise BundleError(f"{path}: {key}.graph is '{s.graph}': expected a file name in the bundle's folder")
        subnetworks.append(s)
    names = [s.name for s in subnetworks]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{path}: subnetworks are named {names}: expected at least one, all different")
    if [s.groups for s in subnetworks] != sorted({s.groups for s in subnetworks}):
        raise BundleError(f"{path}: subnetworks have groups {[s.groups for s in subnetworks]}: expected rising numbers")
    return tuple(subnetworks)


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


def _check_weights(path: Path, architecture: GroupCNNArchitecture, digest: str) -> None:
    try:
        with safe_open(path, "numpy") as file:
            found = {
                name: (tuple(file.get_slice(name).get_shape()), file.get_slice(name).get_dtype())
                for name in file.keys()
            }
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} is not a readable safetensors file: {error}") from None
    expected = architecture.tensor_shapes()
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
    measured = hashlib.sha256(path.read_bytes()).hexdigest()
    if measured != digest:
        raise BundleError(f"{path}: sha256 is {measured}: expected weights_sha256 {digest} of {MODEL_FILE}")
