"""Compiling kernels with numba, once for all workspaces of a checkout.

numba keeps machine code beside the source, by the hash of that one file. A queued experiment runs in a workspace of its
own, where nothing lies beside the source yet; and a kernel holds the machine code and the constants of modules that it
imports, which numba does not look at. So the code is kept in the state that all workspaces share, under the content of
the kernel's module and of every project module that it imports, directly or not.
"""

import ast
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, Self

import numba as nb
from numba.core import config
from numba.core.caching import UserProvidedCacheLocator

from tasks.core.paths import FORGOTTEN_AFTER_S, state_folder

PROJECT = Path(__file__).resolve().parents[2]


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL; keep the machine code where the other workspaces of the checkout find it."""
    try:
        compiled: Callable[..., Any] = nb.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        compiled = nb.njit(nogil=True)(function)
    return compiled


class SharedCacheLocator(UserProvidedCacheLocator):  # type: ignore[misc]
    """Where numba keeps the machine code of this project's kernels: `<state>/kernels/<module>-<hash of the sources>`."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        module = Path(py_file).resolve()
        self._stamp = hashlib.sha256(b"".join(path.read_bytes() for path in source_files(module))).hexdigest()
        self._cache_path = str(state_folder(PROJECT) / "kernels" / f"{module.stem}-{self._stamp[:16]}")

    def get_source_stamp(self) -> str:
        """What the machine code in an index was made of; another stamp, and it is not used."""
        return self._stamp

    def ensure_cache_path(self) -> None:
        """Make the folder, or note that it is in use; those that nothing used for a month go when one is made."""
        folder = Path(self._cache_path)
        if not folder.exists():
            _remove_old_caches(folder.parent)
        super().ensure_cache_path()
        os.utime(folder)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self | None:
        """The locator of one of this project's functions; None for others', where a NUMBA_CACHE_DIR is set or nothing can be written."""
        try:
            if config.CACHE_DIR or not Path(py_file).resolve().is_relative_to(PROJECT / "tasks"):
                return None
            locator = cls(py_func, py_file)
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


def _remove_old_caches(folder: Path) -> None:
    for old in folder.glob("*"):
        with suppress(FileNotFoundError):  # another process forgets it
            if time.time() - old.stat().st_mtime > FORGOTTEN_AFTER_S:
                shutil.rmtree(old, ignore_errors=True)


def source_files(module: Path) -> list[Path]:
    """The file of a module and those of all project modules that it imports, directly or not, in a fixed order."""
    found, waiting = {module}, [module]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return sorted(found)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Files of the project's modules that a file imports, anywhere in it; not those of the frame."""
    package = ".".join(path.relative_to(PROJECT).parts[:-1])
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    of_project = [name for name in names if name.startswith("tasks.") and not name.startswith("tasks.core")]
    files = [PROJECT.joinpath(*name.split(".")) for name in of_project]
    candidates = [path for file in files for path in (file.with_suffix(".py"), file / "__init__.py")]
    return tuple(path for path in candidates if path.is_file())


_NUMBAS_OWN = (
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
    "IPythonCacheLocator",
    "ZipCacheLocator",
)
config.CACHE_LOCATOR_CLASSES = ",".join([f"{__name__}.{SharedCacheLocator.__name__}", *_NUMBAS_OWN])
