"""What the gateway's process does about its peers."""

from __future__ import annotations

import socket

from airflow_ray.cluster.gateway.guard import QUIET_SECONDS, notice_vanished_hosts


def is_looked_after(listening: socket.socket) -> bool:
    """Whether the kernel asks the other end of a connection that comes in here for signs of life."""
    with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
        is_on = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return bool(is_on) and accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == QUIET_SECONDS


def test_hosts_that_vanish_are_noticed_on_one_port_whatever_else_is_open(tmp_path):

    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as unix,
        (tmp_path / "file").open("w"),
    ):
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        notice_vanished_hosts(ours.getsockname()[1])
        assert (is_looked_after(ours), is_looked_after(other)) == (True, False)


def test_hosts_that_vanish_are_noticed_over_ipv6_too():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as ours:
        notice_vanished_hosts(ours.getsockname()[1])
        assert is_looked_after(ours)
