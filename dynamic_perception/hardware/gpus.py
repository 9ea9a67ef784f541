"""The GPUs of this machine with their clocks: devfreq nodes of a system on a chip, and NVIDIA's cards.

What the devfreq files mean: https://docs.kernel.org/driver-api/devfreq.html; all of them are in Hz.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_perception.hardware.nvml import NvmlGpu, nvml_gpus
from dynamic_perception.hardware.sysfs import parse_integer, read_integer, read_text

DEVFREQ = Path("class/devfreq")
KGSL = Path("class/kgsl")
SYSFS = Path("/sys")
# "17000000.gv11b" (Jetson Xavier), ".ga10b" (Orin), ".gp10b" (TX2), ".gpu" (Jetson, Mali, mainline Adreno), ".mali",
# "3d00000.qcom,kgsl-3d0" (Adreno); not memory controllers ("soc:dmc"), video engines or buses.
GPU_NODE = re.compile(r"(.*[.:,])?(gpu|g[a-z]\d\db|mali\d*|kgsl-3d\d)(-panthor)?")
LOWEST_CLOCK, HIGHEST_CLOCK = 1e6, 1e10  # [Hz] beyond what GPUs are clocked with


@dataclass(frozen=True)
class GpuDevice:
    """One GPU.

    Attributes:
        name: "gpu" where the machine has one, else "gpu0", "gpu1", ...: the name of its compute element's cluster.
        kind: "devfreq" or "nvml".
        model: as the kernel or the driver calls it, for example "17000000.gv11b".
        path: its devfreq folder; None for kind "nvml".
        index: the library's number for kind "nvml"; -1 for devfreq.
        uuid: of kind "nvml"; empty for devfreq.
        frequencies: [Hz] rising: the listed steps, or the two ends of the range; empty: not known.
        stepped: whether these are all that it can run at; else everything between them is allowed.
    """

    name: str
    kind: str
    model: str
    path: Path | None
    index: int
    uuid: str
    frequencies: tuple[float, ...]
    stepped: bool = True
    nvml: NvmlGpu | None = field(default=None, repr=False, compare=False)

    def current(self) -> float:
        """[Hz] The clock in force, read now; NaN: not known."""
        if self.nvml is not None:
            return self.nvml.frequency()
        hertz = read_integer(self.path / "cur_freq")
        return float(hertz) if hertz is not None and _possible(hertz) else math.nan


def find_gpus(sysfs_root: Path = SYSFS) -> tuple[GpuDevice, ...]:
    """Every GPU: devfreq nodes by their names, then cards in the library's order; none in most containers.

    Cards belong to the machine that this process runs on, so they are asked for only where `sysfs_root` is its own.
    """
    nodes = _devfreq_nodes(Path(sysfs_root))
    cards = nvml_gpus() if is_this_machine(sysfs_root) else ()
    names = ["gpu"] if len(nodes) + len(cards) == 1 else [f"gpu{i}" for i in range(len(nodes) + len(cards))]
    found = [
        GpuDevice(name, "devfreq", model, path, -1, "", *_frequencies(path))
        for name, (model, path) in zip(names, nodes)
    ]
    return (
        *found,
        *(
            GpuDevice(name, "nvml", card.model, None, card.index, card.uuid, card.frequencies(), nvml=card)
            for name, card in zip(names[len(nodes) :], cards)
        ),
    )


def is_this_machine(sysfs_root: Path) -> bool:
    """Whether the tree is that of the running kernel, so that what is not in sysfs belongs to it as well."""
    return Path(sysfs_root).resolve() == SYSFS


def _devfreq_nodes(sysfs_root: Path) -> list[tuple[str, Path]]:
    nodes = {path.name: path for path in _entries(sysfs_root / DEVFREQ) if GPU_NODE.fullmatch(path.name)}
    if not any("kgsl" in name for name in nodes):  # Qualcomm's driver shows the same folder below its own class
        nodes |= {path.name: path / "devfreq" for path in _entries(sysfs_root / KGSL) if (path / "devfreq").is_dir()}
    return sorted(nodes.items())


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _frequencies(path: Path) -> tuple[tuple[float, ...], bool]:
    """([Hz] rising, whether these are steps)."""
    try:
        steps = _rising(parse_integer(word) for word in read_text(path / "available_frequencies").split())
    except OSError:
        steps = ()
    # Without a list, the present limits are all that the kernel tells.
    return (steps, True) if steps else (_rising(read_integer(path / f"{end}_freq") for end in ("min", "max")), False)


def _rising(clocks: Iterable[int | None]) -> tuple[float, ...]:
    return tuple(sorted({float(clock) for clock in clocks if clock is not None and _possible(clock)}))


def _possible(hertz: int) -> bool:
    return LOWEST_CLOCK <= hertz <= HIGHEST_CLOCK
