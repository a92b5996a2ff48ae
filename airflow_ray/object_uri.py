"""Object URIs: the name of one task output, as a plain string."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from airflow_ray.exceptions import ObjectURIError

SCHEME = "ray-object://"
RETURN_VALUE = "return_value"
_HALF = re.compile("[\ud800-\udfff]")
_REGION = re.compile(r"[0-9a-f]{32}\.-?[0-9]+")
_FORM = f"{SCHEME}<conn_id>/<dag_id>/<run_id>/<task_id>/<map_index>/<key>"


@dataclass(frozen=True, order=True)
class ObjectURI:
    """The name of one output of one task instance; equality and order are those of the parts.

    :param conn_id: the Airflow connection of the cluster that holds the object.
    :param dag_id: the DAG of the task that makes it.
    :param run_id: the DAG run.
    :param task_id: the task, with its task groups.
    :param map_index: index of a mapped task, -1 for a task that is not mapped.
    :param key: the output, for a task that has several.
    :param region: tells the iterations of a task in a loop apart, which share all other parts, from Airflow 3.4 on:
        the id that Airflow has for it, of 32 hexadecimal digits, a dot, and the index in it. Empty outside of loops.
        It stands behind the map index, after a ``~``.
    :raises ObjectURIError: a part is empty or of the wrong type.

    >>> uri = ObjectURI("ray_default", "sales", "manual__2026-01-01T00:00:00+00:00", "load", -1)
    >>> str(uri)
    'ray-object://ray_default/sales/manual__2026-01-01T00%3A00%3A00%2B00%3A00/load/-1/return_value'
    >>> ObjectURI.parse(str(uri)) == uri
    True
    """

    conn_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    key: str = RETURN_VALUE
    region: str = ""

    def __post_init__(self) -> None:
        for name in ("conn_id", "dag_id", "run_id", "task_id", "key"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ObjectURIError(f"{name} of an object URI must be a text that is not empty, got {value!r}")
            # JSON may hold half of a character, and no URI can.
            if _HALF.search(value):
                raise ObjectURIError(f"{name} of an object URI must be Unicode text, got {value!r}")
        if type(self.map_index) is not int or self.map_index < -1:
            raise ObjectURIError(
                f"map_index of an object URI must be a whole number from -1 on, got {self.map_index!r}"
            )
        # Python writes no number of more than 4,300 digits.
        if self.map_index >= 2**63:
            raise ObjectURIError("map_index of an object URI must be a number of 64 bits at most")
        if not isinstance(self.region, str) or (self.region and not _REGION.fullmatch(self.region)):
            raise ObjectURIError(
                "region of an object URI must be 32 hexadecimal digits, a dot and an index, or empty, got "
                f"{self.region!r}"
            )

    def __str__(self) -> str:
        return f"{self.work}/{quote_part(self.key)}"

    @property
    def record_id(self) -> str:
        """The name of the piece of work that makes the object, the same for all its outputs."""
        index = f"{self.map_index}~{self.region}" if self.region else str(self.map_index)
        parts = (self.dag_id, self.run_id, self.task_id, index)
        return "/".join(map(quote_part, parts))

    @property
    def run(self) -> tuple[str, str, str]:
        """The connection and the ids of DAG and run, which tell the cluster of the object."""
        return self.conn_id, self.dag_id, self.run_id

    @property
    def work(self) -> str:
        """The URI without its key: the same for all outputs of the task."""
        return f"{SCHEME}{quote_part(self.conn_id)}/{self.record_id}"

    def with_key(self, key: str) -> ObjectURI:
        """Return the URI of another output of the same task."""
        return replace(self, key=key)

    @classmethod
    def of_record(cls, conn_id: str, record_id: str, key: str = RETURN_VALUE) -> ObjectURI:
        """Return the URI of an output of the work that has this :attr:`record_id`."""
        return cls.parse(f"{SCHEME}{quote_part(conn_id)}/{record_id}/{quote_part(key)}")

    @classmethod
    def parse(cls, text: ObjectURI | str) -> ObjectURI:
        """Return the URI that ``text`` is; one that is parsed already is returned as it is.

        :raises ObjectURIError: ``text`` is not an object URI.
        """
        if isinstance(text, ObjectURI):
            return text
        if not is_object_uri(text):
            raise ObjectURIError(f"{text!r} is not an object URI: it must look like {_FORM}")
        parts = text.removeprefix(SCHEME).split("/")
        try:
            conn_id, dag_id, run_id, task_id, index, key = (unquote(part, errors="strict") for part in parts)
            map_index, _, region = index.partition("~")
            uri = cls(conn_id, dag_id, run_id, task_id, int(map_index), key, region)
        except ValueError as error:
            raise ObjectURIError(f"{text!r} is a malformed object URI: it must look like {_FORM}") from error
        if str(uri) != text:
            raise ObjectURIError(f"{text!r} is a malformed object URI: correctly encoded it is {uri}")
        return uri


def is_object_uri(value: object) -> bool:
    """Return whether ``value`` claims to be an object URI: a text that starts with ``ray-object://``."""
    return isinstance(value, str) and value.startswith(SCHEME)


def quote_part(part: str) -> str:
    """Return ``part`` as it stands in an object URI."""
    return quote(part, safe="")
