"""A bag of any kind: a single .mcap or .db3 file, or the folder that `ros2 bag record` writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.rosbag2 import Reader, ReaderError

from dynamic_perception.documents import read_yaml
from dynamic_perception.replay.definitions import Decoder
from dynamic_perception.replay.mcap_file import McapFile, RawMessage, Stored
from dynamic_perception.replay.sqlite_file import SqliteFile

FILES = {".mcap": McapFile, ".db3": SqliteFile}
METADATA = "metadata.yaml"


class Message(NamedTuple):
    """A decoded message of a bag."""

    time: int  # [ns] when it was recorded
    topic: str
    message: Any  # with the fields of the ROS message


class Bag:
    """An open bag, to be used in a `with` statement.

    Attributes:
        path: of the bag.
        topics: by name.
        counts: messages per topic; 0 also where the bag does not say.
        start, end: [ns] time of the first and the last message.
        lost: what cannot be read, in sentences; empty for a whole bag, and complete only when all was read.
        refused: "<topic>: <why>" -> messages that could not be decoded.

    Raises:
        ValueError: it is no bag, or nothing of it can be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.refused: dict[str, int] = {}
        self._own_lost: list[str] = []
        self._parts = self._open_parts()
        self._decoders: dict[str, Decoder] = {}
        self.topics: dict[str, Stored] = {}
        self.counts: dict[str, int] = {}
        for part in self._parts:
            self.topics = part.topics | self.topics
            for topic, count in part.counts.items():
                self.counts[topic] = self.counts.get(topic, 0) + count
        holding = [part for part in self._parts if part.end]
        if not holding:
            self.close()
            raise ValueError("; ".join([f"{path} holds no message that can be read", *self.lost]))
        self.start = min(part.start for part in holding)
        self.end = max(part.end for part in holding)

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its files."""
        for part in self._parts:
            part.close()

    @property
    def lost(self) -> list[str]:
        return self._own_lost + [text for part in self._parts for text in part.lost]

    def decoder(self, topic: str) -> Decoder:
        """Of a topic's messages; DefinitionRefused, a ValueError, if they cannot be decoded."""
        if topic not in self._decoders:
            stored = self.topics[topic]
            self._decoders[topic] = Decoder(stored.msgtype, stored.encoding, stored.definition)
        return self._decoders[topic]

    def raw_messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Serialised messages of these topics, in the order of their times."""
        for part in self._parts:
            yield from part.messages(topics)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Decoded messages of these topics, in the order of their times; those that are damaged are counted."""
        decoders = {topic: self.decoder(topic) for topic in topics}
        for time, topic, data in self.raw_messages(topics):
            try:
                yield Message(time, topic, decoders[topic].decode(data))
            except ValueError as error:
                text = f"{topic}: {error}"
                self.refused[text] = self.refused.get(text, 0) + 1

    def _open_parts(self) -> list[Any]:
        if not self.path.exists():
            raise ValueError(f"there is no bag at {self.path}")
        if not self.path.is_dir():
            return [self._open_file(self.path)]
        information = self._read_metadata()
        if information.get("compression_format"):
            return [CompressedBag(self.path)]
        files = [self.path / Path(name).name for name in information.get("relative_file_paths") or ()] or sorted(
            file for ending in FILES for file in self.path.glob(f"*{ending}")
        )
        parts = []
        for file in files:
            try:
                parts.append(self._open_file(file))
            except (ValueError, OSError) as error:
                self._own_lost.append(f"{file.name}: {error}")
        if not parts:
            raise ValueError("; ".join([f"{self.path} holds no .mcap or .db3 file that can be read", *self._own_lost]))
        return sorted(parts, key=lambda part: part.start)

    def _open_file(self, file: Path) -> Any:
        if file.suffix not in FILES:
            raise ValueError(f"{file} is no bag: expected a folder, or a file that ends in {' or '.join(FILES)}")
        return FILES[file.suffix](file)

    def _read_metadata(self) -> dict[str, Any]:
        """What the folder says of itself; nothing, and a loss is stated, if it does not."""
        try:
            return dict(read_yaml(self.path / METADATA)["rosbag2_bagfile_information"])
        except FileNotFoundError:
            self._own_lost.append(f"{self.path.name} has no {METADATA}: its recording did not end properly")
        except (KeyError, TypeError, ValueError) as error:
            self._own_lost.append(f"{METADATA} is damaged ({error}): all files of the folder are read")
        return {}


class CompressedBag:
    """A folder whose files or messages `ros2 bag` compressed; the attributes are those of `McapFile`."""

    def __init__(self, path: Path):
        self._path = path
        self._reader = Reader(path)
        try:
            self._reader.open()
        except ReaderError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        self.lost: list[str] = []
        connections = self._reader.connections
        self.topics = {
            c.topic: Stored(
                c.topic, c.msgtype, {1: "ros2msg", 2: "ros2idl"}.get(c.msgdef.format.value, ""), c.msgdef.data, ""
            )
            for c in connections
        }
        self.counts = {c.topic: c.msgcount for c in connections}
        self.start, self.end = self._reader.start_time, self._reader.end_time - 1

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Messages of these topics in the order of their times."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        try:
            for connection, time, data in self._reader.messages(connections):
                yield RawMessage(time, connection.topic, data)
        except Exception as error:  # a damaged file may fail in any layer
            self.lost.append(f"{self._path.name}: what follows the damage cannot be read: {error}")
