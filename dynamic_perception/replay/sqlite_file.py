"""Reading one SQLite file of a bag (.db3), whole or damaged: every message that can be read is used.

Tables as `rosbag2_storage_sqlite3` writes them, since Humble; message definitions are in them since Iron.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from dynamic_perception.replay.mcap_file import RawMessage, Stored


class SqliteFile:
    """An open file; the attributes are those of `McapFile`.

    Raises:
        ValueError: nothing of it can be read.
    """

    def __init__(self, path: Path):
        self._path = path
        self.lost: list[str] = []
        # The index is read by one thread and the messages by another, one after the other.
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        try:
            # Or a file that is shorter than it says would not be read at all.  It is open for reading only.
            self._database.execute("PRAGMA writable_schema = ON")
            self.topics = self._read_topics()
        except sqlite3.Error as error:
            self.close()
            raise ValueError(f"{path} is no SQLite bag, or is damaged where its topics are: {error}") from None
        self._index = sorted(self._read_index())
        self.counts = dict.fromkeys(self.topics, 0)
        for _, _, topic in self._index:
            self.counts[topic] += 1
        self.start = self._index[0][0] if self._index else 0
        self.end = self._index[-1][0] if self._index else 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Messages of these topics in the order of their times; where times are alike, of their places in the file."""
        unread = 0
        for time, row, topic in self._index:
            if topic in topics:
                try:
                    ((data,),) = self._database.execute("SELECT data FROM messages WHERE id = ?", (row,))
                except (sqlite3.Error, ValueError):
                    unread += 1
                    continue
                yield RawMessage(time, topic, data)
        if unread:
            self._lose(f"{unread} messages cannot be read: the database is damaged")

    def _read_topics(self) -> dict[str, Stored]:
        definitions = {}
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise sqlite3.DatabaseError("it has no tables 'topics' and 'messages'")
        if "message_definitions" in tables:
            definitions = {
                name: (encoding, text)
                for name, encoding, text in self._database.execute(
                    "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
                )
            }
        self._names = dict(self._database.execute("SELECT id, name FROM topics"))
        return {
            name: Stored(name, kind, *definitions.get(kind, ("", "")), qos if isinstance(qos, str) else "")
            for name, kind, qos in self._database.execute("SELECT name, type, offered_qos_profiles FROM topics")
        }

    def _read_index(self) -> Iterator[tuple[int, int, str]]:
        """(time [ns], row, topic) of every message that can be reached."""
        damaged = 0
        try:
            for row, topic, time in self._database.execute("SELECT id, topic_id, timestamp FROM messages ORDER BY id"):
                if topic in self._names and isinstance(time, int):
                    yield time, row, self._names[topic]
                else:  # pages that are not there any more read as zeros
                    damaged += 1
        except sqlite3.Error as error:
            self._lose(f"what follows the damage cannot be read: {error}")
        if damaged:
            self._lose(f"{damaged} messages cannot be read: their rows are damaged")

    def _lose(self, text: str) -> None:
        self.lost.append(f"{self._path.name}: {text}")
