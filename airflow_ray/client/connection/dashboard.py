"""Ray's dashboard as a way to run a command on the head: a job over its HTTP port, without Ray in this process."""

from __future__ import annotations

import hashlib
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx

from airflow_ray.exceptions import RayAuthenticationError, RayConnectionError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from airflow_ray.client.connection.authentication import Authentication

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.5
LOG_CHARACTERS = 2_000
ANY = range(600)
FINAL = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
# Of one command, one after another within the time that a name stands for.
MAX_JOBS = 1_000


class Dashboard:
    """The dashboard of a cluster.

    :param url: its address.
    :param authentication: the token is only sent where it is asked for; of TLS, the certificates that are trusted.
    :param deadline: until when it must have answered, by the monotonic clock.
    """

    def __init__(self, url: str, authentication: Authentication, deadline: float) -> None:
        self.url = url.rstrip("/")
        self._token = authentication.token
        self._deadline = deadline
        self._http = httpx.Client(verify=_trusted(authentication), follow_redirects=True)

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def check(self) -> None:
        """Look whether it can be reached.

        :raises RayConnectionError: nothing answers, or no dashboard of Ray's; or it wants another token.
        """
        response = self._request("GET", "/api/version", ANY)
        try:
            is_ray = "ray_version" in response.json()
        except (ValueError, TypeError):
            is_ray = False
        if not is_ray:
            raise RayConnectionError(f"What answers at {self.url} is no Ray dashboard: {_told(response)}")

    def upload(self, package: bytes) -> str:
        """Send a zip file unless it is there, and return by what address jobs name it as their working directory."""
        name = f"_ray_pkg_{hashlib.sha256(package).hexdigest()[:16]}.zip"
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
        for job in self._ids(name):
            body = {"entrypoint": command, "submission_id": job, "runtime_env": {"working_dir": package}}
            response = self._request("POST", "/api/jobs/", (400, 500), json=body)
            if response.status_code == 200 or self._is_running(job, response):
                return self._output(job)
        raise RayConnectionError(f"Too many jobs named {name} have run at {self.url}")

    def _ids(self, name: str) -> Iterator[str]:
        yield name
        yield from (f"{name}-{number}" for number in range(2, MAX_JOBS))

    def _is_running(self, job: str, refusal: httpx.Response) -> bool:
        """Return whether a job was refused because one of its name runs, and False if that has ended."""
        if "already exists" not in refusal.text:
            raise self._refused("to run a job", refusal)
        return self._info(job)["status"] not in FINAL

    def _output(self, job: str) -> str:
        while (info := self._info(job))["status"] not in FINAL:
            if time.monotonic() > self._deadline:
                raise RayConnectionError(
                    f"Job {job} at {self.url} has not ended in time: it is {info['status']}. {self._log(job)}"
                )
            time.sleep(POLL_SECONDS)
        return self._log(job) or str(info.get("message") or "")

    def _info(self, job: str) -> dict[str, Any]:
        info: dict[str, Any] = self._request("GET", f"/api/jobs/{job}").json()
        return info

    def _log(self, job: str) -> str:
        return str(self._request("GET", f"/api/jobs/{job}/logs").json().get("logs") or "")

    def _request(self, method: str, path: str, expected: Container[int] = (), **content: Any) -> httpx.Response:
        try:
            response = self._ask(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RayConnectionError(
                f"No Ray dashboard answers at {self.url}: {error or type(error).__name__}"
            ) from None
        if response.status_code != 200 and response.status_code not in expected:
            raise self._refused(f"{method} {path}", response)
        return response

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the answer; the token goes along once it was asked for."""
        response = self._send(method, path, content)
        if response.status_code == 401 and self._token and "authorization" not in self._http.headers:
            self._http.headers["authorization"] = f"Bearer {self._token}"
            response = self._send(method, path, content)
        if response.status_code in (401, 403):
            wanted = "another token than the password of the connection" if self._token else "a token"
            raise RayAuthenticationError(
                f"The Ray dashboard at {self.url} asks for {wanted}. Set the cluster's token as the password. "
                f"It says: {_told(response)}"
            )
        return response

    def _send(self, method: str, path: str, content: dict[str, Any]) -> httpx.Response:
        left = max(1.0, self._deadline - time.monotonic())
        timeout = httpx.Timeout(min(REQUEST_SECONDS, left), connect=min(CONNECT_SECONDS, left))
        return self._http.request(method, f"{self.url}{path}", timeout=timeout, **content)

    def _refused(self, what: str, response: httpx.Response) -> RayConnectionError:
        return RayConnectionError(f"The Ray dashboard at {self.url} refuses {what}: {_told(response)}")


def _told(response: httpx.Response) -> str:
    """Return status and last line of an answer, which may be a traceback."""
    lines = response.text.strip().splitlines() or [""]
    return f"{response.status_code} {response.reason_phrase}: {lines[-1][:LOG_CHARACTERS]}"


def _trusted(authentication: Authentication) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authentication.tls and authentication.tls.ca_cert:
        context.load_verify_locations(cadata=authentication.tls.ca_cert.decode())
    return context
