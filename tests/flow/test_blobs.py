"""Large bodies: one contract on a folder and on a bucket of a real S3-compatible server; the setting that chooses."""

from __future__ import annotations

import base64
import datetime
import errno
import hashlib
import importlib
import ipaddress
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.store.blobs import BlobFolder, SyncFailed
from hub.store.bucket import BlobBucket, BucketAddress, open_blobs, parse_blobs
from hub.store.port import BlobDamaged, StoreUnavailable

BODY = b"MSH|^~\\&|LABO|TESTUT^ZOE\r" * 11_000  # over 256 KiB
SECRET = "vagueSECRETmestreSECRET0123456789abcdefg"
KEYS = {"AWS_ACCESS_KEY_ID": "VAGUETESTKEY00000001", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
PROGRAMS = ("boto3", "moto", "werkzeug", "flask")


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def keep(blobs, content: bytes) -> bytes:
    blobs.write(digest(content), content)
    blobs.sync_folders()
    return digest(content)


class Server:
    """A moto server in threads of this process, on a free port of the loopback."""

    def __init__(self, tls: tuple[Path, Path] | None = None, *, port: int = 0) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        class Quiet(MotoRequestHandler):
            def log(self, *_args: object) -> None:
                pass

        app = DomainDispatcherApplication(create_backend_app)
        context = tuple(map(str, tls)) if tls else None
        self._server = make_server("127.0.0.1", port, self._noted(app), True, request_handler=Quiet, ssl_context=context)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"
        self.requests: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _noted(self, app):
        def noted(environ, start_response):
            self.requests.append({name: value for name, value in environ.items() if isinstance(value, str)})
            return app(environ, start_response)

        return noted

    def ask(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def need(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            if os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES"):
                pytest.fail(f"{name} is required and not installed")
            pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module")
def server():
    need(*PROGRAMS)
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def keys(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))


class Folder:
    """A folder as two processes see it, and how a test reaches behind it."""

    def __init__(self, root: Path) -> None:
        self.one, self.two = BlobFolder(root), BlobFolder(root)
        self.root = root

    def alter(self, sha256: bytes, content: bytes) -> None:
        self.one.path(sha256).write_bytes(content)

    def names(self) -> list[str]:
        return sorted(str(file.relative_to(self.root)) for file in self.root.rglob("*") if file.is_file())

    def name(self, sha256: bytes) -> str:
        return f"{sha256.hex()[0]}/{sha256.hex()}"


class Bucket:
    def __init__(self, url: str, name: str) -> None:
        import boto3

        self.direct = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        self.direct.create_bucket(Bucket=name)
        self.bucket = name
        address = BucketAddress(bucket=name, prefix="bodies/v1", endpoint=url)
        self.one, self.two = BlobBucket(address), BlobBucket(address)

    def alter(self, sha256: bytes, content: bytes) -> None:
        self.direct.put_object(Bucket=self.bucket, Key=self.name(sha256), Body=content)

    def names(self) -> list[str]:
        return [found["Key"] for found in self.direct.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def name(self, sha256: bytes) -> str:
        return f"bodies/v1/{sha256.hex()}"


@pytest.fixture
def bucket(request, keys):
    return Bucket(request.getfixturevalue("server").url, "b" + os.urandom(8).hex())


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    return Folder(tmp_path / "blobs") if request.param == "folder" else request.getfixturevalue("bucket")


# ---- the contract --------------------------------------------------------------------------------------------------


def test_what_one_process_keeps_another_reads(place):
    assert place.two.read(keep(place.one, BODY)) == BODY
    assert place.names() == [place.name(digest(BODY))]


def test_twice_the_same_is_once(place):
    for blobs in (place.one, place.one, place.two):
        assert keep(blobs, BODY) == digest(BODY)
    assert place.names() == [place.name(digest(BODY))]
    assert place.one.read(digest(BODY)) == BODY


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 20 << 20])
def test_bodies_of_all_sizes(place, size):
    content = os.urandom(size)
    assert place.two.read(keep(place.one, content)) == content


@pytest.mark.parametrize(
    "altered",
    [BODY[:100] + bytes([BODY[100] ^ 1]) + BODY[101:], BODY[:100_000], b"", BODY + b"\r"],
    ids=["a bit flipped", "cut short", "emptied", "longer"],
)
def test_altered_bytes_are_found_and_made_good_by_the_next_writer(place, altered):
    keep(place.one, BODY)
    place.alter(digest(BODY), altered)
    with pytest.raises(BlobDamaged) as error:
        place.two.read(digest(BODY))
    assert "TESTUT" not in str(error.value) and digest(BODY).hex() not in str(error.value)
    keep(place.two, BODY)
    assert place.one.read(digest(BODY)) == BODY


def test_a_body_that_was_never_kept_is_damaged(place):
    keep(place.one, BODY)
    with pytest.raises(BlobDamaged, match="missing"):
        place.one.read(digest(b"another"))


def test_removed_and_kept_again(place):
    keep(place.one, BODY)
    other = keep(place.one, b"another")
    place.two.remove(digest(BODY))
    place.two.remove(digest(BODY))
    assert place.names() == [place.name(other)]
    with pytest.raises(BlobDamaged):
        place.one.read(digest(BODY))
    assert place.one.read(keep(place.one, BODY)) == BODY


def test_many_writers_of_the_same_body_and_readers_meanwhile(place):
    keep(place.one, BODY)
    bodies = [BODY + bytes([n]) for n in range(3)]
    with ThreadPoolExecutor(12) as threads:
        writes = [threads.submit(keep, blobs, body) for _ in range(4) for blobs in (place.one, place.two) for body in bodies]
        reads = [threads.submit(place.two.read, digest(BODY)) for _ in range(8)]
        assert {write.result() for write in writes} == {digest(body) for body in bodies}
        assert {read.result() for read in reads} == {BODY}
    assert [place.two.read(digest(body)) for body in bodies] == bodies
    assert sorted(place.names()) == sorted(place.name(digest(body)) for body in (BODY, *bodies))


def test_clearing_parts_leaves_the_bodies(place):
    keep(place.one, BODY)
    place.two.clear_parts()
    assert place.one.read(digest(BODY)) == BODY


# ---- the folder ----------------------------------------------------------------------------------------------------


WRITER = """
import hashlib, pathlib, sys
from hub.store.blobs import BlobFolder
root, body = pathlib.Path(sys.argv[1]), sys.stdin.buffer.read()
blobs = BlobFolder(root)
for n in range(40):
    blobs.clear_parts()
    content = body + bytes([n])
    digest = hashlib.sha256(content).digest()
    blobs.remove(digest)  # so that it is written again, not found
    blobs.write(digest, content)
    blobs.sync_folders()
"""


def test_processes_that_start_do_not_take_parts_from_those_that_write(tmp_path):
    root, body = tmp_path / "blobs", tmp_path / "body"
    body.write_bytes(BODY)
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, root], stdin=body.open("rb")) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    blobs = BlobFolder(root)
    for n in range(40):
        assert blobs.read(digest(BODY + bytes([n]))) == BODY + bytes([n])
    assert list((root / "parts").iterdir()) == []


