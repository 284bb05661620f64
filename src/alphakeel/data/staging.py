"""What a fetch has brought so far: a log beside the store, whole to the last record.

Every answer is appended the moment it has passed the checks. A killed fetch goes on behind the
last whole record; a torn one is cut off.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from alphakeel.data.store import TABLES, table_of

__all__ = ["Staging"]

FOLDER = ".fetch"


class Staging:
    """Answers of one request, kept until they are committed to the store.

    Parameters
    ----------
    store : Path
        Folder of the store.
    request : mapping
        What is asked for; a different request has a log of its own.
    fresh : bool
        Forget what an earlier fetch has left.
    """

    def __init__(self, store: Path, request: Mapping[str, Any], *, fresh: bool = False) -> None:
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
        self._file = store / FOLDER / f"{key}.log"
        if fresh:
            self.discard()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, str] = {}  # item: what became of it
        whole = 0  # bytes
        for header, _, end in self._records():
            self.done[header["item"]] = header["outcome"]
            whole = end
        with self._file.open("ab") as log:
            log.truncate(whole)

    def add(self, item: str, tables: Mapping[str, pd.DataFrame], outcome: str = "ok") -> None:
        """Keep the tables of one answer."""
        packed = {
            name: _packed(table_of(frame, name, where=item)) for name, frame in tables.items()
        }
        blocks = [{"table": name, "bytes": len(data)} for name, data in packed.items()]
        body = b"".join(packed.values())
        header = {"item": item, "outcome": outcome, "blocks": blocks, "crc": zlib.crc32(body)}
        with self._file.open("ab") as log:
            log.write(json.dumps(header).encode() + b"\n" + body)
        self.done[item] = outcome

    def tables(self) -> dict[str, pa.Table]:
        """Everything kept, by table; of two answers for one item the later counts."""
        latest: dict[str, tuple[dict[str, Any], bytes]] = {}
        for header, body, _ in self._records():
            latest[header["item"]] = header, body
        pieces: dict[str, list[pa.Table]] = {}
        for header, body in latest.values():
            at = 0
            for block in header["blocks"]:
                data = body[at : at + block["bytes"]]
                at += block["bytes"]
                pieces.setdefault(block["table"], []).append(_unpacked(data))
        return {name: pa.concat_tables(pieces[name]) for name in TABLES if name in pieces}

    def discard(self) -> None:
        """Forget everything, once it is in the store."""
        self._file.unlink(missing_ok=True)
        folder = self._file.parent
        if folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder)

    def _records(self) -> Iterator[tuple[dict[str, Any], bytes, int]]:
        """Header, body and end of each whole record, in order."""
        if not self._file.exists():
            return
        with self._file.open("rb") as log:
            while line := log.readline():
                try:
                    header = json.loads(line)
                    body = log.read(sum(block["bytes"] for block in header["blocks"]))
                    whole = line.endswith(b"\n") and zlib.crc32(body) == header["crc"]
                except (ValueError, KeyError, TypeError):
                    return
                if not whole:
                    return
                yield header, body, log.tell()


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpacked(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
