"""`vaguemestre send`, against a running hub and against what is none."""

from __future__ import annotations

import ipaddress
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@pytest.fixture
def hub(installed):
    installed.start()
    yield installed
    installed.stop()


def test_files_and_their_answers(hub):
    good, bad = hub.write("good.hl7"), hub.write("bad.hl7", control="C2", change=("|2.5^FRA^2.11|", "|9.9|"))
    done = hub.send(good)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{good}: AA\n", "")
    done = hub.send(good, bad)
    assert done.returncode == 1
    assert done.stdout == f"{good}: AA\n{bad}: AE 203 at MSH-12: Unsupported version id\n"
    assert done.stderr == "1 message accepted, 1 not\n"
    assert [item["state"] for item in hub.settled(2)] == ["REFUSED", "DONE"]
    sha256 = hub.settled(2)[1]["sha256"]
    crlf = hub.folder / "crlf.hl7"
    crlf.write_bytes(good.read_bytes().replace(b"\n", b"\r\n"))
    assert hub.send(crlf).returncode == 0
    assert hub.settled(2)[1]["sha256"] == sha256  # line ends are made CR: the same message


def test_several_messages_in_one_file_and_on_standard_input(hub, command):
    day = hub.folder / "day.hl7"
    day.write_text("\n".join(hub.write(f"m{n}.hl7", control=f"S{n}", ipp=f"90000{n}").read_text() for n in (1, 2, 3)))
    assert hub.send(day).stdout == f"{day}[1]: AA\n{day}[2]: AA\n{day}[3]: AA\n"
    piped = hub.write("m9.hl7", control="S9", ipp="900009").read_text()
    done = command("send", "--to", f"127.0.0.1:{hub.mllp}", "-", stdin=piped)
    assert (done.returncode, done.stdout) == (0, "-: AA\n")
    assert [item["control_id"] for item in reversed(hub.settled(4))] == ["S1", "S2", "S3", "S9"]


def test_quiet_says_only_what_was_not_accepted(hub, command):
    good, bad = hub.write("good.hl7"), hub.write("bad.hl7", change=("|2.5^FRA^2.11|", "|9.9|"))
    done = command("send", "--quiet", "--to", f"127.0.0.1:{hub.mllp}", good, good)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = command("send", "--quiet", "--to", f"127.0.0.1:{hub.mllp}", good, bad)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{bad}: AE 203")


def test_a_missing_file_stops_before_anything_is_sent(hub):
    done = hub.send(hub.write("good.hl7"), hub.folder / "missing.hl7")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{hub.folder / 'missing.hl7'}: no such file; nothing was sent\n"
    assert hub.json("messages", "list")["items"] == []


def test_nobody_listens(installed):
    one, two = installed.write("one.hl7"), installed.write("two.hl7", control="C2")
    done = installed.send(one)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"nothing listens on 127.0.0.1:{installed.mllp}: is the hub running")
    assert done.stderr.count("\n") == 1
    assert installed.send(one, two).stderr.endswith("0 messages accepted before; what follows was not sent\n")


def test_somebody_listens_and_says_nothing(installed, command):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepted = []  # kept, else the connection is closed at once
        threading.Thread(target=lambda: accepted.append(listener.accept()), daemon=True).start()
        message = installed.write("one.hl7")
        done = command("send", "--timeout", "0.5", "--to", f"127.0.0.1:{listener.getsockname()[1]}", message)
    assert done.returncode == 1
    assert done.stdout == f"{message}: no answer within 0.5 s: it may have arrived all the same, send it again\n"
    assert done.stderr == ""


def write_certificate(installed) -> None:
    """A self-signed certificate of 127.0.0.1 as `hub.pem`, its key as `hub.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (installed.folder / "hub.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (installed.folder / "hub.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_tls_one_way_and_both_ways(installed, command):
    write_certificate(installed)
    server = 'tls_cert_file = "hub.pem"\ntls_key_file = "hub.key"\n'
    pem, key = installed.folder / "hub.pem", installed.folder / "hub.key"
    message, to = installed.write("one.hl7"), f"127.0.0.1:{installed.mllp}"
    installed.configure(source=server)
    installed.start()
    assert command("send", "--to", to, "--ca", pem, message).stdout == f"{message}: AA\n"
    untrusted = command("send", "--to", to, "--tls", message)
    assert (untrusted.returncode, untrusted.stdout) == (1, "")
    assert "is --ca its authority" in untrusted.stderr
    plain = command("send", "--to", to, "--timeout", "3", message)
    assert plain.returncode == 1
    installed.stop()
    installed.configure(source=server + 'tls_client_ca_file = "hub.pem"\n')
    installed.start()
    assert command("send", "--to", to, "--ca", pem, "--timeout", "3", message).returncode == 1
    both = command("send", "--to", to, "--ca", pem, "--cert", pem, "--key", key, message)
    assert (both.returncode, both.stdout) == (0, f"{message}: AA\n")
    installed.stop()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "somewhere"), "--to: 'somewhere' must be HOST:PORT"),
        (("--to", "127.0.0.1:0"), "--to: '127.0.0.1:0' must be HOST:PORT"),
        (("--to", "127.0.0.1:1", "--ca", "no.pem"), "--ca: no.pem is no file"),
        (("--to", "127.0.0.1:1", "--key", "pyproject.toml"), "--key needs --cert"),
        (("--to", "127.0.0.1:1", "--timeout", "0"), "--timeout: must be more than 0 seconds"),
        (("--to", "127.0.0.1:1", "--ca", "pyproject.toml"), "authority not usable"),
    ],
)
def test_wrong_arguments(installed, command, arguments, says):
    done = command("send", *arguments, installed.write("one.hl7"))
    assert done.returncode == 2
    assert says in done.stderr


def test_a_folder_and_a_file_without_message(installed, command, hub):
    done = command("send", "--to", f"127.0.0.1:{hub.mllp}", hub.folder)
    assert done.returncode == 2
    assert "is a folder" in done.stderr
    empty = hub.folder / "empty.hl7"
    empty.write_text("\n\n")
    done = hub.send(empty, hub.write("good.hl7"))
    assert done.returncode == 1
    assert f"{empty}: holds no message" in done.stderr
    assert "good.hl7: AA" in done.stdout
