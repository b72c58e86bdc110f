"""Fixtures that every test may use. Everything real runs on loopback, on free ports, and is stopped by its fixture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of official samples (`hl7v2/`, `cda/`)."""
    folder = os.environ.get("VAGUEMESTRE_SAMPLES")
    if not folder:
        pytest.skip("official samples: VAGUEMESTRE_SAMPLES is not set")
    return Path(folder)
