"""Whatever stands in an XCom, the database, a storage or a message: an error of this package says what is wrong.

None of it is unpickled before it is known whose it is.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ray import exceptions
from airflow_ray.client import object_xcom, xcom_values
from airflow_ray.client.checkpoints import telling
from airflow_ray.cluster.failures import Refusal, refusal
from airflow_ray.cluster.gateway.calls import Owners
from airflow_ray.cluster.gateway.pipes import PipeBrokenError
from airflow_ray.cluster.gateway.server import Desk
from airflow_ray.cluster.messages import packed, unpacked
from airflow_ray.cluster.protocol import RefusalKind
from airflow_ray.exceptions import AirflowRayError, ObjectURIError, RayCheckpointError
from airflow_ray.hooks.s3_checkpoint import S3CheckpointHook
from airflow_ray.object_uri import SCHEME, ObjectURI
from airflow_ray.sensors.object import RayObjectSensor
from airflow_ray.triggers import RayObjectTrigger, error_of
from tests.conftest import examples

pytestmark = pytest.mark.faults
often = examples(100, 5000)
# With halves of characters, which JSON may hold and UTF-8 does not.
characters = st.sampled_from("a/%~.:٣\0\ud800\udfff") | st.characters()
texts = st.text(characters, max_size=6)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
URI = "ray-object://ray/dag/run/task/-1/return_value"
uri_like = st.one_of(
    texts.map(SCHEME.__add__),
    st.lists(texts | st.sampled_from(["-1", "0", "%FF", "~", "-1~", "", "٣"]), max_size=8).map(
        lambda parts: SCHEME + "/".join(parts)
    ),
    st.tuples(st.integers(0, len(URI)), texts, st.integers(0, 3)).map(
        lambda change: URI[: change[0]] + change[1] + URI[change[0] + change[2] :]
    ),
)


@often
@given(text=uri_like | plain)
def test_text_is_an_object_uri_as_a_whole_or_refused(text):
    try:
        uri = ObjectURI.parse(text)
    except ObjectURIError:
        return
    assert (str(uri), ObjectURI.of_record(uri.conn_id, uri.record_id, uri.key)) == (text, uri)


@often
@given(
    parts=st.tuples(*[texts] * 4) | st.tuples(*[texts | plain] * 4),
    index=st.just(-1) | st.integers(-3, 2**70) | plain,
    key=texts,
)
def test_parts_make_an_object_uri_that_can_be_written_or_are_refused(parts, index, key):
    try:
        uri = ObjectURI(*parts, index, key)
    except ObjectURIError:
        return
    assert ObjectURI.parse(str(uri)) == uri


@often
@given(value=st.lists(uri_like, min_size=1, max_size=3) | uri_like | plain)
def test_sensor_refuses_what_is_no_object_uri(value):
    try:
        uris = RayObjectSensor(task_id="sensor", object_uri=value)._uris()
    except ObjectURIError:
        return
    assert [str(uri) for uri in uris] == ([value] if isinstance(value, str) else value)


@often
@given(value=uri_like | plain)
def test_xcom_that_is_received_is_what_was_stored_or_refused_in_words(value):
    try:
        received = xcom_values.received(value, is_whole=True)
    except AirflowRayError:
        return
    # There is no such connection.
    except xcom_values.AirflowNotFoundException:
        return
    assert received == value


@often
@given(told=plain | st.fixed_dictionaries({}, optional={name: plain for name in ("path", "aws_conn_id", "signature")}))
def test_place_of_a_checkpoint_that_nobody_signed_is_not_read(told):
    settings = SimpleNamespace(conn_id="ray", checkpoint_path=None, checkpoint_conn_id=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telling, "pull_xcom", lambda *_, **__: told)
        with suppress(RayCheckpointError):
            assert telling.of_producer(ObjectURI.parse(URI), settings) is None


descriptions = st.fixed_dictionaries({}, optional={name: plain for name in ("type", "shape", "length", "bytes")})


@examples(40, 2000)
@given(outputs=st.dictionaries(texts, descriptions, max_size=25))
def test_what_is_told_of_objects_is_json(outputs):
    told = object_xcom.told_of(outputs)
    assert json.loads(json.dumps(told)) == told


@often
@given(event=st.fixed_dictionaries({}, optional={"type": st.sampled_from(dir(exceptions)) | plain, "message": plain}))
def test_event_that_tells_an_error_is_an_error_of_this_package(event):
    assert isinstance(error_of(event), AirflowRayError)


arguments = st.fixed_dictionaries(
    {"object_uris": st.lists(st.just(URI) | uri_like, max_size=3)},
    optional={
        "holder": st.none() | texts,
        "poll_interval": st.floats(0.1, 100.0),
        "deadline": st.none() | st.floats(0.0, 1e10),
        "fetch_logs": st.booleans(),
        "credentials": st.none() | st.dictionaries(texts, plain, max_size=2),
        "resume": st.none() | st.dictionaries(texts, plain, max_size=3),
        "cancel_on_kill": st.booleans(),
    },
)


@often
@given(arguments=arguments)
def test_trigger_comes_back_from_the_database_as_it_was(arguments):
    _, kept = RayObjectTrigger(**arguments).serialize()
    assert arguments.items() <= kept.items()
    assert RayObjectTrigger(**json.loads(json.dumps(kept))).serialize()[1] == kept


class Sprung(Exception):
    """Something was unpickled."""


class Trap:
    def __reduce__(self) -> Any:
        return _spring, ()


def _spring() -> None:
    raise Sprung


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[S3CheckpointHook, Path]:
    """A checkpoint of something that is a pickle, whose data were changed since."""
    path = tmp_path_factory.mktemp("checkpoints")
    hook = S3CheckpointHook(path=f"file://{path}")
    folder = Path(hook.save(ObjectURI.parse(URI), {1, "a set"})["path"].removeprefix("file://"))
    for file in folder.iterdir():
        if file.name != "manifest.json":
            file.write_bytes(pickle.dumps(Trap()))
    return hook, folder / "manifest.json"


@st.composite
def manifests(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a manifest with one field changed, or cut short, or with other bytes in it, or anything."""
    kind = draw(st.sampled_from(["field", "cut", "bytes", "anything"]))
    if kind == "field":
        fields = json.loads(whole)
        return json.dumps({**fields, draw(st.sampled_from(sorted(fields)) | texts): draw(plain)}).encode()
    place = draw(st.integers(0, len(whole)))
    if kind == "cut":
        return whole[:place]
    if kind == "bytes":
        return whole[:place] + draw(st.binary(max_size=4)) + whole[place + draw(st.integers(0, 4)) :]
    return json.dumps(draw(plain)).encode()


