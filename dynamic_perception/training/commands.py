"""`dynamic-perception train` and `evaluate`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.networks.bundle import (
    GROUP_CNN,
    ModelBundle,
    Subnetwork,
    find_bundle,
    read_bundle,
    write_bundle,
    write_model_file,
)
from dynamic_perception.networks.group_cnn_architecture import GroupCNNArchitecture
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training.evaluation import evaluate, with_accuracies
from dynamic_perception.training.images import LabelledImages, find_dataset, read_split

ARCHITECTURES = (GROUP_CNN,)


def add_train(commands: argparse._SubParsersAction) -> None:
    """Add the `train` command."""
    parser = commands.add_parser(
        "train",
        help="train a dynamic DNN on a folder of images and write a model bundle",
        description="Train a dynamic DNN on DIR/{train,test}/<class>/<image> and write a bundle. An interrupted run "
        "goes on where it was when the same command is given again.",
    )
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=GROUP_CNN)
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="image folder, or name of a data set under $DYNAMIC_PERCEPTION_DATA",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="bundle to write (default: models/<architecture>_<data>)"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="checkpoint and log (default: runs/<architecture>_<data>)"
    )
    parser.add_argument("--epochs", type=int, nargs="+", metavar="N", help="epochs per group (default: 8 14 22 32)")
    parser.add_argument(
        "--channels", type=int, nargs=5, metavar="C", help="channels of one group per layer (default: 32 64 96 96 64)"
    )
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the CPU multiplies it in hardware",
    )
    parser.set_defaults(run_command=run_train)


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """Add the `evaluate` command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure the accuracy of every subnetwork of a bundle",
        description="Measure top-1 accuracy of every subnetwork on DIR/test/<class>/<image>.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="image folder, or name of a data set under $DYNAMIC_PERCEPTION_DATA "
        "(default: the one the bundle was trained on)",
    )
    parser.add_argument("--write", action="store_true", help="write the accuracies into model.yaml")
    parser.set_defaults(run_command=run_evaluate)


def run_train(arguments: argparse.Namespace) -> int:
    """Train, evaluate on the test split, and write the bundle."""
    import torch  # only here: every other command starts without it

    from dynamic_perception.training.incremental import LOG, IncrementalTrainer, IncrementalTraining

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = dataset_folder(arguments.data)
    name = f"{arguments.architecture}_{data.name}"
    out, run = arguments.out or Path("models") / name, arguments.run or Path("runs") / name
    size = GroupCNNArchitecture(classes=2).input_size
    train, test = read_split(data, "train", size), read_split(data, "test", size)
    if train.classes != test.classes:
        raise ValueError(
            f"{data}: train has classes {', '.join(train.classes)}, test {', '.join(test.classes)}: expected the same"
        )
    shape = {"channels": tuple(arguments.channels)} if arguments.channels else {}
    architecture = GroupCNNArchitecture(classes=len(train.classes), **shape)
    precision = arguments.precision
    if precision == "auto":
        precision = "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    chosen = {"epochs": tuple(arguments.epochs)} if arguments.epochs else {}
    settings = IncrementalTraining(
        **chosen,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        precision=precision,
    )
    trainer = IncrementalTrainer(architecture, settings, train, run)
    console = Console(stderr=True)
    console.print(
        f"training {name}: {architecture.groups} groups, {sum(settings.epochs)} epochs, {precision}; "
        f"log in {run / LOG}; Ctrl-C stops, the same command goes on"
    )
    with progress_bar(console) as bar:
        done = sum(settings.epochs[: trainer.group]) + trainer.epoch
        task = bar.add_task(
            "training", total=sum(settings.epochs) * trainer.steps_per_epoch, completed=done * trainer.steps_per_epoch
        )
        network = trainer.run(
            lambda group, epoch: bar.update(task, advance=1, description=f"group {group + 1}, epoch {epoch + 1}"),
            lambda r: console.print(
                f"group {r.group} epoch {r.epoch}: loss {r.loss:.4f}, training {r.train_accuracy:.4f}, "
                f"validation {r.validation_accuracy:.4f}, {r.seconds:.0f} s"
            ),
        )
    subnetworks = tuple(
        Subnetwork(
            label,
            k,
            f"subnetwork_{label.rstrip('%')}.onnx",
            architecture.parameters(k),
            architecture.macs(k),
            float("nan"),
            "not measured",
        )
        for label, k in architecture.subnetworks().items()
    )
    training = {
        "method": "incremental training, group by group (MLCAD 2019)",
        "data": data.name,
        "images": len(train.labels),
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
    }
    bundle = ModelBundle(
        out,
        name,
        architecture,
        tuple(trainer.mean.tolist()),
        tuple(trainer.standard_deviation.tolist()),
        train.classes,
        subnetworks,
        "",
        training,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    bundle = write_bundle(bundle, {key: tensor.numpy() for key, tensor in network.tensors().items()})
    measure(bundle, test, data, write=True)
    console.print(f"wrote {out}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Print the table of accuracies, and write it into the bundle if asked to."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    data = dataset_folder(arguments.data or str(bundle.training.get("data", "")))
    measure(bundle, read_split(data, "test", bundle.input_size[0]), data, write=arguments.write)
    return 0


def measure(bundle: ModelBundle, test: LabelledImages, data: Path, write: bool) -> ModelBundle:
    """Evaluate, print, and if asked write the result to `model.yaml`."""
    source = f"measured on the {len(test.labels)} test images of {data.name}"
    measured = with_accuracies(bundle, test, evaluate(bundle, test), source)
    if write:
        write_model_file(measured)
    table = Table(title=f"{bundle.name}: {source}")
    for heading in ("subnetwork", "MACs", "parameters", "top-1", "in model.yaml"):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right")
    for now, before in zip(measured.subnetworks, bundle.subnetworks):
        table.add_row(now.name, f"{now.macs:,}", f"{now.parameters:,}", f"{now.accuracy:.4f}", f"{before.accuracy:.4f}")
    Console().print(table)
    return measured


def dataset_folder(name_or_path: str) -> Path:
    """An image folder by its path or by its name under $DYNAMIC_PERCEPTION_DATA."""
    if name_or_path and Path(name_or_path).is_dir():
        return Path(name_or_path)
    found = find_dataset(name_or_path) if name_or_path else None
    if found is None:
        raise ValueError(
            f"no data at '{name_or_path}': expected a folder with {{train,test}}/<class>/<image>, or the name "
            "of one (or of its .tar archive) under $DYNAMIC_PERCEPTION_DATA"
        )
    return found