def test_parts_of_the_dead_are_removed_after_an_hour(tmp_path):
    blobs = BlobFolder(tmp_path / "blobs")
    old, young = tmp_path / "blobs" / "parts" / "old.1", tmp_path / "blobs" / "parts" / "young.1"
    for part, age_s in ((old, 2 * 3600), (young, 600)):
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age_s,) * 2)
    blobs.clear_parts()
    assert not old.exists() and young.exists()


def test_a_full_disk_leaves_no_part_and_raises(tmp_path, monkeypatch):
    blobs = BlobFolder(tmp_path / "blobs")

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        blobs.write(digest(BODY), BODY)
    monkeypatch.undo()
    assert list((tmp_path / "blobs" / "parts").iterdir()) == []
    assert blobs.read(keep(blobs, BODY)) == BODY


def test_a_second_commit_waits_for_the_sync_under_way_and_shares_its_failure(tmp_path, monkeypatch):
    blobs = BlobFolder(tmp_path / "blobs")
    blobs.write(digest(BODY), BODY)
    syncing, go_on = threading.Event(), threading.Event()

    def fails_late(_fd):
        syncing.set()
        assert go_on.wait(60)
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", fails_late)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(blobs.sync_folders)
        assert syncing.wait(60)
        second = threads.submit(blobs.sync_folders)
        time.sleep(0.2)
        assert not second.done()
        monkeypatch.setattr(os, "fsync", lambda _fd: None)  # the kernel tells of it once
        go_on.set()
        for commit in (first, second):
            with pytest.raises(SyncFailed):
                commit.result()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.EACCES])
