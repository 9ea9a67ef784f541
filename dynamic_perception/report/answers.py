"""Pictures of what subnetworks answer: frames beside the truth, and accuracy over multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dynamic_perception.engines.scaling import scale_labels
from dynamic_perception.networks.bundle import FLOAT32, INT8, ModelBundle
from dynamic_perception.training.images import LabelledFrames, LabelledImages

FRAMES = 12
PER_SHEET = 24
VOID_COLOUR = (0, 0, 0)


def write_pictures(
    folder: Path,
    bundle: ModelBundle,
    data: LabelledImages | LabelledFrames,
    answers: Mapping[str, Sequence[np.ndarray]],
) -> int:
    """Write pictures of evenly chosen test images into `folder`, which is made; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    smallest, largest = answers[bundle.subnetworks[0].name], answers[bundle.subnetworks[-1].name]
    if bundle.task == "segmentation":
        chosen = np.linspace(0, len(data.labels) - 1, min(FRAMES, len(data.labels))).astype(int)
        for number in chosen:
            _save(
                segmentation_figure(
                    bundle,
                    data.images[number],
                    {
                        "truth": data.labels[number],
                        f"smallest ({bundle.subnetworks[0].name})": smallest[number],
                        f"largest ({bundle.subnetworks[-1].name})": largest[number],
                    },
                ),
                folder / f"frame_{number:05d}.png",
            )
        written = len(chosen)
    else:
        wrong = np.flatnonzero(np.array(smallest) != data.labels)
        order = np.random.default_rng(0).permutation(len(data.labels))
        sets = {
            "answers": order[:PER_SHEET],
            "smallest_wrong": wrong[:PER_SHEET],
            "largest_wrong": np.flatnonzero(np.array(largest) != data.labels)[:PER_SHEET],
        }
        for name, chosen in sets.items():
            _save(classification_figure(bundle, data, chosen, smallest, largest), folder / f"{name}.png")
        written = len(sets)
    _save(accuracy_figure(bundle), folder / "accuracy_over_macs.png")
    return written + 1


def segmentation_figure(bundle: ModelBundle, image: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """A frame, uint8 RGB [H, W, 3], and label maps by their titles, side by side with a legend."""
    height, width = image.shape[:2]
    columns = 1 + len(maps)
    figure = Figure(figsize=(4 * columns, 4 * height / width + 0.9), dpi=110)
    for place, (title, picture) in enumerate(
        {
            "frame": image,
            **{
                title: colour_labels(scale_labels(labels, (height, width)), bundle.palette)
                for title, labels in maps.items()
            },
        }.items(),
        start=1,
    ):
        axes = figure.add_subplot(1, columns, place)
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
    patches = [Patch(color=np.array(colour) / 255, label=label) for label, colour in zip(bundle.labels, bundle.palette)]
    figure.legend(
        handles=[*patches, Patch(color="black", label="void")],
        loc="lower center",
        ncols=len(patches) + 1,
        frameon=False,
    )
    figure.subplots_adjust(0.005, 0.11, 0.995, 0.93, wspace=0.02)
    return figure


def colour_labels(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """RGB picture, uint8 [H, W, 3], of a label map [H, W]; numbers beyond the palette are black."""
    colours = np.array([*palette, VOID_COLOUR], np.uint8)
    return colours[np.minimum(labels, len(palette))]


def classification_figure(
    bundle: ModelBundle, data: LabelledImages, chosen: np.ndarray, smallest: Sequence[int], largest: Sequence[int]
) -> Figure:
    """The chosen images with their true class and what the smallest and the largest subnetwork answer."""
    figure = Figure(figsize=(12, 8.6), dpi=110)
    names = bundle.subnetworks[0].name, bundle.subnetworks[-1].name
    figure.suptitle(f"{bundle.name}: truth, answer of the smallest ({names[0]}) and of the largest ({names[1]})")
    for place, number in enumerate(chosen, start=1):
        axes = figure.add_subplot(4, PER_SHEET // 4, place)
        axes.imshow(data.images[number], interpolation="nearest")
        axes.axis("off")
        truth = data.labels[number]
        right = smallest[number] == truth, largest[number] == truth
        axes.set_title(
            f"{bundle.labels[truth]}: {bundle.labels[smallest[number]]} / {bundle.labels[largest[number]]}",
            fontsize=9,
            color="black" if all(right) else "darkred",
        )
    return figure


def accuracy_figure(bundle: ModelBundle) -> Figure:
    """Accuracy of the subnetworks over their multiply-accumulates."""
    figure = Figure(figsize=(6.4, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for precision, style in ((FLOAT32, "o-"), (INT8, "s")):
        chosen = bundle.of_precision(precision)
        macs, accuracies = [s.macs / 1e6 for s in chosen], [100 * s.accuracy for s in chosen]
        if chosen:
            axes.semilogx(
                macs,
                accuracies,
                style,
                mfc="none" if precision == INT8 else None,
                ms=9 if precision == INT8 else 6,
                label=precision,
            )
        for s, x, y in zip(chosen, macs, accuracies if precision == FLOAT32 else ()):
            axes.annotate(f"{s.name}\n{y:.1f} %", (x, y), textcoords="offset points", xytext=(4, -22), fontsize=8)
    if bundle.of_precision(INT8):
        axes.legend(loc="upper left")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-accumulates of one image [million]")
    axes.set_ylabel(f"{bundle.metric} [%]")
    axes.set_title(f"{bundle.name}, {bundle.subnetworks[0].accuracy_source}", fontsize=9)
    axes.margins(x=0.12, y=0.18)
    axes.grid(alpha=0.3, which="both")
    return figure


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(str(path))
