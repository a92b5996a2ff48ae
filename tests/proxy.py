"""A proxy that stands before a server and disturbs it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class FaultyProxy:
    """Stands between a server and its clients, and disturbs the connections that are made while a fault is set.

    :param port: of the server.

    ``fault`` is None, or what happens to a connection when ``after_bytes`` have come from the client:
    ``cut`` closes it, ``hang`` passes nothing on any more, ``busy`` answers 503. ``faults_left`` limits how often.
    ``requests`` has the first line of each HTTP request. While ``network`` is not set nothing passes, either way;
    ``reached`` is set once a client has connected all the same.
    """

    def __init__(self, port: int) -> None:
        self.fault: str | None = None
        self.after_bytes = 0
        self.faults_left = 10**9
        self.faults = 0
        self.requests: list[str] = []
        self.network = threading.Event()
        self.network.set()
        self.reached = threading.Event()
        self._server_port = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def cut(self) -> None:
        """End all connections that are open."""
        while self._open:
            self._end(self._open.pop())

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.reached.set()
                self.network.wait()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except ConnectionRefusedError:
                    # The server is dead at the moment.
                    self._end(client)
                    continue
                self._open += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client sends, up to the fault."""
        passed = 0
        with suppress(OSError):
            while data := client.recv(65536):
                passed += len(data)
                if data.startswith((b"GET ", b"PUT ", b"HEAD ", b"DELETE ")):
                    self.requests.append(data.split(b"\r\n", 1)[0].decode())
                if self.fault and passed > self.after_bytes and self.faults_left > 0:
                    self.faults_left -= 1
                    self.faults += 1
                    self._break(client, server)
                    return
                self.network.wait()
                server.sendall(data)
        self._end(server)

    def _break(self, client: socket.socket, server: socket.socket) -> None:
        if self.fault == "hang":
            return
        if self.fault == "busy":
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        for each in (client, server):
            self._end(each)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.network.wait()
                sink.sendall(data)
        self._end(sink)

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
