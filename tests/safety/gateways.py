"""A gateway as its peers see it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pyarrow import flight

from airflow_ray.cluster.build import own_build
from airflow_ray.cluster.gateway.files import note_of, noted_process
from airflow_ray.cluster.gateway.settings import GatewaySettings
from airflow_ray.cluster.messages import packed, unpacked

OWNER = {"namespace": "airflow", "owner": own_build().owner_name}


class Gateway:
    """A gateway as its peers see it.

    :param uri: the Airflow connection through it.
    :param folder: of its files.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.token, _, place = uri.removeprefix("ray://:").partition("@")
        self.port = int(place.partition("?")[0].rpartition(":")[2])
        self.settings = GatewaySettings(str(folder), "127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        """Of its process, which runs."""
        while (note := note_of(self.settings, noted_process(self.settings))) is None:
            time.sleep(0.05)
        return int(note["pid"])

    @property
    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def client(self) -> flight.FlightClient:
        options = [("grpc.use_local_subchannel_pool", 1)]
        return flight.FlightClient(f"grpc://127.0.0.1:{self.port}", generic_options=options)

    def options(self, token: str | None = None) -> flight.FlightCallOptions:
        return options_of(("authorization", f"Bearer {token or self.token}"))

    def told(self, kind: str, body: bytes) -> list[Any]:
        """Return what it answers to whoever has the token."""
        with self.client() as client:
            results = list(client.do_action(flight.Action(kind, body), self.options()))
        return [unpacked(result.body) for result in results if result.body.size]

    def requires_to_go_on(self) -> None:
        """Fail unless it answers, in the process that it had at first."""
        assert self.told("greet", packed(OWNER))[0]["owner"]


def options_of(*headers: tuple[str, str]) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(timeout=30, headers=[(name.encode(), text.encode()) for name, text in headers])
