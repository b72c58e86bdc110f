"""Official samples through our reader and python-hl7: every leaf the same."""

import os
from pathlib import Path

import hl7
import pytest

from hub.formats.er7 import join, read, splice

FOLDER = os.environ.get("VAGUEMESTRE_SAMPLES")
SAMPLES = sorted(path for path in Path(FOLDER, "hl7v2").iterdir() if path.suffix in {".hl7", ".er7"}) if FOLDER else []

pytestmark = pytest.mark.skipif(not SAMPLES, reason="VAGUEMESTRE_SAMPLES names no folder with hl7v2/")


@pytest.mark.parametrize("path", SAMPLES or [None], ids=lambda path: path.name if path else "none")
def test_same_leaves_as_python_hl7(path: Path):
    raw = path.read_bytes()
    ours = read(raw)
    assert join(ours) == raw
    assert splice(ours, {}) == raw
    lines = [line for line in raw.decode().replace("\r\n", "\r").replace("\n", "\r").split("\r") if line.strip()]
    theirs = hl7.parse("\r".join(lines))
    assert [segment.name for segment in ours.segments()] == [str(segment[0]) for segment in theirs]
    leaves = 0
    for mine, other in zip(ours.segments(), theirs, strict=True):
        assert mine.field_count() == len(other) - 1
        for field in range(1, len(other)):
            assert mine.raw(field).decode() == str(other[field])
            if mine.name == "MSH" and field <= 2:
                continue
            repetitions = list(other[field]) if str(other[field]) else []
            assert mine.repetitions(field) == len(repetitions)
            for at_repetition, repetition in enumerate(repetitions, 1):
                components = list(repetition) if isinstance(repetition, hl7.Repetition) else [repetition]
                for at_component, component in enumerate(components, 1):
                    parts = list(component) if isinstance(component, hl7.Component) else [component]
                    for at_part, part in enumerate(parts, 1):
                        text = mine.text(field, at_component, repetition=at_repetition, subcomponent=at_part)
                        assert text == theirs.unescape(str(part)).strip()
                        leaves += 1
    assert leaves > 5
    assert ours.control_id == str(theirs["MSH.10"]).strip()
