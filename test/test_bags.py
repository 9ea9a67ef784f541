"""Bags of every kind are read, whole or damaged, also those of older versions of this package."""

import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from bags import START, BagMaker, make_drive, noise
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from dynamic_perception.replay.bag import Bag
from dynamic_perception.replay.definitions import MSG, definition_text
from dynamic_perception.replay.mcap_file import RawMessage

REPORT = "dynamic_perception/msg/InferenceReport"
FRAMES = 60


def read_all(path: Path) -> tuple[list[RawMessage], list[str]]:
    with Bag(path) as bag:
        return list(bag.raw_messages(list(bag.topics))), bag.lost


def write_mcap(path: Path, maker: BagMaker, finish: bool = True, order=sorted, **options) -> Path:
    """A single file by another library, with other choices than rosbags makes."""
    with path.open("wb") as stream:
        writer = Writer(stream, **options)
        writer.start("ros2")
        channels = {}
        for time, topic, kind, data in order(maker.messages, key=lambda message: message[0]):
            if topic not in channels:
                schema = writer.register_schema(kind, MSG, definition_text(kind).encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], time, data, time)
        if finish:
            writer.finish()
    return path


@pytest.fixture(scope="module")
def drive() -> BagMaker:
    return make_drive(FRAMES)


@pytest.mark.parametrize(
    "write",
    [
        lambda maker, folder: maker.write(folder),
        lambda maker, folder: maker.write_file(folder),
        lambda maker, folder: maker.write(folder, StoragePlugin.SQLITE3),
        lambda maker, folder: maker.write_file(folder, StoragePlugin.SQLITE3),
        lambda maker, folder: maker.write(folder, compression=(CompressionMode.FILE, CompressionFormat.ZSTD)),
        lambda maker, folder: maker.write(
            folder, StoragePlugin.SQLITE3, compression=(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
        ),
        lambda maker, folder: write_mcap(folder.with_suffix(".mcap"), maker),
        lambda maker, folder: write_mcap(folder.with_suffix(".mcap"), maker, compression=CompressionType.LZ4),
        lambda maker, folder: write_mcap(folder.with_suffix(".mcap"), maker, use_chunking=False),
        lambda maker, folder: write_mcap(
            folder.with_suffix(".mcap"), maker, order=lambda messages, key: messages[::-1]
        ),
    ],
    ids=[
        "mcap folder",
        "mcap file",
        "sqlite folder",
        "sqlite file",
        "compressed file",
        "compressed messages",
        "zstd chunks",
        "lz4 chunks",
        "without chunks",
        "written backwards",
    ],
)
def test_every_kind_of_bag_gives_the_same_messages_in_the_order_of_time(drive, tmp_path, write):
    messages, lost = read_all(write(drive, tmp_path / "bag"))
    expected = sorted((time, topic, data) for time, topic, _, data in drive.messages)
    assert sorted((m.time, m.topic, bytes(m.data)) for m in messages) == expected
    assert [m.time for m in messages] == sorted(m.time for m in messages)
    assert lost == []


def test_messages_are_decoded_by_the_definition_in_the_bag(drive, tmp_path):
    with Bag(drive.write_file(tmp_path / "bag")) as bag:
        frame = next(bag.messages(["/image"])).message
        report = next(bag.messages(["/inference_report"])).message
    assert np.array_equal(np.reshape(frame.data, (48, 64, 3)), noise(0)) and frame.encoding == "bgr8"
    assert (report.subnetwork, report.inference_duration) == ("100%", 0.030)


def test_a_bag_that_does_not_exist_or_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no bag at"):
        Bag(tmp_path / "missing.mcap")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match="ends in .mcap or .db3"):
        Bag(tmp_path / "notes.txt")
    for name in ("notes.mcap", "notes.db3"):
        (tmp_path / name).write_text("this is neither an MCAP file nor a database" * 100)
        with pytest.raises(ValueError, match="is no "):
            Bag(tmp_path / name)


# Damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_of_a_truncated_mcap_file_every_whole_chunk_is_read_and_the_loss_is_stated(drive, tmp_path, share):
    path = write_mcap(tmp_path / "bag.mcap", drive, chunk_size=2**14)
    whole, _ = read_all(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    messages, lost = read_all(path)
    assert messages == whole[: len(messages)]
    assert len(messages) >= share * len(whole) - 6  # a chunk holds two frames and what is between them
    assert len(lost) == 1 and "was not closed or is damaged" in lost[0]


def test_a_file_without_the_end_of_its_index_has_lost_nothing(drive, tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", drive)
    path.write_bytes(path.read_bytes()[:-20])
    messages, lost = read_all(path)
    assert len(messages) == len(drive.messages) and not lost


def test_a_file_that_was_never_closed_gives_all_but_its_last_chunk(drive, tmp_path):
    messages, lost = read_all(write_mcap(tmp_path / "bag.mcap", drive, finish=False, chunk_size=2**14))
    assert len(drive.messages) - 6 <= len(messages) < len(drive.messages) and lost


def test_a_damaged_chunk_costs_only_itself(drive, tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", drive, compression=CompressionType.NONE, chunk_size=2**14)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit of a frame
    path.write_bytes(content)
    messages, lost = read_all(path)
    assert len(drive.messages) - 6 <= len(messages) < len(drive.messages)
    assert len(lost) == 1 and "chunk at byte" in lost[0] and "lost" in lost[0]


def test_damage_in_the_index_is_walked_around(drive, tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", drive)
    content = bytearray(path.read_bytes())
    content[-200:-60] = bytes(140)
    path.write_bytes(content)
    messages, _ = read_all(path)
    assert len(messages) == len(drive.messages)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_of_a_truncated_database_what_can_be_reached_is_read_and_the_loss_is_stated(drive, tmp_path, share):
    path = drive.write_file(tmp_path / "bag", StoragePlugin.SQLITE3)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    messages, lost = read_all(path)
    assert 0.5 * share * len(drive.messages) < len(messages) < len(drive.messages)
    assert lost and "cannot be read" in lost[0]


def test_a_folder_whose_recording_did_not_end_is_read_and_said_to_be_so(drive, tmp_path):
    folder = drive.write(tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    messages, lost = read_all(folder)
    assert len(messages) == len(drive.messages)
    assert len(lost) == 1 and "did not end properly" in lost[0]


def test_a_folder_with_damaged_metadata_is_read_by_its_files(drive, tmp_path):
    folder = drive.write(tmp_path / "bag")
    (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    messages, lost = read_all(folder)
    assert len(messages) == len(drive.messages)
    assert len(lost) == 1 and "metadata.yaml is damaged" in lost[0]


def test_a_message_that_does_not_fit_its_definition_is_counted_and_left_out(drive, tmp_path):
    maker = make_drive(3)
    time, topic, kind, data = next(message for message in maker.messages if message[2] == REPORT)
    maker.messages.append((time + 1, topic, kind, data[:20]))
    with Bag(write_mcap(tmp_path / "bag.mcap", maker)) as bag:
        assert len(list(bag.messages([topic]))) == 3
        assert list(bag.refused.values()) == [1] and REPORT in next(iter(bag.refused))


# Other versions of this package ------------------------------------------------------------------------------------


def without(name: str, *fields: str) -> dict[str, str]:
    """The definition of a message before it had these fields."""
    text = definition_text(f"dynamic_perception/msg/{name}").split("=" * 80)[0]
    return {name: "\n".join(line for line in text.splitlines() if not any(f" {field} " in line for field in fields))}


def test_fields_that_an_older_version_did_not_have_are_not_known(tmp_path):
    maker = make_drive(3, changed=without("InferenceReport", "energy", "skipped_frames"))
    with Bag(maker.write_file(tmp_path / "bag")) as bag:
        report = next(bag.messages(["/inference_report"])).message
        new = bag.decoder("/inference_report").new_fields
    assert new == ["InferenceReport.energy", "InferenceReport.skipped_frames"]
    assert report.inference_duration == 0.030 and math.isnan(report.energy) and report.skipped_frames == 0


def test_fields_that_this_version_does_not_know_are_left_out(tmp_path):
    definition = definition_text("dynamic_perception/msg/OperatingPoint").replace(
        "string compute_element", "string accelerator\nstring compute_element"
    )
    maker = BagMaker({"OperatingPoint": definition})
    maker.add_command(0.0, 1, "50%", "cpu:2")
    with Bag(maker.write_file(tmp_path / "bag")) as bag:
        command = next(bag.messages(["/operating_point/command"])).message
    assert (command.operating_point.subnetwork, command.operating_point.compute_element) == ("50%", "cpu:2")
    assert not hasattr(command.operating_point, "accelerator")


def test_a_bag_without_a_field_that_is_needed_is_refused_with_what_to_do(tmp_path):
    maker = make_drive(3, changed=without("InferenceReport", "inference_duration"))
    expected = pytest.raises(
        ValueError, match="no field inference_duration.*replay it with the version of this package"
    )
    with Bag(maker.write_file(tmp_path / "bag")) as bag, expected:
        bag.decoder("/inference_report")


def test_a_field_of_another_kind_is_refused(tmp_path):
    definition = definition_text("dynamic_perception/msg/OperatingPoint").replace("string sub", "int32 sub")
    maker = BagMaker({"OperatingPoint": definition})
    maker.add(0.0, "/operating_point/command", maker.new("dynamic_perception/msg/OperatingPointCommand"))
    expected = pytest.raises(ValueError, match="subnetwork of the bag's .* is int32: expected string")
    with Bag(maker.write_file(tmp_path / "bag")) as bag, expected:
        bag.decoder("/operating_point/command")


def as_humble(path: Path) -> Path:
    """Take the message definitions out of a database: Humble wrote none."""
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("DROP TABLE IF EXISTS schema")
    return path


def test_a_humble_database_without_definitions_is_read_by_those_of_today(tmp_path):
    path = as_humble(make_drive(3).write_file(tmp_path / "bag", StoragePlugin.SQLITE3))
    with Bag(path) as bag:
        durations = [m.message.inference_duration for m in bag.messages(["/inference_report"])]
    assert durations == pytest.approx([0.0300, 0.0301, 0.0302], rel=1e-12)


def test_a_humble_database_of_another_version_is_refused_with_what_to_do(tmp_path):
    maker = make_drive(3, changed=without("InferenceReport", "inference_duration", "energy"))
    with Bag(as_humble(maker.write_file(tmp_path / "bag", StoragePlugin.SQLITE3))) as bag:
        assert list(bag.messages(["/inference_report"])) == []
        assert "ros2 bag convert" in next(iter(bag.refused)) and list(bag.refused.values()) == [3]


def test_an_older_message_can_be_serialised_as_that_of_today(tmp_path):
    maker = make_drive(1, changed=without("InferenceReport", "energy"))
    today = BagMaker()
    with Bag(maker.write_file(tmp_path / "bag")) as bag:
        raw = next(bag.raw_messages(["/inference_report"]))
        report = today.store.deserialize_cdr(bag.decoder("/inference_report").to_current(raw.data), REPORT)
    assert report.inference_duration == 0.030 and math.isnan(report.energy)
    assert raw.time == START + 12_000_000
