"""Reading one MCAP file, whole or damaged: every chunk that is complete and whose checksum is right is used.

The index at the file's end is used where there is one, so that a damaged chunk costs only itself.  Without one (the
recorder was killed, the disk was full) the file is walked from its beginning to where it breaks off.
Format: https://mcap.dev/spec
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Footer, Message, Schema, Statistics
from mcap.stream_reader import breakup_chunk

MAGIC = b"\x89MCAP0\r\n"
PREFIX = struct.Struct("<BQ")  # opcode and length of every record
FOOTER_SIZE = PREFIX.size + 20 + len(MAGIC)
KNOWN_OPCODES = frozenset(int(opcode) for opcode in Opcode)
PRIVATE_OPCODES = 0x80  # and above: of others, to be skipped


class RawMessage(NamedTuple):
    """A message as it lies in a bag."""

    time: int  # [ns] when it was recorded
    topic: str
    data: bytes  # serialised


class Stored(NamedTuple):
    """A topic of a bag file."""

    name: str
    msgtype: str
    encoding: str  # of the definition: ros2msg, ros2idl, or empty
    definition: str
    qos: str  # the offered profiles as YAML; may be empty


class _Piece(NamedTuple):
    """A chunk, or a message outside of chunks, in the file."""

    start: int  # [ns] of its first message
    offset: int
    length: int  # of the record, prefix included
    end: int  # [ns] of its last message


class McapFile:
    """An open file.

    Attributes:
        topics: by name.
        counts: messages per topic; empty where the file does not say.
        start, end: [ns] time of the first and the last message; 0 where there is none.
        lost: what cannot be read, in sentences; grows while messages are read.

    Raises:
        ValueError: nothing of it can be read.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self.topics: dict[str, Stored] = {}
        self.counts: dict[str, int] = {}
        self.lost: list[str] = []
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._pieces: list[_Piece] = []
        self._counts: dict[int, int] = {}
        self._size = path.stat().st_size
        if self._file.read(len(MAGIC)) != MAGIC:
            self.close()
            raise ValueError(f"{path} is no MCAP file: expected it to begin with {MAGIC!r}")
        if not self._read_summary():
            self._walk()
        self._pieces.sort()
        self.start = min((piece.start for piece in self._pieces), default=0)
        self.end = max((piece.end for piece in self._pieces), default=0)
        for channel in self._channels.values():
            schema = self._schemas.get(channel.schema_id)
            if schema is not None:
                self.topics[channel.topic] = Stored(
                    channel.topic,
                    schema.name,
                    schema.encoding,
                    schema.data.decode(),
                    channel.metadata.get("offered_qos_profiles", ""),
                )
                self.counts[channel.topic] = self.counts.get(channel.topic, 0) + self._counts.get(channel.id, 0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Messages of these topics in the order of their times; where times are alike, of their places in the file."""
        wanted = {channel.id for channel in self._channels.values() if channel.topic in topics}
        waiting: list[tuple[int, int, int, int, bytes]] = []  # (time, offset of the piece, place in it, channel, data)
        for piece in self._pieces:
            while waiting and waiting[0] < (piece.start, piece.offset):
                yield self._pop(waiting)
            for place, message in enumerate(self._try_piece(piece)):
                if message.channel_id in wanted:
                    heapq.heappush(waiting, (message.log_time, piece.offset, place, message.channel_id, message.data))
        while waiting:
            yield self._pop(waiting)

    def _pop(self, waiting: list[tuple[int, int, int, int, bytes]]) -> RawMessage:
        time, _, _, channel, data = heapq.heappop(waiting)
        return RawMessage(time, self._channels[channel].topic, data)

    def _try_piece(self, piece: _Piece) -> list[Message]:
        try:
            return self._read_piece(piece)
        except Exception as error:  # a damaged chunk may fail in any layer: compression, checksum, records
            self._lose(
                f"a chunk at byte {piece.offset} cannot be read ({error or type(error).__name__}): up to "
                f"{1e-9 * (piece.end - piece.start):.3f} s of messages are lost"
            )
            return []

    def _read_piece(self, piece: _Piece) -> list[Message]:
        self._file.seek(piece.offset)
        record = self._file.read(piece.length)
        if len(record) < piece.length:
            raise ValueError("the file ends inside it")
        stream, length = ReadDataStream(BytesIO(memoryview(record)[PREFIX.size :])), piece.length - PREFIX.size
        if record[0] == Opcode.MESSAGE:
            return [Message.read(stream, length)]
        messages = []
        for entry in breakup_chunk(Chunk.read(stream), validate_crc=True):
            self._learn(entry)
            if isinstance(entry, Message):
                messages.append(entry)
        return messages

    def _learn(self, record: object) -> None:
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, Channel):
            self._channels[record.id] = record

    def _lose(self, text: str) -> None:
        self.lost.append(f"{self._path.name}: {text}")

    # With an index -----------------------------------------------------------------------------------------------

    def _read_summary(self) -> bool:
        """Learn everything from the end of the file; False, and nothing learnt, if it is not there or not complete."""
        try:
            self._file.seek(-FOOTER_SIZE, 2)
            end = self._file.read()
            if end[-len(MAGIC) :] != MAGIC or end[0] != Opcode.FOOTER:
                return False
            footer = Footer.read(ReadDataStream(BytesIO(end[PREFIX.size :])))
            if not footer.summary_start:
                return False
            self._file.seek(footer.summary_start)
            self._read_summary_records(BytesIO(self._file.read(self._size - FOOTER_SIZE - footer.summary_start)))
        except Exception:  # whatever is wrong with it: the file is walked instead
            self._forget()
            return False
        if self._channels and self._pieces:
            return True
        self._forget()
        return False

    def _read_summary_records(self, records: BytesIO) -> None:
        readers = {
            Opcode.SCHEMA: Schema,
            Opcode.CHANNEL: Channel,
            Opcode.CHUNK_INDEX: ChunkIndex,
            Opcode.STATISTICS: Statistics,
        }
        while prefix := records.read(PREFIX.size):
            opcode, length = PREFIX.unpack(prefix)
            body = records.read(length)
            if opcode not in readers:
                continue
            record = readers[opcode].read(ReadDataStream(BytesIO(body)))
            self._learn(record)
            if isinstance(record, ChunkIndex):
                self._pieces.append(
                    _Piece(
                        record.message_start_time,
                        record.chunk_start_offset,
                        record.chunk_length,
                        record.message_end_time,
                    )
                )
            elif isinstance(record, Statistics):
                self._counts = dict(record.channel_message_counts)

    def _forget(self) -> None:
        self._schemas, self._channels, self._pieces, self._counts = {}, {}, [], {}

    # Without one -------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        offset, finished = len(MAGIC), False
        while not finished:
            self._file.seek(offset)
            prefix = self._file.read(PREFIX.size)
            opcode, length = PREFIX.unpack(prefix) if len(prefix) == PREFIX.size else (0, 0)
            following = offset + PREFIX.size + length
            if (opcode not in KNOWN_OPCODES and opcode < PRIVATE_OPCODES) or following > self._size:
                self._lose(
                    f"it was not closed or is damaged: {self._size - offset} of {self._size} bytes, from byte "
                    f"{offset} on, cannot be read"
                )
                return
            try:
                finished = self._walk_over(opcode, offset, length)
            except Exception as error:  # as above
                self._lose(f"the record at byte {offset} cannot be read ({error or type(error).__name__})")
            offset = following

    def _walk_over(self, opcode: int, offset: int, length: int) -> bool:
        """Learn what a record says; whether it is the last one."""
        if opcode == Opcode.CHUNK:
            start, end = struct.unpack("<QQ", self._file.read(16))
            piece = _Piece(start, offset, PREFIX.size + length, end)
            for message in self._read_piece(piece):  # the channels are in there
                self._counts[message.channel_id] = self._counts.get(message.channel_id, 0) + 1
            self._pieces.append(piece)
        elif opcode == Opcode.MESSAGE:
            channel, _, time = struct.unpack("<HIQ", self._file.read(14))
            self._counts[channel] = self._counts.get(channel, 0) + 1
            self._pieces.append(_Piece(time, offset, PREFIX.size + length, time))
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            reader = Schema if opcode == Opcode.SCHEMA else Channel
            self._learn(reader.read(ReadDataStream(self._file)))
        return opcode in (Opcode.DATA_END, Opcode.FOOTER)
