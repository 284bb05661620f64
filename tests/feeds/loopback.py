"""Servers on this machine that speak the services' protocols, with faults at will."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

END = b"<![CDATA[]]>\n"
COMPRESSED = {"96", "99"}


@dataclass
class Answer:
    """What an HTTP server sends, and how it misbehaves on the way."""

    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None  # bytes of the body after which the line is cut
    hang: float = 0.0  # seconds before the first byte
    drip: float = 0.0  # seconds between two bytes


class HttpServer:
    """`answer` maps a path to an `Answer`; `fault` may change it."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.answer, self.fault = answer, None
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                answer = outer.answer(self.path)
                if outer.fault is not None:
                    answer = outer.fault(self.path, answer)
                with contextlib.suppress(OSError):
                    outer._send(self, answer)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        time.sleep(answer.hang)
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", answer.kind)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        body = answer.body if answer.cut_at is None else answer.body[: answer.cut_at]
        if answer.drip:
            for byte in body:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(answer.drip)
        else:
            handler.wfile.write(body)
        if answer.cut_at is not None:
            handler.wfile.flush()
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Rows = list[list[str]]


@dataclass
class Reply:
    """What the socket server sends, and how it misbehaves on the way."""

    columns: list[str]
    rows: Rows
    code: str = "0"
    text: str = "success"
    raw: bytes | None = None  # in place of a reply
    cut_at: int | None = None
    hang: float = 0.0


class BaostockServer:
    """The protocol of baostock's client 0.9: \\1 between fields, zlib for bars, pages of 2000."""

    # Fields of a reply between the rows and the names of the columns.
    _ECHOED: ClassVar[dict[str, int]] = {
        "query_history_k_data_plus": 1,
        "query_hs300_stocks": 1,
        "query_sz50_stocks": 1,
        "query_zz500_stocks": 1,
        "query_stock_industry": 2,
        "query_trade_dates": 2,
        "query_stock_basic": 2,
        "query_profit_data": 3,
        "query_balance_data": 3,
    }

    def __init__(self, answer: Callable[[str, list[str]], Reply]) -> None:
        self.answer, self.fault = answer, None
        self.requests: list[tuple[str, list[str]]] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    for line in self.rfile:
                        if not outer._reply(self, line):
                            return

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _reply(self, handler: Any, line: bytes) -> bool:
        """Answer one request; False: hang up."""
        text = line.decode().rstrip("\n")
        head, body = text[:21], text[21:]
        _, kind, length = head.split("\1")
        content, _, crc = body.rpartition("\1")
        assert int(length) == len(content)
        assert int(crc) == zlib.crc32((head + content).encode())
        method, *arguments = content.split("\1")
        self.requests.append((method, arguments))
        answer_kind = f"{int(kind) + 1:02d}"
        own = method in ("login", "logout")
        reply = Reply([], []) if own else self.answer(method, arguments)
        if self.fault is not None:
            reply = self.fault(method, arguments, reply)
        time.sleep(reply.hang)
        data = self._packed(answer_kind, method, arguments, reply)
        if reply.cut_at is not None:
            handler.wfile.write(data[: reply.cut_at])
            return False
        handler.wfile.write(data)
        return True

    def _packed(self, kind: str, method: str, arguments: list[str], reply: Reply) -> bytes:
        if reply.raw is not None:
            return reply.raw
        if reply.code != "0":
            content = "\1".join([reply.code, reply.text])
        elif method in ("login", "logout"):
            content = "\1".join(["0", "success", method, "anonymous"])
        elif method == "query_daily_history_k_AStock":  # whole, without pages
            record = json.dumps({"record": reply.rows})
            content = "\1".join(["0", "success", method, "anonymous", record,
                                 ",".join(reply.columns)])  # fmt: skip
        else:
            page, per_page = int(arguments[1]), int(arguments[2])
            rows = reply.rows[(page - 1) * per_page : page * per_page]
            echoed = [""] * self._ECHOED[method]
            head = ["0", "success", method, "anonymous", str(page), str(per_page)]
            record = json.dumps({"record": rows})
            content = "\1".join([*head, record, *echoed, ", ".join(reply.columns), *[""] * 4])
        if kind in COMPRESSED:
            packed = zlib.compress((content + "\n").encode())
            return f"00.9.40\1{kind}\1{len(packed):010d}".encode() + packed + END
        tail = "\1"
        return f"00.9.40\1{kind}\1{len(content):010d}".encode() + (content + tail).encode() + END

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(server: Any) -> Iterator[Any]:
    try:
        yield server
    finally:
        server.close()


def first_times(count: int, fault: Callable[..., Any], match: Callable[..., bool]) -> Callable:
    """A fault that strikes so many times, where it applies, and never again."""
    left = [count]

    def once(*arguments: Any) -> Any:
        if match(*arguments[:-1]) and left[0] > 0:
            left[0] -= 1
            return fault(*arguments)
        return arguments[-1]

    return once


def always(fault: Callable[..., Any], match: Callable[..., bool]) -> Callable:
    """A fault that strikes wherever it applies."""

    def each(*arguments: Any) -> Any:
        return fault(*arguments) if match(*arguments[:-1]) else arguments[-1]

    return each


def columns_and_rows(table: Sequence[dict[str, str]]) -> Reply:
    names = list(table[0]) if table else []
    return Reply(names, [[row[name] for name in names] for row in table])