def test_a_folder_that_does_not_answer_is_not_a_damaged_body(tmp_path, monkeypatch, code):
    blobs = BlobFolder(tmp_path / "blobs")
    keep(blobs, BODY)

    def fails(_path):
        raise OSError(code, "no")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(StoreUnavailable, match=errno.errorcode[code]):
        blobs.read(digest(BODY))


@pytest.mark.parametrize(("writes", "expected"), [(True, BlobDamaged), (False, StoreUnavailable)])
def test_an_io_error_is_damage_when_the_disk_works_otherwise(tmp_path, monkeypatch, writes, expected):
    blobs = BlobFolder(tmp_path / "blobs")
    keep(blobs, BODY)

    def fails(_path):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    if not writes:
        monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(expected):
        blobs.read(digest(BODY))


def test_a_mount_that_went_away_is_not_a_damaged_body(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    blobs = open_blobs(str(mount / "."), tmp_path / "unused")
    keep(blobs, BODY)
    mount.rename(tmp_path / "elsewhere")
    mount.mkdir()
    with pytest.raises(StoreUnavailable, match="not there"):
        blobs.read(digest(BODY))
    with pytest.raises(OSError):
        blobs.write(digest(b"another"), b"another")


# ---- the bucket ----------------------------------------------------------------------------------------------------


def test_a_body_that_is_there_is_not_sent_again(server, bucket):
    keep(bucket.one, BODY)
    before = len(server.requests)
    keep(bucket.two, BODY)
    assert [request["REQUEST_METHOD"] for request in server.requests[before:]] == ["HEAD"]


def told(server: Server) -> tuple[str, str]:
    """The two SHA-256 of the last PUT: in the signature (any server of S3 checks it), and as a checksum of its own."""
    put = [request for request in server.requests if request["REQUEST_METHOD"] == "PUT"][-1]
    return put["HTTP_X_AMZ_CONTENT_SHA256"], base64.b64decode(put["HTTP_X_AMZ_CHECKSUM_SHA256"]).hex()


def test_the_server_is_told_the_digest(server, bucket):
    content = os.urandom(1000)
    keep(bucket.one, content)
    assert told(server) == (digest(content).hex(),) * 2


def test_nothing_listens(keys):
    need("boto3")
    with socket.socket() as held:  # bound and not listening: nobody else takes the port
        held.bind(("127.0.0.1", 0))
        blobs = BlobBucket(BucketAddress("bodies", endpoint=f"http://127.0.0.1:{held.getsockname()[1]}"))
        for act in (lambda: keep(blobs, BODY), lambda: blobs.read(digest(BODY)), lambda: blobs.remove(digest(BODY))):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable, match="does not answer"):
                act()
            assert time.monotonic() - begun < 60


def test_a_server_that_goes_away_and_comes_back(keys):
    need(*PROGRAMS)
    running = Server()
    place = Bucket(running.url, "bodies-" + os.urandom(4).hex())
    keep(place.one, BODY)
    running.stop()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        place.one.read(digest(BODY))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        place.one.write(digest(b"another"), b"another")
    running = Server(port=int(running.url.rpartition(":")[2]))
    try:
        assert place.one.read(digest(BODY)) == BODY
        assert place.one.read(keep(place.one, b"another")) == b"another"
    finally:
        running.stop()


