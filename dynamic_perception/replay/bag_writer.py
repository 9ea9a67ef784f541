"""Writing a bag: a thread of its own writes what a bounded queue holds, so that whoever offers messages never waits.

The bag is one MCAP file with definitions, index and checksums, which `ros2 bag`, Foxglove and PlotJuggler read as it
is.  It is written in place, not under a temporary name: what a killed recorder leaves is readable up to its last chunk.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, NamedTuple

from mcap.writer import CompressionType, Writer

from dynamic_perception.replay.definitions import MSG, definition_text

QUEUE_BYTES = 256 * 2**20  # [byte] nine seconds of 640x480 colour frames at 30 Hz
CHUNK_BYTES = 2**20
CHUNK_PERIOD = 1.0  # [s] a chunk is closed after, so that a killed recorder loses no more
COMPRESSIONS = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
PROFILE = "ros2"


class _Topic(NamedTuple):
    name: str
    msgtype: str
    definition: str
    metadata: dict[str, str]


class _Message(NamedTuple):
    topic: str
    received: int  # [ns]
    published: int  # [ns]
    data: bytes


class BagWriter:
    """Writes one bag; `add_topic`, `offer` and `close` belong to one thread.

    Args:
        path: of the file, which must not exist.
        compression: one of `COMPRESSIONS`; frames that are not compressed already take more CPU time than disk.
        queue_bytes: [byte] that may wait; what comes on top is dropped.

    Attributes:
        written: messages per topic that are in the file.
        dropped: messages per topic for which there was no room.
        failure: why nothing can be written any more, for example a full disk; empty while it can.

    Raises:
        ValueError: there is a file already.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, compression: str = "none", queue_bytes: int = QUEUE_BYTES):
        try:
            self._file = path.open("xb")
        except FileExistsError:
            raise ValueError(f"{path} exists already: a recording never replaces another one") from None
        self._writer = Writer(self._file, CHUNK_BYTES, COMPRESSIONS[compression])
        self._writer.start(PROFILE, "dynamic_perception")
        self._file.flush()
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failure = ""
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()  # guards the three fields below
        self._queue: deque[_Topic | _Message] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._channels: dict[str, int] = {}
        self._thread = threading.Thread(target=self._work, name="bag-writer")
        self._thread.start()

    def add_topic(self, name: str, msgtype: str, qos: str, type_hash: str) -> None:
        """Announce a topic before its first message.

        Args:
            name: of the topic.
            msgtype: "<package>/msg/<Name>".
            qos: offered profiles as YAML, as `ros2 bag` writes them.
            type_hash: of the message type, as text.

        Raises:
            DefinitionRefused: no definition of the type is installed.
        """
        metadata = {"offered_qos_profiles": qos, "topic_type_hash": type_hash}
        self._put(_Topic(name, msgtype, definition_text(msgtype), metadata), 0)

    def offer(self, topic: str, received: int, published: int, data: bytes) -> bool:
        """Queue a serialised message with its times [ns]; False, and counted, if there is no room for it."""
        if self._waiting_bytes + len(data) > self._queue_bytes or self.failure:
            self.dropped[topic] += 1
            return False
        self._put(_Message(topic, received, published, data), len(data))
        return True

    def close(self) -> None:
        """Write what waits and the index, and close the file; `failure` says if that did not work."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        try:
            if not self.failure:
                self._writer.finish()
            self._file.close()
        except OSError as error:
            self.failure = str(error)

    def _put(self, entry: _Topic | _Message, size: int) -> None:
        with self._changed:
            self._queue.append(entry)
            self._waiting_bytes += size
            self._changed.notify()

    def _work(self) -> None:
        chunk_end = time.monotonic() + CHUNK_PERIOD
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing, max(0.0, chunk_end - time.monotonic()))
                entry = self._queue.popleft() if self._queue else None
                if entry is None and self._closing:
                    return
            try:
                if entry is not None:
                    self._write(entry)
                if time.monotonic() >= chunk_end:
                    self._writer.flush()
                    chunk_end = time.monotonic() + CHUNK_PERIOD
            except OSError as error:
                self.failure = str(error)
                return

    def _write(self, entry: Any) -> None:
        if isinstance(entry, _Topic):
            schema = self._writer.register_schema(entry.msgtype, MSG, entry.definition.encode())
            self._channels[entry.name] = self._writer.register_channel(entry.name, "cdr", schema, entry.metadata)
            return
        self._writer.add_message(self._channels[entry.topic], entry.received, entry.data, entry.published)
        self.written[entry.topic] += 1
        with self._changed:
            self._waiting_bytes -= len(entry.data)
