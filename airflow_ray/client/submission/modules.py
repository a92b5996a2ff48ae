"""The user's own modules: those of the DAG's folder, which the cluster does not have."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import os
import pkgutil
import sys
import sysconfig
import threading
import tokenize
from typing import TYPE_CHECKING, Any

from airflow_ray.client.forks import free_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from airflow_ray.cluster.protocol import Sources

    _Stamp = tuple[int, int] | None
    # File, source and folder of what is inside of one module.
    _Looked = tuple[str | None, str | None, str | None]
    # Name, stamp, file and source of each module that a name stands for in a folder.
    _Found = dict[tuple[str, str], list[tuple[str, _Stamp, str, str | None]]]


_STDLIB = sysconfig.get_path("stdlib")
_PACKAGE = __name__.partition(".")[0]
# Names of loaded modules that are installed, or of this package: nearly all of them, and there may be thousands.
_not_of_user: set[str] = {*sys.builtin_module_names}
# The other modules that were loaded when somebody last asked, and those of the user's own among them.
_last_asked: tuple[dict[str, ModuleType | None], list[ModuleType]] = {}, []
# Python 3.11 and 3.12 may raise SystemError where two threads make syntax trees at once (CPython issue 106905).
_parsing_lock = free_in_children(threading.Lock())
# Under the name of a module, what it was imported by and its source then: the file may have been changed since.
_sources: dict[str, tuple[Any, str | None]] = {}
# Of each file of a module: its source, the stamps of the files that it imports, and the digest of all.
_digests: dict[str, tuple[str, dict[str, _Stamp], str]] = {}


def modules_of_user() -> list[ModuleType]:
    """Return the loaded modules that are not installed but come from a source file of the user's own."""
    global _last_asked
    loaded = {name: sys.modules.get(name) for name in set(sys.modules).difference(_not_of_user)}
    before, of_user = _last_asked
    # Of modules without a file, which have to be looked at, there may be many as well.
    if before.keys() != loaded.keys() or any(before[name] is not module for name, module in loaded.items()):
        of_user = [module for name, module in loaded.items() if module is not None and _is_of_user(name, module)]
        _last_asked = {name: loaded[name] for name in loaded.keys() - _not_of_user}, of_user
    return [*of_user]


def importable_modules_of_user() -> list[ModuleType]:
    """Return :func:`modules_of_user` without the one that was run as a script: it has no name elsewhere."""
    return [module for module in modules_of_user() if module.__name__ != "__main__"]


def local_modules(folders: Iterable[str]) -> list[ModuleType]:
    """Return the loaded modules of ``folders``."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    return [module for module in importable_modules_of_user() if str(module.__file__).startswith(prefixes)]


def loaded_source(module: ModuleType) -> str | None:
    """Return the source of a loaded module, as it was when this was first asked for; None if there is none."""
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None) or getattr(module, "__loader__", None)
    # A module that is loaded again gets a new one of these.
    imported_by = spec or module
    known = _sources.get(module.__name__)
    if known is None or known[0] is not imported_by:
        name = spec.name if spec else module.__name__
        known = imported_by, _source(loader, name, str(module.__file__))
        _sources[module.__name__] = known
    return known[1]


def _source(loader: Any, name: str, filename: str) -> str | None:
    try:
        if hasattr(loader, "get_source"):
            source: str | None = loader.get_source(name)
            return source
        with tokenize.open(filename) as file:
            return file.read()
    except (OSError, ImportError, SyntaxError, UnicodeDecodeError):
        return None


def unwrap(function: Callable[..., Any]) -> Any:
    """Return the function or class that ``function`` is around, or the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function)


def own_folder(function: Callable[..., Any]) -> list[str]:
    """Return the folder of the module that ``function`` is of, in a list, unless it is installed."""
    module = sys.modules.get(getattr(unwrap(function), "__module__", None) or "")
    filename = getattr(module, "__file__", None)
    return [os.path.dirname(filename)] if filename and not is_installed(filename) else []


def is_installed(filename: str) -> bool:
    """Return whether a file is of an installed package or of Python itself."""
    return "/site-packages/" in filename or "/dist-packages/" in filename or filename.startswith(_STDLIB)


def _is_of_user(loaded_as: str, module: ModuleType) -> bool:
    filename = getattr(module, "__file__", None) or ""
    if is_installed(filename) or loaded_as.partition(".")[0] == _PACKAGE:
        _not_of_user.add(loaded_as)
        return False
    return filename.endswith(".py")


