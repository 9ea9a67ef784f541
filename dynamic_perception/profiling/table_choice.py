"""Which operating-point table a robot decides over, and whether it is one of this machine and these weights.

The table that was measured here comes first; then a shipped one that was measured on a machine with the same
fingerprint.  Shipped tables are `config/profiles/<platform>/<model>.yaml`, measured ones are put there by

    dynamic-perception profile MODEL --out config/profiles/<platform>/<model>.yaml
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamic_perception.engines.selection import DEFAULT
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.profiling.table_file import ProfileFile, default_profile, read_table

HEXADECIMAL = 8  # digits of a hash that are shown


def shipped_tables() -> dict[str, Path]:
    """`<platform>/<model>` to the file, in the order of the names."""
    files = sorted((share_folder() / "config" / "profiles").glob("*/*.yaml"))
    return {f"{file.parent.name}/{file.stem}": file for file in files}


def find_shipped(name_or_path: str) -> Path:
    """The file of a shipped table by its name `<platform>/<model>`, or any file by its path.

    Raises:
        ValueError: there is neither.
    """
    shipped = shipped_tables()
    path = Path(name_or_path).expanduser()
    if name_or_path in shipped:
        return shipped[name_or_path]
    if not path.is_file():
        raise ValueError(
            f"no operating-point table at '{name_or_path}': expected a file, or one of the shipped "
            f"{', '.join(shipped) or '(none)'}"
        )
    return path


def find_table(bundle: ModelBundle, fingerprint: Mapping[str, Any]) -> Path:
    """The table of this machine: measured here, or shipped and measured on a machine like it.

    Raises:
        FileNotFoundError: there is none; says what to do.
        ValueError: a shipped file is no table.
    """
    own = default_profile(bundle.name)
    if own.exists():
        return own
    of_model = {name: path for name, path in shipped_tables().items() if path.stem == bundle.name}
    reasons = []
    for name, path in of_model.items():
        file = read_table(path)
        if file.table.provenance["latency"] != "measured":
            reasons.append(f"{name} is {file.table.provenance['latency']}")
            continue
        differing = differences(file, bundle, fingerprint)
        if not differing:
            return path
        reasons.append(f"{name} {' and '.join(differing)}")
    shipped = f"; of the shipped ones, {'; '.join(reasons)}" if reasons else ""
    raise FileNotFoundError(
        f"no operating-point table at {own}{shipped}: measure it with `dynamic-perception profile {bundle.name}`"
    )


def measured_engine(bundle: ModelBundle, fingerprint: Mapping[str, Any]) -> str:
    """The engine that was the fastest when this machine was profiled; the default one where it was not.

    Raises:
        OSError, ValueError: there is a table, but it cannot be read.
    """
    try:
        return read_table(find_table(bundle, fingerprint)).engine
    except FileNotFoundError:
        return DEFAULT


def differences(file: ProfileFile, bundle: ModelBundle, fingerprint: Mapping[str, Any]) -> list[str]:
    """How a table is not one of this bundle on this machine, in words; empty: it is."""
    found = []
    if file.weights_sha256 != bundle.weights_sha256:
        found.append(
            f"was measured with other weights of {file.model} ({file.weights_sha256[:HEXADECIMAL]}... there, "
            f"{bundle.weights_sha256[:HEXADECIMAL]}... here)"
        )
    there, here = dict(file.platform), dict(fingerprint)
    differing = [key for key in {**here, **there} if there.get(key) != here.get(key)]
    if differing:
        words = ", ".join(
            f"{key} {there.get(key, 'not told')} there, {here.get(key, 'not told')} here" for key in differing
        )
        found.append(f"was measured on another machine ({words})")
    return found


def check_table(
    path: Path, file: ProfileFile, bundle: ModelBundle, fingerprint: Mapping[str, Any], force: bool = False
) -> list[str]:
    """Refuse a table of another machine or other weights, or one with subnetworks that the bundle has not.

    Args:
        force: take it all the same, but for unknown subnetworks.

    Returns:
        What was forced, in words.

    Raises:
        ValueError: names what differs, and what to do.
    """
    differing = differences(file, bundle, fingerprint)
    if differing and not force:
        raise ValueError(
            f"{path} {' and '.join(differing)}: measure it again with "
            f"`dynamic-perception profile {bundle.folder}`, or set force_profile"
        )
    known = {subnetwork.name for subnetwork in bundle.subnetworks}
    unknown = sorted(set(file.table.subnetwork) - known)
    if unknown:
        raise ValueError(
            f"{path} has subnetwork '{unknown[0]}', which {bundle.name} has not: it has {', '.join(sorted(known))}"
        )
    return differing
