"""Runtime environments that are being built on the nodes, and what pip or whoever builds them says."""

from __future__ import annotations

import functools
import json
import threading
import time
from typing import Any, NamedTuple

from airflow_ray.cluster.own_tasks import own_task

# What is set without anything being built or downloaded.
PLAIN_FIELDS = frozenset({"env_vars", "config"})
# Ray gives up one try after so long, and tries three times.
SETUP_SECONDS = 600.0
VIEW_SECONDS = 4.0
AGENT_SECONDS = 2.0
WORDS_SECONDS = 5.0
WORDS_BYTES = 8192
MAX_WORDS = 600


class Building(NamedTuple):
    """A runtime environment that a node builds.

    :param runtime_env: as Ray understands it.
    :param node_id: of the node, and its ``address``.
    :param since: when this was first seen, by the monotonic clock in seconds.
    """

    runtime_env: dict[str, Any]
    node_id: str
    address: str
    since: float

    @property
    def place(self) -> tuple[str, str]:
        """What is built where."""
        return self.node_id, json.dumps(self.runtime_env, sort_keys=True)


def needs_building(runtime_env: dict[str, Any] | None) -> bool:
    """Whether something is installed or downloaded for a runtime environment before its work can start."""
    return any(value for name, value in (runtime_env or {}).items() if name not in PLAIN_FIELDS)


def setup_seconds(runtime_env: dict[str, Any]) -> float | None:
    """Return how long a runtime environment may take to be built; None for as long as it takes."""
    seconds = (runtime_env.get("config") or {}).get("setup_timeout_seconds", SETUP_SECONDS)
    return None if seconds == -1 else float(seconds)


class Environments:
    """What is being built on the nodes, asked for once for all that check within some seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken_at = float("-inf")
        self._building: list[Building] = []
        self._words_lock = threading.Lock()
        self._words: dict[str, tuple[float, str]] = {}

    def find(self, runtime_env: dict[str, Any]) -> Building | None:
        """Return where an environment is being built, if nodes say so: where that has begun last.

        Work that waits for a node while each builds it in its turn is not late.
        """
        from ray.runtime_env import RuntimeEnv

        wanted = _plain(RuntimeEnv(**runtime_env).serialize())
        with self._lock:
            if time.monotonic() > self._taken_at + VIEW_SECONDS:
                self._building = _seen_before(_building(), self._building)
                self._taken_at = time.monotonic()
            matches = [each for each in self._building if each.runtime_env == wanted]
            return max(matches, key=lambda each: each.since, default=None)

    def words(self, node_id: str) -> str:
        """Return the last that was said on a node by what builds environments, or an empty text."""
        with self._words_lock:
            taken_at, words = self._words.get(node_id, (float("-inf"), ""))
            if time.monotonic() > taken_at + VIEW_SECONDS:
                words = self._read_words(node_id)
                self._words[node_id] = time.monotonic(), words
            return words

    @functools.cached_property
    def _reader(self) -> Any:
        # Once: Ray keeps each remote function until the job ends, which is that of the owner.
        return own_task(_last_words, num_cpus=0, max_retries=0)

    def _read_words(self, node_id: str) -> str:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        words = self._reader.options(scheduling_strategy=there).remote(ray.get_runtime_context().get_job_id())
        try:
            return str(ray.get(words, timeout=WORDS_SECONDS))
        # They only help, and a node that starts no process now gets no further ones to start.
        except ray.exceptions.RayError:
            ray.cancel(words, force=True)
            return ""


def _plain(serialized: str) -> dict[str, Any]:
    fields = json.loads(serialized)
    return {name: value for name, value in fields.items() if not name.startswith("_") and name != "config"}


def _seen_before(now: list[Building], before: list[Building]) -> list[Building]:
    """Return what is being built now, each since it was first seen."""
    since = {each.place: each.since for each in before}
    return [each._replace(since=since.get(each.place, each.since)) for each in now]


def _building() -> list[Building]:
    from ray._private.worker import global_worker

    found = []
    for node in global_worker.gcs_client.get_all_node_info().values():
        # Of 0, which is ALIVE, as Ray numbers the states of nodes.
        if node.state == 0 and node.runtime_env_agent_port:
            found += _building_on(node.node_id.hex(), node.node_manager_address, node.runtime_env_agent_port)
    return found


def _building_on(node_id: str, address: str, port: int) -> list[Building]:
    from urllib.error import URLError
    from urllib.request import ProxyHandler, Request, build_opener

    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    from ray.core.generated.runtime_env_agent_pb2 import GetRuntimeEnvsInfoReply, GetRuntimeEnvsInfoRequest

    request = Request(
        f"http://{address}:{port}/get_runtime_envs_info",
        GetRuntimeEnvsInfoRequest().SerializeToString(),
        get_auth_headers_if_auth_enabled({}),
    )
    try:
        # A proxy of this machine's would get the cluster's token.
        with build_opener(ProxyHandler({})).open(request, timeout=AGENT_SECONDS) as answer:
            reply = GetRuntimeEnvsInfoReply.FromString(answer.read())
    # One node that does not answer does not keep the others from being asked.
    except (URLError, TimeoutError):
        return []
    states = [each for each in reply.runtime_env_states if each.ref_cnt and not each.HasField("success")]
    return [Building(_plain(each.runtime_env), node_id, address, time.monotonic()) for each in states]


def _last_words(job_id: str) -> str:
    """Return the last lines of the log of the environments that this node has built for a job."""
    import re
    from pathlib import Path

    from ray._private.worker import _global_node

    path = Path(_global_node.get_logs_dir_path(), f"runtime_env_setup-{job_id}.log")
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - WORDS_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    # A command line may hold the password of an index.
    said = [line for line in lines if line.strip() and "Run cmd[" not in line]
    words = [re.sub(r"^\S+ \S+\t?\s*[A-Z]+\s+\S+ -- ", "", line) for line in said[-3:]]
    return " | ".join(words)[-MAX_WORDS:]
