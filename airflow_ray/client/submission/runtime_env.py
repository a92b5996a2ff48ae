"""The runtime environment of Ray that a user asks for: checked here, where its texts and its files are."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

from airflow_ray.client.submission.rendered import mapping, value_of
from airflow_ray.exceptions import RayConfigurationError

# Those that Ray's ``RuntimeEnv`` knows, but for those that Ray sets itself.
KEYS = frozenset(
    {
        "config",
        "conda",
        "container",
        "env_vars",
        "excludes",
        "image_uri",
        "java_jars",
        "nsight",
        "pip",
        "py_executable",
        "py_modules",
        "rocprof_sys",
        "uv",
        "worker_process_setup_hook",
        "working_dir",
    }
)
# Ray takes lists, mappings, numbers or truths in them, of which a template leaves the text.
_STRUCTURED = frozenset({"config", "conda", "container", "excludes", "java_jars", "pip", "py_modules", "uv"})

log = logging.getLogger(__name__)


def runtime_env_of(value: Any, name: str) -> dict[str, Any]:
    """Return a runtime environment that the cluster can make, from what a template or a connection says.

    Files with requirements are read here, where there are such; others the cluster has to have.

    :param name: what messages call it. They show no variables, which may be secrets.
    :raises RayConfigurationError: it is none, a key is misspelt, or it names files that the cluster cannot see.
    """
    given = mapping(name, value)
    for key in given.keys() - KEYS:
        _refuse_misspelt(name, key)
    runtime_env = {
        key: _structured(part, key == "config") if key in _STRUCTURED else part for key, part in given.items()
    }
    if variables := mapping(f"{name}['env_vars']", runtime_env.pop("env_vars", None)):
        runtime_env["env_vars"] = {key: _text(f"{name}['env_vars'][{key!r}]", each) for key, each in variables.items()}
    _refuse_local_folder(f"{name}['working_dir']", runtime_env.get("working_dir"))
    modules = runtime_env.get("py_modules")
    for number, module in enumerate(modules if isinstance(modules, (list, tuple)) else []):
        _refuse_local_folder(f"{name}['py_modules'][{number}]", module)
    for key in ("pip", "uv"):
        if isinstance(path := runtime_env.get(key), str):
            runtime_env[key] = _requirements(f"{name}[{key!r}]", path)
    conda = str(runtime_env.get("conda"))
    if conda.endswith((".yaml", ".yml")) and not Path(conda).is_absolute():
        raise RayConfigurationError(
            f"{name}['conda'] is the file {runtime_env['conda']!r}, which the cluster does not have: give what it "
            "says, as a mapping"
        )
    return runtime_env


def _refuse_misspelt(name: str, key: Any) -> None:
    nearest = difflib.get_close_matches(str(key).lower(), sorted(KEYS), n=1, cutoff=0.77)
    if nearest:
        raise RayConfigurationError(f"{name} has no key {key!r}; did you mean {nearest[0]!r}?")
    known = ", ".join(sorted(KEYS))
    log.warning(
        "%s has the key %r, which is none of Ray's own (%s): Ray ignores it where the cluster has no plugin of that "
        "name",
        *(name, key, known),
    )


def _structured(value: Any, has_numbers: bool) -> Any:
    """Return lists, mappings and truths in place of the texts that templates make of them."""
    if isinstance(value, dict):
        return {key: _structured(part, has_numbers) for key, part in value.items()}
    if isinstance(value, str):
        parsed = value_of(value)
        return parsed if isinstance(parsed, (list, dict, bool)) or (has_numbers and isinstance(parsed, int)) else value
    return value


def _text(name: str, value: Any) -> str:
    """Return the text of a variable, which native rendering, or JSON, may have as a number."""
    if not isinstance(value, (str, int, float)):
        raise RayConfigurationError(f"{name} must be a text, got a {type(value).__name__}")
    return str(value)


def _refuse_local_folder(name: str, value: Any) -> None:
    if value is None or (isinstance(value, str) and "://" in value):
        return
    shown = value if isinstance(value, str) else getattr(value, "__name__", value)
    raise RayConfigurationError(
        f"{name} is {shown!r}, which only the Airflow worker has: the cluster needs the address of a zip file, "
        "https://…, s3://…, gs://…, or file://… where each node has it. Modules of the DAG folder need no entry, they "
        "travel with the callable; other files may also be part of the cluster's image."
    )


def _requirements(name: str, path: str) -> list[str] | str:
    try:
        lines = map(str.strip, Path(path).read_text().splitlines())
    except OSError as error:
        if Path(path).is_absolute():
            log.info("%s names the file %r, which is not here: the cluster has to have it", name, path)
            return path
        raise RayConfigurationError(
            f"{name} names the file {path!r}, which the Airflow worker cannot read: {error.strerror}. Give its full "
            "path there or on the cluster, or the packages as a list."
        ) from error
    return [line for line in lines if line and not line.startswith("#")]
