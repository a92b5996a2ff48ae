"""What a person reads of a connection that broke, from what Ray and gRPC say."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorUnavailableError

from airflow_ray.client.connection import ray_session, retrying
from airflow_ray.client.connection.link import Link
from airflow_ray.client.connection.opening import OPENERS
from airflow_ray.client.connection.peer import details_of
from airflow_ray.client.connection.ray_session import RaySession
from airflow_ray.client.connection.reasons import reason_of
from airflow_ray.exceptions import RayConnectionError

OF_GRPC = """<_MultiThreadedRendezvous of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "Socket closed"
\tdebug_error_string = "UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:\\"Socket closed\\"}"
>"""
REFUSED = "UNKNOWN: ipv4:127.0.0.1:10001: Failed to connect to remote host: Connection refused"
OF_RAY = (
    "Failed during this or a previous request. Exception that broke the connection: Failed to reconnect within the "
    "reconnection grace period (30s)"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OF_GRPC, "Socket closed"),
        (f"Failed during this or a previous request. Exception that broke the connection: {OF_GRPC}", "Socket closed"),
        (OF_RAY, "Failed to reconnect within the reconnection grace period (30s)"),
        (f'details = "failed to connect to all addresses; last error: {REFUSED}"', "Connection refused"),
        ("First line.\n\nSecond line", "First line"),
        (
            "Failure from server:\nTraceback (most recent call last):\n  x\nOSError: full.\n",
            "Failure from server: OSError: full",
        ),
        ("", "ConnectionError"),
    ],
)
def test_reason_is_one_line_for_a_person(text, reason):
    assert reason_of(ConnectionError(text)) == reason


FLIGHT = "Flight returned unavailable error, with message: {}. gRPC client debug context: UNKNOWN"
WRITING = "Error in HTTP transport completing operation: on_write_finished_cb write_state=WRITING+MORE refs=0 flags=1"


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("Stream removed (recvmsg:Connection timed out)", "Connection timed out"),
        (
            f"{WRITING} (Pending writes failed due to stream closure (recvmsg:Connection timed out))",
            "Connection timed out",
        ),
        (f"{WRITING} (stream closure (sendmsg: Connection reset by peer (104)))", "Connection reset by peer"),
        ("keepalive watchdog timeout", "Connection timed out"),
        (f"failed to connect to all addresses; last error: {REFUSED}", "Connection refused"),
        ("Socket closed", "Socket closed"),
        (
            f"Stream removed (Socket closed) ({WRITING} (Pending writes failed due to stream closure (Socket closed)))",
            "Socket closed",
        ),
    ],
)
@pytest.mark.parametrize("around", ["{}", FLIGHT], ids=["alone", "in words of Flight"])
def test_what_arrow_flight_says_is_shown_without_its_own_parts(details, reason, around):
    assert details_of(OSError(around.format(details))) == reason


def test_answer_that_was_cut_short_is_not_shown_as_ray_stumbles_over_it():
    assert reason_of(TypeError("'NoneType' object is not iterable")) == "the head ended while it was asked"


class OpenSession(RaySession):
    """A connection of which only the errors matter."""

    copies_values = True

    def __init__(self) -> None:
        self._namespace = "airflow"

    def send(self, value, connect_again):
        raise NotImplementedError

    def fetch(self, uri, ref, size, connect_again):
        raise NotImplementedError


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(OF_GRPC),
        TypeError("'NoneType' object is not iterable"),
        ActorUnavailableError("rpc error: Socket closed", None),
    ],
)
def test_lost_head_is_a_connection_that_broke(error):
    with pytest.raises(RayConnectionError) as caught, OpenSession().translate_errors():
        raise error
    assert str(caught.value) == f"The connection to the Ray cluster broke: {reason_of(error)}."


def test_object_that_a_broken_connection_did_not_bring_comes_over_the_next_one(monkeypatch):
    class Fetching(OpenSession):
        fetch = RaySession.fetch

        def find(self, uri):
            if self in broken:
                raise RayConnectionError("It broke.")
            return "ref", 1

    sessions = [Fetching() for _ in range(3)]
    broken = sessions[:1]
    monkeypatch.setattr(ray_session.values, "fetch", lambda session, uri, ref: session)
    assert sessions[0].fetch(None, lambda error: sessions[1]) is sessions[1]
    broken = sessions[:2]
    with pytest.raises(RayConnectionError):
        sessions[0].fetch(None, lambda error: sessions[1])


def test_error_of_the_arguments_stays_what_it_is():
    with pytest.raises(TypeError, match="unexpected keyword"), OpenSession().translate_errors():
        raise TypeError("got an unexpected keyword argument")


@pytest.mark.parametrize("end", ["", "."])
def test_connection_that_cannot_be_made_again_says_what_becomes_of_the_work(monkeypatch, end):
    def refuse(settings):
        raise RayConnectionError(f"Connection refused{end}")

    monkeypatch.setenv("AIRFLOW_CONN_RAY_HERE", "ray://here?connect_timeout=0.1")
    monkeypatch.setitem(OPENERS, "client", refuse)
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.01)
    with pytest.raises(RayConnectionError) as caught:
        Link("ray_here").connect_again(RayConnectionError(f"It broke{end}"))
    assert str(caught.value) == (
        "It broke. None came in its place within 0.1 seconds. Connection refused. If the head is lost, so are its work "
        "and its objects, and the next try of the task starts anew; otherwise the work goes on, and so does the next "
        "try with it."
    )
