"""What a mapping worker builds when it starts: the same registry as the main process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from hub.model.refusals import Misconfigured
from mappings.registry import Registry, builtin

ENTRY_POINTS = "vaguemestre.mappings"


def registry(folder: str | None) -> Registry:
    """Our translations, those of installed packages (entry points `vaguemestre.mappings`), and those of a site's folder.

    Raises:
        Misconfigured: a module of the folder cannot be imported.
    """
    found = builtin()
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found = found.with_module(entry_point.load())
    if folder is not None:
        for path in sorted(Path(folder).glob("*.py")):
            if not path.name.startswith("_"):
                found = found.with_module(_module(path))
    return found


def build(folder: str | None) -> Callable[[Any], Any]:
    """For `hub.flow.workshop.Bench`."""
    from hub.flow.carry import work

    return work(registry(folder))


def _module(path: Path) -> ModuleType:
    name = f"vaguemestre_site_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Misconfigured(str(path), "-", "is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Misconfigured(str(path), "-", f"cannot be imported ({type(error).__name__})") from error
    return module