@pytest.mark.parametrize("answer", ["half a body", "another answer", "a bare 404", "not HTTP"])
def test_an_answer_that_is_not_the_object_is_not_a_damaged_body(keys, answer):
    need("boto3")
    said = {
        "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\nMSH|TESTUT',
        "another answer": b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<p>TESTUT</p>\n",
        "a bare 404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "not HTTP": b"TESTUT\r\n\r\n",
    }[answer]

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        blobs = BlobBucket(BucketAddress("bodies", endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}"))
        with pytest.raises(StoreUnavailable) as error:
            blobs.read(digest(BODY))
        assert "TESTUT" not in str(error.value)
        listening.shutdown(socket.SHUT_RDWR)


def test_a_bucket_that_does_not_exist_is_not_a_damaged_body(server, keys):
    blobs = BlobBucket(BucketAddress("never-made", endpoint=server.url))
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        blobs.read(digest(BODY))
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        blobs.write(digest(BODY), BODY)


def test_wrong_credentials_are_told_without_them(server, bucket, capfd, caplog):
    keep(bucket.one, BODY)
    caplog.set_level(logging.DEBUG)
    server.ask("/moto-api/reset-auth", b"0")  # from now on the server checks who asks
    try:
        for act in (lambda: bucket.one.write(digest(b"another"), b"another"), lambda: bucket.one.read(digest(BODY))):
            with pytest.raises(StoreUnavailable, match="refuses") as error:
                act()
            assert bucket.bucket in str(error.value)
            assert SECRET not in str(error.value) and KEYS["AWS_ACCESS_KEY_ID"] not in str(error.value)
            assert error.value.__cause__ is None and error.value.__suppress_context__
    finally:
        server.ask("/moto-api/reset-auth", b"inf")
    ours = [line for line in caplog.records if line.name.split(".")[0] in ("boto3", "botocore", "urllib3", "s3transfer")]
    assert ours == []
    out, err = capfd.readouterr()
    assert SECRET not in out + err and KEYS["AWS_ACCESS_KEY_ID"] not in out + err


def test_no_credentials(keys, monkeypatch):
    need("boto3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreUnavailable, match="no credentials: AWS_ACCESS_KEY_ID"):
        BlobBucket(BucketAddress("bodies", endpoint="http://127.0.0.1:1"))


def test_credentials_of_a_file(server, bucket, keys, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {KEYS['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    blobs = open_blobs(f"s3://{bucket.bucket}?endpoint={server.url}", tmp_path)
    assert blobs.read(keep(blobs, BODY)) == BODY
    assert bucket.names() == [digest(BODY).hex()]


def test_without_boto3_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreUnavailable, match=re.escape("pip install 'vaguemestre[s3]'")):
        open_blobs("s3://bodies", tmp_path)


# ---- the bucket over TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    need("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stockage d'essai")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem, secret = folder / "ca.pem", folder / "key.pem"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


@pytest.fixture
def tls_server(certificate):
    need(*PROGRAMS)
    running = Server(certificate)
    yield running
    running.stop()


def test_tls_with_an_authority_of_ones_own(tls_server, bucket, certificate, tmp_path):
    setting = f"s3://{bucket.bucket}/tls?endpoint={tls_server.url}&region=eu-west-3&ca_file={certificate[0].name}"
    blobs = open_blobs(setting, tmp_path, base=certificate[0].parent)
    assert blobs.read(keep(blobs, BODY)) == BODY
    assert told(tls_server) == (digest(BODY).hex(),) * 2
    assert "x-amz-content-sha256" in tls_server.requests[-1]["HTTP_AUTHORIZATION"]


def test_tls_refuses_a_certificate_of_nobody(tls_server, keys, tmp_path):
    blobs = open_blobs(f"s3://bodies?endpoint={tls_server.url}", tmp_path)
    with pytest.raises(StoreUnavailable, match="certificate is not accepted"):
        blobs.read(digest(BODY))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read(keys, tmp_path, content):
    need("boto3")
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(StoreUnavailable, match="ca_file is not read"):
        open_blobs("s3://bodies?ca_file=ca.pem", tmp_path, base=tmp_path)


# ---- the setting ---------------------------------------------------------------------------------------------------


def test_no_setting_is_the_folder_beside_the_data(tmp_path):
    assert parse_blobs("") is None
    blobs = open_blobs("", tmp_path / "data" / "blobs")
    assert blobs.read(keep(blobs, BODY)) == BODY
    assert (tmp_path / "data" / "blobs" / digest(BODY).hex()[0] / digest(BODY).hex()).read_bytes() == BODY


def test_a_path_is_a_folder_that_must_be_there(tmp_path):
    assert parse_blobs("shared/bodies") == Path("shared/bodies")
    with pytest.raises(StoreUnavailable, match=r"not there \(ENOENT\)"):
        open_blobs("shared", tmp_path / "unused", base=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "shared").mkdir()
    keep(open_blobs("shared", tmp_path / "unused", base=tmp_path), BODY)
    assert open_blobs(str(tmp_path / "shared"), tmp_path / "unused").read(digest(BODY)) == BODY
    assert not (tmp_path / "unused").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="ENOTDIR"):
        open_blobs("file", tmp_path, base=tmp_path)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("s3://bodies", BucketAddress("bodies")),
        ("s3://bodies/", BucketAddress("bodies")),
        ("s3://bodies/chu/v1/", BucketAddress("bodies", prefix="chu/v1")),
        (
            "s3://my.bodies/p?endpoint=https://s3.chu.example:9000/&region=fr-par&ca_file=/etc/ca.pem&path_style=false",
            BucketAddress("my.bodies", "p", "https://s3.chu.example:9000", "fr-par", Path("/etc/ca.pem"), False),
        ),
        ("s3://bodies?endpoint=https%3A%2F%2F[::1]:9000", BucketAddress("bodies", endpoint="https://[::1]:9000")),
        ("s3://bodies?path_style=true&region=", BucketAddress("bodies", path_style=True)),
    ],
)
def test_a_bucket_is_read_from_the_setting(setting, expected):
    assert parse_blobs(setting) == expected


@pytest.mark.parametrize(
    "setting",
    [
        "https://SECRETWORD.example/bodies",
        "s3:/SECRETWORD",
        "s3://",
        "s3:///SECRETWORD",
        "s3://SECRETWORD",
        "s3://[SECRETWORD",
        "s3://key:SECRETWORD@bodies",
        "s3://bodies:90/SECRETWORD",
        "s3://bodies/../SECRETWORD",
        "s3://bodies/a//SECRETWORD",
        "s3://bodies/SECRETWORD%0a",
        "s3://bodies/é-SECRETWORD",
        "s3://bodies/SECRETWORD#part",
        "s3://bodies?secret_key=SECRETWORD",
        "s3://bodies?SECRETWORD",
        "s3://bodies?region=a&region=SECRETWORD",
        "s3://bodies?region=SECRETWORD/",
        "s3://bodies?path_style=SECRETWORD",
        "s3://bodies?endpoint=SECRETWORD",
        "s3://bodies?endpoint=ftp://SECRETWORD",
        "s3://bodies?endpoint=https://SECRETWORD:port",
        "s3://bodies?endpoint=https://SECRETWORD:0",
        "s3://bodies?endpoint=https://SECRETWORD/bodies",
        "s3://bodies?endpoint=https://key:SECRETWORD@host",
        "s3://bodies?endpoint=https://[SECRETWORD",
        "blobs\0SECRETWORD",
    ],
)
def test_a_wrong_setting_is_a_sentence_that_repeats_nothing(setting, tmp_path):
    with pytest.raises(ValueError, match=r"^(is|has|holds) ") as error:
        parse_blobs(setting)
    assert "SECRETWORD" not in str(error.value)
    assert error.value.__cause__ is None
    with pytest.raises(ValueError):
        open_blobs(setting, tmp_path)
