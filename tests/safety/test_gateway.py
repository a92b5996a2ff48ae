"""What peers can do to a gateway over its port, with a token and without one."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyarrow import flight

from airflow_ray.client.connection.peer import details_of
from airflow_ray.cluster.gateway.files import replace_tokens
from airflow_ray.cluster.gateway.flight import batch_of, error_of, schema
from airflow_ray.cluster.gateway.guard import Tokens
from airflow_ray.cluster.gateway.settings import sum_of
from airflow_ray.cluster.messages import packed
from airflow_ray.exceptions import RayAuthenticationError, RayConfigurationError
from airflow_ray.hooks.ray import RayHook
from tests.ray_head import RayHead
from tests.safety.gateways import OWNER, Gateway, options_of

NOTHING = flight.FlightDescriptor.for_command(b"")
# What is not for clients: of the owner, of its parts, of Python.
INTERNAL = [
    "announce_start",
    "_attach",
    "__init__",
    "__ray_terminate__",
    "find",
    "receive",
    "retire",
    "send",
    "take_value",
    "until_end",
]


def greet(client: flight.FlightClient, options: flight.FlightCallOptions) -> list[Any]:
    return list(client.do_action(flight.Action("greet", packed(OWNER)), options))


def put(client: flight.FlightClient, options: flight.FlightCallOptions, command: Any, *batches: Any) -> None:
    first = batches[0].schema if batches else schema()
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), first, options)
    try:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        while reader.read() is not None:
            pass
    finally:
        writer.close()


def exchange(client: flight.FlightClient, options: flight.FlightCallOptions) -> None:
    writer, reader = client.do_exchange(NOTHING, options)
    try:
        writer.begin(schema())
        writer.done_writing()
        reader.read_all()
    finally:
        writer.close()


CALLS: dict[str, Callable[[flight.FlightClient, flight.FlightCallOptions], Any]] = {
    "do_action": greet,
    "list_actions": lambda client, options: list(client.list_actions(options)),
    "get_flight_info": lambda client, options: client.get_flight_info(NOTHING, options),
    "get_schema": lambda client, options: client.get_schema(NOTHING, options),
    "list_flights": lambda client, options: list(client.list_flights(b"", options)),
    "do_put": lambda client, options: put(client, options, b"", batch_of(b"abc")),
    "do_get": lambda client, options: client.do_get(flight.Ticket(b""), options).read_all(),
    "do_exchange": exchange,
    "authenticate": lambda client, options: client.authenticate_basic_token("user", "password", options),
}


@pytest.fixture
def gateway(head: RayHead) -> Iterator[Gateway]:
    gateway = Gateway(os.environ["AIRFLOW_CONN_RAY_GATEWAY"], Path(head.temp_dir, "gateway"))
    before = gateway.pid
    yield gateway
    gateway.requires_to_go_on()
    assert gateway.pid == before


@pytest.fixture
def client(gateway: Gateway) -> Iterator[flight.FlightClient]:
    with gateway.client() as client:
        yield client


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("headers", "words"),
    [((), "a token is missing"), ((("authorization", "Bearer " + 32 * "x"),), "another token is asked for")],
    ids=["none", "wrong"],
)
def test_nobody_gets_past_the_door_without_the_token(
    client: flight.FlightClient, call: str, headers: tuple[tuple[str, str], ...], words: str
) -> None:
    with pytest.raises((flight.FlightUnauthenticatedError, OSError)) as caught:
        CALLS[call](client, options_of(*headers))
    assert "Unauthenticated" in str(caught.value)
    assert words in str(caught.value) or call == "authenticate"


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", "{}"),
        ("authorization", "bearer {}"),
        ("authorization", "Basic {}"),
        ("authorization", "Bearer  {}"),
        ("authorization", "Bearer {}x"),
        ("authorization", "Bearer "),
        ("authorization", ""),
        ("authorization", "Bearer " + 7000 * "x"),
        ("authorization-bin", "Bearer {}"),
        ("x-authorization", "Bearer {}"),
        ("cookie", "authorization=Bearer {}"),
    ],
    ids=str,
)
def test_token_in_another_spelling_is_refused(
    gateway: Gateway, client: flight.FlightClient, header: tuple[str, str]
) -> None:
    with pytest.raises(flight.FlightUnauthenticatedError):
        greet(client, options_of((header[0], header[1].format(gateway.token))))


def test_sum_of_a_token_is_no_token(gateway: Gateway, client: flight.FlightClient) -> None:
    with pytest.raises(flight.FlightUnauthenticatedError):
        greet(client, gateway.options(sum_of(gateway.token)))


@pytest.mark.parametrize("call", [name for name in CALLS if name not in ("do_action", "do_put", "do_get")])
def test_what_it_does_not_do_it_refuses(gateway: Gateway, client: flight.FlightClient, call: str) -> None:
    with pytest.raises((pa.ArrowNotImplementedError, flight.FlightUnauthenticatedError)):
        CALLS[call](client, gateway.options())


def test_tokens_that_are_replaced_count_at_once(gateway: Gateway, client: flight.FlightClient) -> None:
    new = "another token that nobody guesses"
    greet(client, gateway.options())
    replace_tokens(gateway.settings, [sum_of(new)])
    try:
        greet(client, gateway.options(new))
        with pytest.raises(flight.FlightUnauthenticatedError):
            greet(client, gateway.options())
    finally:
        replace_tokens(gateway.settings, [sum_of(gateway.token)])
    greet(client, gateway.options())


def test_connection_whose_token_was_replaced_says_so(gateway: Gateway) -> None:
    with RayHook("ray_gateway").connect() as hook:
        replace_tokens(gateway.settings, [sum_of("another token that nobody guesses")])
        try:
            with pytest.raises(RayAuthenticationError, match="no longer takes the password"):
                hook.list_objects()
        finally:
            replace_tokens(gateway.settings, [sum_of(gateway.token)])


def test_each_connection_of_a_process_has_its_own_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "another token that nobody guesses"
    for conn_id, token in (("RAY_OTHER", other), ("RAY_STRANGER", "a token of somewhere else")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", gateway.uri.replace(gateway.token, token.replace(" ", "%20")))
    replace_tokens(gateway.settings, [sum_of(gateway.token), sum_of(other)])
    try:
        with RayHook("ray_gateway").connect() as first, RayHook("ray_other").connect() as second:
            with pytest.raises(RayAuthenticationError), RayHook("ray_stranger").connect():
                pass
            replace_tokens(gateway.settings, [sum_of(gateway.token)])
            first.list_objects()
            with pytest.raises(RayAuthenticationError):
                second.list_objects()
    finally:
        replace_tokens(gateway.settings, [sum_of(gateway.token)])


@pytest.mark.parametrize("password", ["", "fifteen letters"])
def test_nothing_is_sent_to_another_machine_without_a_token(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        uri = f"ray://:{password.replace(' ', '%20')}@127.0.0.1:{listening.getsockname()[1]}?mode=gateway"
        monkeypatch.setenv("AIRFLOW_CONN_RAY_BARE", uri)
        with pytest.raises(RayConfigurationError, match="16 characters"), RayHook("ray_bare").connect():
            pass
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", "tökens".encode()])
def test_file_without_sums_lets_nobody_in(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    for header in ("Bearer ", "Bearer x", "", "Bearer tökens"):
        assert not Tokens(path).let_in(header)


@pytest.mark.parametrize("method", INTERNAL)
def test_what_is_internal_is_not_for_clients(gateway: Gateway, method: str) -> None:
    with pytest.raises(flight.FlightServerError, match="may not call"):
        gateway.told("call", packed({**OWNER, "method": method, "args": [], "kwargs": {}}))


def test_actors_that_are_no_owners_are_not_for_clients(gateway: Gateway) -> None:
    with pytest.raises(flight.FlightServerError, match="names no owner"):
        gateway.told("call", packed({"namespace": "airflow", "owner": "an actor of a user", "method": "poll"}))


texts = st.one_of(st.text(max_size=20), st.sampled_from(["greet", "call", "start", *OWNER.values()]))
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), texts, st.binary(max_size=20))
data = st.recursive(leaves, lambda parts: st.lists(parts) | st.dictionaries(texts, parts), max_leaves=8)
verbs = st.sampled_from(["describe", "greet", "list_objects", "poll", "restore", "submit", "watch", "cancel", "adopt"])
messages = st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.sampled_from(["airflow", ""]) | data,
        "owner": st.just(OWNER["owner"]) | data,
        "name": texts | data,
        "sizes": st.lists(st.integers(-3, 10)) | st.just([2**62]) | data,
        "method": verbs | data,
        "args": st.lists(data, max_size=3) | data,
        "kwargs": st.dictionaries(texts, data, max_size=2) | data,
        "record_id": data,
        "key": data,
    },
)
bodies = st.one_of(st.binary(max_size=100), messages.map(packed), data.map(packed))
BATCHES = [
    batch_of(b"abc"),
    batch_of(b""),
    pa.record_batch([pa.array(["text"])], names=["bytes"]),
    pa.record_batch([pa.array([1, None], pa.uint8())], names=["bytes"]),
    pa.record_batch([pa.array([[1], None])], names=["lists"]),
    pa.record_batch([pa.nulls(1000)], names=["nothing"]),
    pa.record_batch([pa.array(["a", "a"]).dictionary_encode()], names=["words"]),
    pa.record_batch([], names=[]),
]
often = hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@contextmanager
def answered() -> Iterator[None]:
    """Fail where a gateway does not say as plain data what is wrong, or tells of its code."""
    try:
        yield
    except flight.FlightServerError as error:
        if error_of(error) is None or "Traceback" in details_of(error):
            pytest.fail(str(error))


@pytest.mark.slow
@often
@given(
    kind=st.sampled_from(["greet", "call"]) | st.text(max_size=10).filter(lambda text: "\0" not in text), body=bodies
)
def test_whatever_action_is_asked_for_is_answered(
    client: flight.FlightClient, gateway: Gateway, kind: str, body: bytes
) -> None:
    with answered():
        list(client.do_action(flight.Action(kind, body), gateway.options()))


@pytest.mark.slow
@often
@given(ticket=bodies)
def test_whatever_is_fetched_is_answered(client: flight.FlightClient, gateway: Gateway, ticket: bytes) -> None:
    with answered():
        client.do_get(flight.Ticket(ticket), gateway.options()).read_all()


@pytest.mark.slow
@often
@given(command=bodies, batches=st.sampled_from(BATCHES).flatmap(lambda batch: st.lists(st.just(batch), max_size=3)))
def test_whatever_is_sent_is_answered(
    client: flight.FlightClient, gateway: Gateway, command: bytes, batches: list[pa.RecordBatch]
) -> None:
    with answered():
        put(client, gateway.options(), command, *batches)


@pytest.mark.parametrize("batch", BATCHES[2:], ids=lambda batch: str(batch.schema))
def test_values_in_batches_of_another_schema_are_refused(
    client: flight.FlightClient, gateway: Gateway, batch: pa.RecordBatch
) -> None:
    command = packed({**OWNER, "name": uuid.uuid4().hex, "sizes": [3]})
    with pytest.raises(flight.FlightServerError, match="another schema"):
        put(client, gateway.options(), command, batch)
