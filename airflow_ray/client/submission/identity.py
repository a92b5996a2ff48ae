"""The same ids for the classes of the user's own modules in each of Airflow's processes and on the cluster."""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import TYPE_CHECKING

from airflow_ray.client.submission.modules import code_of, is_installed, modules_of_user
from airflow_ray.cluster.values.cloudpickles import use_of_airflow
from airflow_ray.cluster.values.identity import id_of, look_for_classes, own_classes, place_of, track, whole_classes

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger(__name__)


def keep_identities() -> None:
    """Let this process know its classes by their ids, before it pickles or unpickles something.

    What is unpickled is then of these classes, and leaves their attributes as they are.
    """
    use_of_airflow()
    look_for_classes(_import_module_of_user)
    whole = whole_classes()
    new = {cls: module for module in modules_of_user() for cls in own_classes(module) if cls not in whole}
    codes = {module.__name__: code_of(module) for module in set(new.values())}
    for cls in new:
        _identify(cls, new, codes)


def _identify(cls: type, new: dict[type, ModuleType], codes: dict[str, str | None]) -> None:
    """Track a class after those of ``new`` that its id is made of.

    :param codes: what :func:`code_of` says of each module.
    """
    for base in (*cls.__bases__, type(cls)):
        if base in new:
            _identify(base, new, codes)
    module = new[cls]
    code = codes[module.__name__]
    # Without it, nobody can tell whether the class is the same elsewhere.
    if code is not None:
        track(cls, id_of(cls, place_of(module.__name__, str(module.__file__)), code))


def _import_module_of_user(name: str) -> None:
    """Import a module that an unpickled class is of, if it is one of the user's own.

    A callable that imports it later would otherwise get a class that its value is not of.
    """
    package = name.partition(".")[0]
    if name in sys.modules or package == __name__.partition(".")[0]:
        return
    try:
        spec = importlib.util.find_spec(package)
        places = [spec.origin] if spec and spec.origin else [*((spec and spec.submodule_search_locations) or ())]
        if all(map(is_installed, places)):
            return
        importlib.import_module(name)
    # What a module raises while it is imported is anything, and a script may exit. The pickle has a copy of the class.
    except (Exception, SystemExit) as error:
        log.debug("Module %s of an unpickled class cannot be imported here: %s", name, error)
    keep_identities()
