"""The README's tour runs as it stands, on free ports."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tour(tmp_path):
    blocks = re.findall(r"^```sh tour\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 10
    script = "set -m\n" + "\n".join(f"{block}\necho '== end of block {n}'" for n, block in enumerate(blocks, 1))
    script = script.replace("8080", _free_port()).replace("2575", _free_port())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = tmp_path / "bin" / "vaguemestre"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hub.app.cli "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "150"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    said = dict(zip(map(str, range(1, 11)), re.split(r"== end of block \d+\n", done.stdout), strict=False))
    assert "record" in said["1"]
    assert "AA" in said["2"] and "Encounter" in said["2"]
    assert said["3"].count(": AA") == 2 and said["3"].count("TOUR1") == 1
    assert "AE 101" in said["4"] and "PID-3" in said["4"] and "refused, as it should be" in said["4"]
    assert "not conformant, and where" in said["4"] and said["4"].count("PID-3") >= 2
    assert "TOUR3" in said["5"] and "DONE" in said["5"]
    assert '"control_id":"TOUR3"' in said["6"].replace(" ", "")
    for kind in ("Patient", "Encounter", "Observation"):
        assert said["6"].count(f'"resourceType":"{kind}"') == 1, kind
    assert said["7"].count("200 is AA") == 2
    assert re.findall(r'"value":([\d.]+)', said["8"]) == ["10.6", "11.2"] and '"title":"Allergies et intolérances"' in said["8"]
    assert "/entryRelationship[1]/observation" in said["9"].partition("Message ")[0]
    assert re.findall(r"finding +(\w+) at /ClinicalDocument", said["9"]) == ["CDA_NO_INS", "NOT_READ"]
    assert "INVENTEE" not in (tmp_path / "tour" / "hub.log").read_text()
