"""`dynamic-perception train` and `evaluate`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.documents import read_yaml
from dynamic_perception.networks.bundle import FLOAT32, ModelBundle, find_bundle, read_bundle, write_model_file
from dynamic_perception.networks.families import SPACES
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.training import evaluation
from dynamic_perception.training.road_frames import ROAD_SCENE
from dynamic_perception.training.segmentation_score import class_ious

GROUP_CNN = "group_cnn"


def add_train(commands: argparse._SubParsersAction) -> None:
    """Add the `train` command."""
    parser = commands.add_parser(
        "train",
        help="train a dynamic DNN on labelled images and write a model bundle",
        description="Train a dynamic DNN on DIR/{train,test}/<class>/<image>, or the segmenter on "
        "DIR/{train,val,test}/{images,labels}/<frame>, and write a bundle. An interrupted run goes on where it was "
        "when the same command is given again. With torchrun several GPUs or machines train together.",
    )
    parser.add_argument("--architecture", choices=tuple(SPACES), default=GROUP_CNN)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DIR",
        help=f"data folder, or name of a data set under $DYNAMIC_PERCEPTION_DATA; for the segmenter several, and "
        f"{ROAD_SCENE} are synthetic streets",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="bundle to write (default: models/<architecture>_<data>)"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="checkpoint and log (default: runs/<architecture>_<data>)"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        nargs="+",
        metavar="N",
        help="epochs; of the group CNN, epochs per group (default: by architecture)",
    )
    parser.add_argument("--learning-rate", type=float, help="its peak (default: by architecture)")
    parser.add_argument("--weight-decay", type=float, help="(default: by architecture)")
    parser.add_argument("--batch-size", type=int, help="over all processes (default: by architecture)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the processor multiplies it in hardware and it is faster",
    )
    groups = parser.add_argument_group("group CNN")
    groups.add_argument(
        "--channels", type=int, nargs=5, metavar="C", help="channels of one group per layer (default: 32 64 96 96 64)"
    )
    supernets = parser.add_argument_group("once-for-all network and segmenter")
    supernets.add_argument("--initial", metavar="DIR", help="start from the weights of this bundle or run")
    supernets.add_argument(
        "--largest-alone",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the epochs, at the beginning, that train only the largest subnetwork",
    )
    supernets.add_argument(
        "--progressive", action="store_true", help="progressive shrinking: open the choices one after the other"
    )
    supernets.add_argument(
        "--random-subnetworks",
        type=int,
        default=2,
        metavar="N",
        help="trained per step besides the largest and the smallest (default: 2)",
    )
    supernets.add_argument(
        "--subnetworks",
        type=int,
        default=6,
        metavar="N",
        help="to calibrate for the bundle, from smallest to largest (default: 6); see `search`",
    )
    segmenter = parser.add_argument_group("segmenter")
    segmenter.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="frames of the validation split that are only judged by, evenly taken; the others are "
        "trained on (default: all)",
    )
    once_for_all = parser.add_argument_group("once-for-all network")
    once_for_all.add_argument("--width-multiplier", type=float, default=1.0, help="(default: 1.0)")
    once_for_all.add_argument(
        "--resolutions",
        type=int,
        nargs="+",
        default=[128, 160, 192, 224],
        metavar="PIXELS",
        help="input sizes (default: 128 160 192 224)",
    )
    once_for_all.add_argument(
        "--mirrored",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether mirrored images keep their label; not so for traffic signs or text",
    )
    parser.set_defaults(run_command=run_train)


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """Add the `evaluate` command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure the accuracy of every subnetwork of a bundle",
        description="Measure the accuracy of every subnetwork on the test split: top-1 on DIR/test/<class>/<image>, or "
        "mean IoU on DIR/test/{images,labels}/<frame>.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="data folder, or name of a data set under $DYNAMIC_PERCEPTION_DATA "
        "(default: the first that the bundle was trained on)",
    )
    parser.add_argument("--write", action="store_true", help="write the accuracies into model.yaml")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="write frames with the truth and the answers of the smallest and the largest subnetwork",
    )
    parser.set_defaults(run_command=run_evaluate)