@examples(60, 3000)
@given(data=st.data())
def test_nothing_of_a_checkpoint_that_was_changed_is_unpickled(checkpoint, data):
    hook, path = checkpoint
    whole = path.read_bytes()
    uri = ObjectURI.parse(URI)
    try:
        path.write_bytes(data.draw(manifests(whole)))
        for look in (hook.load, hook.describe, hook.exists):
            with suppress(RayCheckpointError):
                look(uri)
        hook.list()
    finally:
        path.write_bytes(whole)


class NoOwners(Owners):
    """Of a cluster on which none runs."""

    def _handle(self, owner: Any) -> Any:
        raise refusal(RefusalKind.OWNER_DIED, "there is none")


fields = ("namespace", "owner", "name", "sizes", "method", "args", "kwargs", "record_id", "key", "bundle")
messages = plain | st.fixed_dictionaries({}, optional=dict.fromkeys(fields, plain | st.binary(max_size=5)))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a message, whole or cut short or with other bytes in it, or none at all."""
    try:
        whole = packed(draw(messages))
    except OverflowError:
        whole = draw(st.binary(max_size=50))
    place = draw(st.integers(0, len(whole)))
    return draw(st.sampled_from([whole, whole[:place], whole[:place] + draw(st.binary(max_size=4)) + whole[place:]]))


@often
@given(kind=st.sampled_from(["greet", "call"]) | texts, body=bodies())
def test_gateway_refuses_what_is_no_message_and_lives_on(kind, body):
    desk = Desk(NoOwners(), SimpleNamespace(socket="/socket"), "127.0.0.1:6379", "1.0")
    for ask in (lambda: list(desk.answers(kind, body)), lambda: list(desk.give(body)), lambda: desk.take(body, 0, 0)):
        # The only other thing that may be said.
        with suppress(PipeBrokenError):
            assert _refused(ask) in {None, *(each.value for each in RefusalKind)}


def _refused(ask: Callable[[], Any]) -> str | None:
    """Return the kind of the refusal, which a client can read."""
    try:
        ask()
    except Refusal as told:
        return unpacked(packed(told.error))["kind"]
    return None