def sources_of(modules: Iterable[ModuleType], folders: Iterable[str]) -> Sources:
    """Return the sources of ``modules`` and of the modules of ``folders`` that they import while they run."""
    sources: dict[str, tuple[str, str]] = {}
    # Most of what modules import is not there, and much is imported by several of them.
    look = functools.cache(_look)
    waiting = [(module.__name__, str(module.__file__), loaded_source(module)) for module in modules]
    while waiting:
        name, filename, source = waiting.pop()
        if name in sources or source is None:
            continue
        sources[name] = filename, source
        for imported in _imported_names(source, name):
            waiting += _located(imported, folders, look)
    found: _Found = {}
    return {name: (*entry, _code_digest(name, *entry, found)) for name, entry in sources.items()}


def code_of(module: ModuleType) -> str | None:
    """Return a digest of all code of the user's that a loaded module runs: its own, and of what it imports beside it.

    None where it has no source.
    """
    source = loaded_source(module)
    return None if source is None else _code_digest(module.__name__, str(module.__file__), source, {})


def _code_digest(name: str, filename: str, source: str, found: _Found) -> str:
    """Return the SHA-256 of a source and of those that it imports from the folder that it is imported from itself.

    It is kept as long as none of their files changes: a process that submits often sends the same modules each time.

    :param found: what was found so far of each folder and name, for the calls that follow.
    """
    kept = _digests.get(filename)
    if kept is not None and kept[0] == source and all(_stamp(file) == stamp for file, stamp in kept[1].items()):
        return kept[2]
    path = filename.removesuffix(".py").removesuffix("/__init__")
    own = f"/{name.replace('.', '/')}"
    root = path.removesuffix(own) if path.endswith(own) else os.path.dirname(filename)
    look = functools.cache(_look)
    sources = {name: source}
    stamps: dict[str, _Stamp] = {}
    waiting = [name]
    while waiting:
        importer = waiting.pop()
        for imported in _imported_names(sources[importer], importer):
            if (root, imported) not in found:
                found[root, imported] = [
                    (inner, _stamp(file), file, text) for inner, file, text in _located(imported, [root], look)
                ]
            for inner, stamp, file, text in found[root, imported]:
                if text is not None and inner not in sources:
                    sources[inner], stamps[file] = text, stamp
                    waiting.append(inner)
    # Airflow loads a DAG file under a name that depends on its full path.
    digest = hashlib.sha256(sources.pop(name).encode(errors="surrogatepass"))
    for inner in sorted(sources):
        digest.update(f"\0{inner}\0{sources[inner]}".encode(errors="surrogatepass"))
    _digests[filename] = source, stamps, digest.hexdigest()
    return digest.hexdigest()


def _stamp(file: str) -> _Stamp:
    """Return what changes when a file does; None for one inside a zip file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=256)
def _imported_names(source: str, module: str) -> tuple[str, ...]:
    """Return what a module imports; kept, as a process that submits often sends the same modules each time."""
    return tuple(dict.fromkeys(_names_in_imports(source, module)))


def _names_in_imports(source: str, module: str) -> Iterator[str]:
    try:
        with _parsing_lock:
            tree = ast.parse(source)
    except SyntaxError:
        return
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _statements(within: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a syntax tree; most of its nodes are in expressions, which import nothing."""
    for block in ("body", "handlers", "cases", "orelse", "finalbody"):
        for statement in getattr(within, block, ()):
            yield statement
            yield from _statements(statement)


def _located(
    name: str, folders: Iterable[str], look: Callable[[str, str], _Looked]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, file and source of a module and of the packages around it.

    :param look: :func:`_look`, or what it has found before.
    """
    parts = name.split(".")
    # This package is none of the user's, though it may lie beside theirs.
    if parts[0] in ("", _PACKAGE):
        return
    for folder in folders:
        path: str | None = folder
        for end in range(1, len(parts) + 1):
            inner = ".".join(parts[:end])
            file, source, path = look(path, inner) if path else (None, None, None)
            if file:
                yield inner, file, source
            # Most of what a module imports is not in its folder, and neither is what that holds.
            if not path:
                break


def _look(folder: str, name: str) -> _Looked:
    """Return file and source of a module in a folder, and the folder of what is inside it, as far as there are such.

    :param folder: it may be a zip file.
    """
    # Not by importlib.util.find_spec, which would import the packages around it.
    finder: Any = pkgutil.get_importer(folder)
    spec = finder and finder.find_spec(name)
    if not spec:
        return None, None, None
    inside = spec.submodule_search_locations[0] if spec.submodule_search_locations else None
    if not str(spec.origin).endswith(".py"):
        return None, None, inside
    return spec.origin, _source(spec.loader, name, spec.origin), inside