def add_calibrate(commands: argparse._SubParsersAction) -> None:
    """Add the `calibrate` command."""
    parser = commands.add_parser(
        "calibrate",
        help="measure the batch-normalisation statistics of every subnetwork of a bundle anew",
        description="Measure the batch-normalisation statistics of every subnetwork on training images and write them "
        "into the bundle, with the accuracies on the test split. For an imported supernet, or for other data. Int8 "
        "subnetworks are dropped: `quantise` makes them anew.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="data folders, or names of data sets under $DYNAMIC_PERCEPTION_DATA (default: those that the "
        "bundle was trained on)",
    )
    parser.add_argument(
        "--subnetworks",
        type=Path,
        metavar="FILE",
        help="YAML list of the configurations to calibrate, each as `config` in model.yaml; they take the "
        "place of the bundle's subnetworks (default: these)",
    )
    parser.set_defaults(run_command=run_calibrate)


def run_train(arguments: argparse.Namespace) -> int:
    """Train, write the bundle, and evaluate it on the test split."""
    import torch  # only here: every other command starts without it

    from dynamic_perception.training import recipes

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    name = f"{arguments.architecture}_{recipes.dataset_name(arguments.data[0])}"
    out, run = arguments.out or Path("models") / name, arguments.run or Path("runs") / name
    console = Console(stderr=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    train = recipes.train_groups if arguments.architecture == GROUP_CNN else recipes.train_sandwich
    bundle = train(arguments, run, out, console)
    if bundle is not None:
        for data in reversed(arguments.data):  # the first one last: its accuracies are the bundle's
            bundle = measure(bundle, data, write=True)
        console.print(f"wrote {out}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Print the table of accuracies, and write it and pictures if asked to."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    data = arguments.data or data_of(bundle)[0]
    measure(bundle, data, write=arguments.write, pictures=arguments.pictures)
    return 0


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Calibrate, write the bundle, and evaluate it on the test split."""
    bundle = read_bundle(find_bundle(arguments.bundle))
    if bundle.space.shares_statistics:
        raise ValueError(
            f"{bundle.name} is a {bundle.space.family}, whose subnetworks share their statistics: there is "
            "nothing to calibrate"
        )
    data = arguments.data or data_of(bundle)

    import torch  # only here: every other command starts without it

    from dynamic_perception.networks.families import make_supernet
    from dynamic_perception.training import recipes

    task = recipes.prepare_trained(bundle, data)
    network = make_supernet(bundle.space)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    # Int8 subnetworks are left out: their ranges were measured with the statistics that are replaced now.
    configs = {subnetwork.name: subnetwork.config for subnetwork in bundle.of_precision(FLOAT32)}
    if arguments.subnetworks is not None:
        configs = recipes.name_by_macs(bundle.space, read_configs(arguments.subnetworks, bundle.space))
    bundle = recipes.write_calibrated(bundle, network, task, configs)
    for name in reversed(data):  # the first one last: its accuracies are the bundle's
        bundle = measure(bundle, name, write=True)
    return 0


def read_configs(path: Path, space: SearchSpace) -> list[SubnetConfig]:
    """Configurations from a YAML list, in rising multiply-accumulates; ValueError that names file, entry and fault."""
    plain = read_yaml(path)
    if not isinstance(plain, list) or not plain:
        raise ValueError(f"{path} holds {type(plain).__name__}: expected a list of configurations")
    configs = []
    for number, entry in enumerate(plain):
        try:
            configs.append(space.subnet(entry))
        except ValueError as error:
            raise ValueError(f"{path}: entry {number}: {error}") from None
    return sorted(dict.fromkeys(configs), key=space.macs)


def data_of(bundle: ModelBundle) -> list[str]:
    """Names of the data sets that the bundle was trained on, the one it is judged by first; ValueError if unknown."""
    names = trained_on(bundle)
    if not names:
        raise ValueError(f"{bundle.name} does not say what it was trained on: give --data")
    return names


def trained_on(bundle: ModelBundle) -> list[str]:
    """Names of the data sets that the bundle says it was trained on."""
    names = bundle.training.get("data", [])
    return [names] if isinstance(names, str) else list(names)


def measure(bundle: ModelBundle, data: str, write: bool, pictures: Path | None = None) -> ModelBundle:
    """Evaluate, print, and if asked write the result to `model.yaml` and pictures into a folder."""
    tested = evaluation.read_test_data(bundle, data)
    name = data if data == ROAD_SCENE else Path(evaluation.dataset_folder(data)).name
    source = f"measured on the {len(tested.labels)} test images of {name}"
    answers = evaluation.evaluate(bundle, tested)
    accuracies = {key: evaluation.score(bundle, tested, answer) for key, answer in answers.items()}
    measured = evaluation.with_accuracies(bundle, accuracies, source)
    console = Console()
    sources = dict.fromkeys(s.accuracy_source for s in bundle.subnetworks)
    table = Table(title=f"{bundle.name}: {source}", caption=f"in model.yaml: {'; '.join(sources)}")
    for heading in ("subnetwork", "input", "MACs", "parameters", bundle.metric, "in model.yaml"):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right", no_wrap=True)
    for now, before in zip(measured.subnetworks, bundle.subnetworks):
        height, width = now.input_size
        table.add_row(
            now.name,
            f"{width}x{height}",
            f"{now.macs:,}",
            f"{now.parameters:,}",
            f"{now.accuracy:.4f}",
            f"{before.accuracy:.4f}",
        )
    console.print(table)
    if bundle.task == "segmentation":
        console.print(table_of_classes(bundle, tested, answers))
    if pictures is not None:
        from dynamic_perception.report.answers import write_pictures

        console.print(f"wrote {write_pictures(pictures, measured, tested, answers)} pictures to {pictures}")
    if write:
        if name in trained_on(bundle)[1:]:  # not what the bundle is judged by
            also = {key: round(value, 6) for key, value in accuracies.items()}
            measured = replace(bundle, training={**bundle.training, f"{bundle.metric} on {name}": also})
        write_model_file(measured)
    return measured


def table_of_classes(bundle: ModelBundle, tested: evaluation.LabelledFrames, answers: dict) -> Table:
    """Intersection over union per class and subnetwork."""
    table = Table(title="IoU per class")
    table.add_column("class")
    columns = []
    for name, answer in answers.items():
        table.add_column(name, justify="right")
        columns.append(class_ious(evaluation.confusion(bundle, tested, answer)))
    for label, values in zip(bundle.labels, zip(*columns)):
        table.add_row(label, *(f"{value:.3f}" for value in values))
    return table
