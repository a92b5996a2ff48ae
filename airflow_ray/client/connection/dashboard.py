"""Ray's dashboard: jobs, packages and what it tells, over its HTTP port, without Ray in this process."""

from __future__ import annotations

import hashlib
import math
import ssl
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from airflow_ray.client.pem import text_of
from airflow_ray.exceptions import (
    RayAuthenticationError,
    RayConfigurationError,
    RayConnectionError,
    RayJobLostError,
)

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterator
    from typing import IO

    from airflow_ray.client.connection.settings import RaySettings

DASHBOARD_PORT = 8265
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.5
LOG_CHARACTERS = 2_000
ANY = range(600)
SUCCEEDED, STOPPED, PENDING, RUNNING = "SUCCEEDED", "STOPPED", "PENDING", "RUNNING"
FINAL = frozenset({SUCCEEDED, STOPPED, "FAILED"})
# Of one command, one after another within the time that a name stands for.
MAX_JOBS = 1_000


class Dashboard:
    """The dashboard of a cluster.

    :param url: its address.
    :param settings: of the connection: the token is only sent where it is asked for, and where the connection has TLS
        over plain HTTP only to the address that it names itself.
    :param deadline: until when it must have answered, by the monotonic clock; each request has five seconds at least.
    """

    def __init__(self, url: str, settings: RaySettings, deadline: float = math.inf) -> None:
        self.url = url.rstrip("/")
        self._deadline = deadline
        tls, token, origin = settings.authentication.tls, settings.authentication.token, httpx.URL(self.url)
        self.trusted = _trusted(tls and tls.ca_cert, settings.dashboard_verify)
        named = (settings.dashboard_url or "").rstrip("/")
        self._has_token = bool(token)
        self._withholds_token = self._has_token and tls is not None and origin.scheme != "https" and self.url != named
        # What is for the address that the connection says is for no other one.
        headers = settings.dashboard_headers if self.url == (named or self.url) else {}
        self._identity = _Identity(origin, headers, None if self._withholds_token else token)
        self._http = httpx.Client(
            verify=self.trusted,
            follow_redirects=True,
            auth=self._identity,
            event_hooks={"request": [self._identity.keep_to_origin]},
        )

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def headers(self) -> dict[str, str]:
        """What goes with each request, the token once it was asked for."""
        return dict(self._identity.headers)

    def check(self) -> None:
        """Look whether it can be reached.

        :raises RayConnectionError: nothing answers, or no dashboard of Ray's; or it wants another token.
        """
        self._answer(self._request("GET", "/api/version", ANY), "ray_version")

    def upload(self, package: bytes) -> str:
        """Send a zip file unless it is there, and return by what address jobs name it as their working directory."""
        return self.upload_as(f"_ray_pkg_{hashlib.sha256(package).hexdigest()[:16]}.zip", package)

    def upload_as(self, name: str, package: bytes | IO[bytes]) -> str:
        """Do so under a name that tells what is in it."""
        # To ask for it also keeps it for some minutes.
        if self._request("GET", f"/api/packages/gcs/{name}", (404,)).status_code == 404:
            self._request("PUT", f"/api/packages/gcs/{name}", content=package)
        return f"gcs://{name}"

    def run(self, name: str, command: str, package: str) -> str:
        """Run a command as a job and return what it has printed; one of that name that runs already is waited for.

        :param name: the same for all who want the same.
        :param package: as :meth:`upload` has returned it.
        :raises RayConnectionError: it had not ended by the deadline.
        """
        for job in ids_of(name):
            body = {"entrypoint": command, "submission_id": job, "runtime_env": {"working_dir": package}}
            if self.submit(body) or self.job(job)["status"] not in FINAL:
                return self._output(job)
        raise RayConnectionError(f"Too many jobs named {name} have run at {self.url}")

    def submit(self, body: dict[str, Any]) -> bool:
        """Submit a job, and return False where there is one of its id.

        :param body: as Ray's Jobs API takes it.
        :raises RayConnectionError: it was not taken.
        """
        response = self._request("POST", "/api/jobs/", (400, 404, 405, 500), json=body)
        if response.status_code in (404, 405):
            raise RayConnectionError(
                f"The Ray dashboard at {self.url} has no Jobs API: {told(response)}. Install ray[default] on the head, "
                "or let what stands before it pass on /api/jobs/"
            )
        if response.status_code == 200:
            self._answer(response, "submission_id")
            return True
        if "already exists" not in response.text:
            raise self._refused("to run a job", response)
        return False

    def job(self, job: str) -> dict[str, Any]:
        """Return what is known of a job.

        :raises RayJobLostError: nothing is.
        """
        return self._answer(self._of_job("GET", job), "status")

    def stop(self, job: str) -> None:
        """Let a job end, if it has not; it has some seconds to do so.

        :raises RayJobLostError: it is not known.
        """
        self._of_job("POST", job, "/stop")

    def _of_job(self, method: str, job: str, verb: str = "") -> httpx.Response:
        response = self._request(method, f"/api/jobs/{job}{verb}", (404,))
        if response.status_code == 200:
            return response
        # Something that stands before the dashboard may say 404 of the whole of it.
        if "does not exist" in response.text:
            raise RayJobLostError(
                f"The Ray cluster at {self.url} does not know the job {job}: the cluster was started anew meanwhile, "
                "or somebody has deleted the job. The next try of the task starts it anew"
            )
        raise self._refused("to tell of a job", response)

    def _output(self, job: str) -> str:
        while (info := self.job(job))["status"] not in FINAL:
            if time.monotonic() > self._deadline:
                raise RayConnectionError(
                    f"Job {job} at {self.url} has not ended in time: it is {info['status']}. {self._log(job)}"
                )
            time.sleep(POLL_SECONDS)
        return self._log(job) or str(info.get("message") or "")

    def _log(self, job: str) -> str:
        return str(self._answer(self._request("GET", f"/api/jobs/{job}/logs"), "logs")["logs"] or "")

    def _answer(self, response: httpx.Response, name: str) -> dict[str, Any]:
        """Return what a dashboard has answered.

        :param name: of what it must tell.
        :raises RayConnectionError: no dashboard has answered, but the page to log in, say, of what stands before it.
        """
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or name not in answer:
            raise RayConnectionError(f"What answers at {self.url} is not a Ray dashboard: {told(response)}")
        return answer

    def _request(self, method: str, path: str, expected: Container[int] = (), **content: Any) -> httpx.Response:
        try:
            response = self._send(method, path, content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RayConnectionError(
                f"No Ray dashboard answers at {self.url}: {error or type(error).__name__}"
            ) from None
        if response.status_code != 200 and response.status_code not in expected:
            raise self._refused(f"{method} {path}", response)
        return response

    def _send(self, method: str, path: str, content: dict[str, Any]) -> httpx.Response:
        # At the deadline too, a busy dashboard has the time to say why something is not done.
        left = max(CONNECT_SECONDS, self._deadline - time.monotonic())
        timeout = httpx.Timeout(min(REQUEST_SECONDS, left), connect=CONNECT_SECONDS)
        response = self._http.request(method, f"{self.url}{path}", timeout=timeout, **content)
        if response.status_code in (401, 403) and self._withholds_token:
            raise RayAuthenticationError(
                f"The Ray dashboard at {self.url} asks for a token, and the connection's does not go over plain HTTP, "
                "since the connection has TLS. Set dashboard_url: to an address with https://, or to this one where "
                "the network to it is trusted"
            )
        if response.status_code in (401, 403):
            wanted = "another token than the password of the connection" if self._has_token else "a token"
            raise RayAuthenticationError(
                f"The Ray dashboard at {self.url} asks for {wanted}. Set the cluster's token as the password. "
                f"It says: {told(response)}"
            )
        return response

    def _refused(self, what: str, response: httpx.Response) -> RayConnectionError:
        return RayConnectionError(f"The Ray dashboard at {self.url} refuses {what}: {told(response)}")


class _Identity(httpx.Auth):
    """Who asks: the headers of the connection, and the token once it was asked for.

    :param origin: alone gets them, also where it leads elsewhere.
    """

    def __init__(self, origin: httpx.URL, headers: dict[str, str], token: str | None) -> None:
        self.headers = dict(headers)
        self._origin = origin
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the token only after a refusal, and from then on."""
        request.headers.update(self.headers)
        response = yield request
        if response.status_code == 401 and self._token and "authorization" not in map(str.lower, self.headers):
            self.headers["authorization"] = f"Bearer {self._token}"
            request.headers.update(self.headers)
            yield request

    def keep_to_origin(self, request: httpx.Request) -> None:
        """Let nobody else have them."""
        if leads_elsewhere(self._origin, request.url):
            for name in self.headers:
                request.headers.pop(name, None)


def leads_elsewhere(origin: httpx.URL, target: httpx.URL) -> bool:
    """Whether a redirect leads to somebody else: not to the same scheme, host and port, nor from HTTP to its HTTPS."""
    if (target.scheme, target.host, target.port) == (origin.scheme, origin.host, origin.port):
        return False
    changes = (origin.scheme, target.scheme, origin.port, target.port)
    return target.host != origin.host or changes != ("http", "https", None, None)


def dashboard_url(settings: RaySettings) -> str:
    """Return the address of the dashboard of a connection: what it says, or else the usual port of the head.

    :raises RayConfigurationError: it tells none.
    """
    if settings.mode == "local":
        raise RayConfigurationError(
            f"Connection {settings.conn_id!r}: the embedded head of mode local runs no dashboard, by which jobs are "
            "submitted. Start a head that has one, by ray start --head with ray[default], and name it in a connection "
            "of another mode"
        )
    host = settings.host or ""
    if not (settings.dashboard_url or host):
        raise RayConfigurationError(
            f"Connection {settings.conn_id!r}: dashboard_url is missing, by which jobs are submitted"
        )
    return settings.dashboard_url or f"http://{f'[{host}]' if ':' in host else host}:{DASHBOARD_PORT}"


def ids_of(name: str) -> Iterator[str]:
    """Yield ids for jobs of one name, one after another."""
    yield name
    yield from (f"{name}-{number}" for number in range(2, MAX_JOBS))


def told(response: httpx.Response) -> str:
    """Return status and last line of an answer, which may be a traceback."""
    lines = response.text.strip().splitlines() or [""]
    return f"{response.status_code} {response.reason_phrase}: {lines[-1][:LOG_CHARACTERS]}"


# Each deferred job has a connection of its own, and all have the same certificates in memory.
@cache
def _trusted(ca_cert: bytes | None, verify: bool | bytes) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for certificates in (ca_cert, verify):
        if isinstance(certificates, bytes):
            context.load_verify_locations(cadata=text_of(certificates))
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
