"""`vaguemestre simulate dmp` and `[dmp]`: as a user types them, and what is wrong with them."""

import json
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hub.app.config import ConfigurationRefused, build

ROOT = Path(__file__).resolve().parents[3]


def mistakes(document: str) -> list[tuple[str, str]]:
    try:
        build(tomllib.loads(document), Path("/nowhere/vaguemestre.toml"))
    except ConfigurationRefused as refused:
        return [(one.key, one.reason) for one in refused.mistakes]
    return []


@pytest.mark.parametrize(
    "document, key, word",
    [
        ('[dmp]\nurl = "http://dmp.example/"', "dmp.url", "https"),
        ('[dmp]\nurl = "ftp://127.0.0.1/"', "dmp.url", "https"),
        ('[dmp]\nurl = "https://"', "dmp.url", "https"),
        ('[dmp]\nurl = "https://127.0.0.1:99999/"', "dmp.url", "https"),
        ('[dmp]\nurl = "https://me:secret@dmp.example/"', "dmp.url", "password"),
        ('[dmp]\nurl = "https://dmp.example/?x=1"', "dmp.url", "?"),
        ('[dmp]\nurl = "https://dmp.example/a b"', "dmp.url", "characters"),
        ("[dmp]", "dmp.url", "missing"),
        ('[dmp]\nurl = "https://dmp.example/"\ntls_key_file = "k.pem"', "dmp", "tls_cert_file"),
        ('[dmp]\nurl = "http://127.0.0.1:1/"\ntls_ca_file = "k.pem"', "dmp", "https"),
        ('[dmp]\nurl = "https://dmp.example/"\ntls_ca_file = "k.pem"', "dmp.tls_ca_file", "does not exist"),
        ('[dmp]\nurl = "https://dmp.example/"\nspeed = 3', "dmp.speed", "not a setting"),
        ('[dmp]\nurl = "https://dmp.example/"\nanswer_timeout_s = 0', "dmp.answer_timeout_s", "greater"),
    ],
)
def test_a_mistake_is_told_with_its_key(document, key, word):
    ((found, reason),) = mistakes(document)
    assert found == key and word in reason


def test_production_is_refused_with_every_reason():
    found = mistakes('[hub]\nenvironment = "production"\n[dmp]\nurl = "http://127.0.0.1:8090/"')
    assert [key for key, _ in found] == ["dmp.url", "dmp.tls_cert_file", "dmp"]
    assert "VIHF" in found[2][1] and "XAdES" in found[2][1]
    assert mistakes('[dmp]\nurl = "http://127.0.0.1:8090"') == []


def test_the_graph_shows_the_dmp(installed):
    installed.configure('[dmp]\nurl = "http://127.0.0.1:8090/"')
    graph = installed.json("check")
    dmp = next(one for one in graph["destinations"] if one["name"] == "dmp")
    assert (dmp["connect"], dmp["waits"]) == ("http://127.0.0.1:8090/", "")


def test_it_serves_where_the_configuration_points_and_counts(installed):
    installed.configure(f'[dmp]\nurl = "http://127.0.0.1:{installed.web}/"', hub='name = "X"')
    process = subprocess.Popen(
        [sys.executable, "-m", "hub.app.cli", "simulate", "dmp", "--config", installed.file, "--answer", "mixed"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        url = f"http://127.0.0.1:{installed.web}/"
        assert url in process.stdout.readline()
        for _ in range(200):
            try:
                request = urllib.request.Request(url + "repository", b"no envelope")
                urllib.request.urlopen(request, timeout=5)
            except urllib.error.HTTPError as error:
                assert error.code == 400
                break
            except OSError:
                time.sleep(0.05)
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert json.load(answer) == {"requests": {"unreadable": 1}, "answers": {"fault Sender": 1}, "documents": {}}
        assert process.stdout.readline().rstrip().endswith("unreadable (not XML)")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


@pytest.mark.parametrize(
    "arguments, says",
    [((), "--listen"), (("--listen", "nowhere"), "HOST:PORT"), (("--listen", "127.0.0.1:1", "--answer", "maybe"), "success")],
)
def test_wrong_use(command, arguments, says):
    done = command("simulate", "dmp", *arguments)
    assert done.returncode == 2 and says in done.stderr


def test_a_try_feeds_nobody_and_shows_the_delivery(installed, make_mdm):
    """Nothing listens where [dmp] points; the receipt's ZAM is no second message of the try."""
    installed.configure(
        '[dmp]\nurl = "http://127.0.0.1:9/"\n[[destination]]\nname = "back"\nkind = "mllp"\nconnect = "127.0.0.1:9"',
        source='return_to = "back"',
    )
    file = installed.folder / "report.hl7"
    for raw, state in ((make_mdm("C1", ACK_RECEPTION="Y"), "DELIVERED"), (without_ins(make_mdm), "REFUSED")):
        file.write_bytes(raw)
        shown = json.loads(installed.cli("try", file, "--json").stdout)
        dmp = next(one for one in shown["deliveries"] if one["destination"] == "dmp")
        assert (shown["type"], dmp["state"]) == ("MDM^T02", state)


def without_ins(make_mdm) -> bytes:
    """Without a qualified INS, and with a mail beside the DMP, so that the message is taken."""
    return make_mdm("C2", ACK_RECEPTION="Y", DESTMSSANTEPS="Y").replace(b"||VALI", b"||PROV")
