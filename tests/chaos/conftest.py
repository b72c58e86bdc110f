"""Chaos: a cluster of real processes over real servers, broken at random, and a checker that reads the whole history.

`chaos_history`, `chaos_driver`, … are the modules that the tests share. `VAGUEMESTRE_CHAOS=full` runs the scenarios whole,
with the seed of `VAGUEMESTRE_CHAOS_SEED` and a random mix of `VAGUEMESTRE_CHAOS_MINUTES` (5).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))  # bench is not installed


def _load(name: str) -> None:
    full = f"chaos_{name}"
    if full in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)


for _name in ("history", "checker", "proxy", "ends", "cluster", "faults", "scenarios"):
    _load(_name)
