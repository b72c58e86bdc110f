"""Large bodies in an S3-compatible bucket, and the setting that says where large bodies are kept.

boto3 is imported when a bucket is opened, not before: `pip install 'vaguemestre[s3]'`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import re
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hub.store.blobs import BlobFolder, Blobs
from hub.store.port import BlobDamaged, StoreUnavailable

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS, CONNECTIONS = 3, 30, 3, 16
_OPTIONS = ("endpoint", "region", "ca_file", "path_style")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX = re.compile(r"(?:[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*)?", re.ASCII)
_SPOKEN = ("boto3", "botocore", "s3transfer", "urllib3")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A bucket and how it is reached. Never its credentials: boto3 finds those in its files and in the environment."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""  # "" is AWS
    region: str = ""
    ca_file: Path | None = None  # PEM; None is the authorities that boto3 trusts
    path_style: bool | None = None  # None: with an endpoint of one's own


def parse_blobs(setting: str) -> Path | BucketAddress | None:
    """Where large bodies go: a folder, a bucket, or None for the folder beside the data. Reads nothing.

    `s3://bucket/prefix?endpoint=https://host:port&region=…&ca_file=…&path_style=true`, each option at most once.

    Raises:
        ValueError: a sentence that repeats no value of the setting.
    """
    if not setting:
        return None
    if "\0" in setting:
        raise ValueError("holds a NUL")
    if "://" not in setting and not setting.startswith("s3:"):
        return Path(setting)
    if not setting.startswith("s3://"):
        raise ValueError("is neither a path nor s3://bucket/prefix")
    try:
        parts = urlsplit(setting)
    except ValueError:
        raise ValueError("is not s3://bucket/prefix") from None
    if "@" in parts.netloc:
        raise ValueError("holds credentials: they belong in the environment or in the files of boto3")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("has no bucket name of 3 to 63 small letters, digits, dots and hyphens after s3://")
    prefix = unquote(parts.path).strip("/")
    if not _PREFIX.fullmatch(prefix) or len(prefix) > 512 or {".", ".."} & set(prefix.split("/")) or parts.fragment:
        raise ValueError("has a prefix with characters that do not belong in a key")
    options = _options(parts.query)
    return BucketAddress(
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=_endpoint(options.get("endpoint", "")),
        region=_word(options.get("region", ""), "region"),
        ca_file=Path(options["ca_file"]) if options.get("ca_file") else None,
        path_style=_yes_or_no(options.get("path_style", "")),
    )


def open_blobs(setting: str, default_folder: Path, *, base: Path = Path()) -> Blobs:
    """The bodies that `setting` names; paths in it are relative to `base`. A folder that is set must be there.

    Raises:
        ValueError: as `parse_blobs`.
        StoreUnavailable: the folder is missing or takes no writes; boto3 is missing, has no credentials or does not read the CA.
    """
    where = parse_blobs(setting)
    if isinstance(where, BucketAddress):
        return BlobBucket(where, base=base)
    try:
        return BlobFolder(default_folder) if where is None else BlobFolder(base / where, make_root=False)
    except OSError as error:
        what = "is not there" if isinstance(error, FileNotFoundError) else "does not take writes"
        raise StoreUnavailable(f"the blob folder {what} ({errno.errorcode.get(error.errno or 0, 'OSError')})") from None


class BlobBucket:
    """Objects named prefix + digest. An object is whole or absent, and durable when its PUT has been answered.

    The server checks the bytes of a PUT against their SHA-256, in the signature and in the checksum header.
    """

    def __init__(self, address: BucketAddress, *, base: Path = Path()) -> None:
        """Opens no connection to the bucket.

        Raises:
            StoreUnavailable: as `open_blobs`.
        """
        self.name = f"the bucket {address.bucket}"
        self._bucket = address.bucket
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._client = _client(address, base, self.name)

    def write(self, sha256: bytes, content: bytes) -> None:
        """Put `content`, unless the object is there with the same size and MD5 (ETag).

        Raises:
            StoreUnavailable: the bucket does not answer, or refuses.
        """
        with self._answering():
            if not self._holds(sha256, content):
                checksum = base64.b64encode(sha256).decode()
                self._client.put_object(**self._object(sha256), Body=content, ChecksumSHA256=checksum)

    def sync_folders(self) -> None:
        pass

    def read(self, sha256: bytes) -> bytes:
        for _ in range(2):  # once more, should the way have altered them
            with self._answering():
                content: bytes = self._client.get_object(**self._object(sha256))["Body"].read()
            if hashlib.sha256(content).digest() == sha256:
                return content
        raise BlobDamaged("a stored body object is not the bytes it was")

    def clear_parts(self) -> None:
        pass

    def remove(self, sha256: bytes) -> None:
        with contextlib.suppress(BlobDamaged), self._answering():
            self._client.delete_object(**self._object(sha256))

    def _object(self, sha256: bytes) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + sha256.hex()}

    def _holds(self, sha256: bytes, content: bytes) -> bool:
        from botocore.exceptions import ClientError

        try:
            head = self._client.head_object(**self._object(sha256))
        except ClientError:  # not there, or a HEAD is not allowed: the PUT tells
            return False
        if head["ContentLength"] != len(content):
            return False
        # a server that encrypts may give another ETag: the body is then put again
        return bool(head.get("ETag", "").strip('"') == hashlib.md5(content, usedforsecurity=False).hexdigest())

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Boto's errors as ours. Their texts hold keys, addresses and what a server chose to write: only codes are kept."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, SSLError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            code = re.sub(r"[^A-Za-z0-9]", "", str(error.response.get("Error", {}).get("Code", "")))[:40]
            if code == "NoSuchKey":
                raise BlobDamaged("a stored body object is missing") from None
            raise StoreUnavailable(f"{self.name} refuses ({code or 'no code'})") from None
        except NoCredentialsError:
            raise StoreUnavailable(_no_credentials(self.name)) from None
        except SSLError:
            raise StoreUnavailable(f"{self.name} does not answer: its certificate is not accepted (SSLError)") from None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StoreUnavailable(f"{self.name} does not answer ({type(error).__name__})") from None


def _client(address: BucketAddress, base: Path, name: str) -> Any:
    """A client of boto3; it may be used by several threads at once."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise StoreUnavailable(f"{name} needs boto3: pip install 'vaguemestre[s3]'") from None
    for logger in _SPOKEN:  # their lines hold addresses and headers
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    ca_file = base / address.ca_file if address.ca_file else None
    if ca_file:
        _check_ca(ca_file, name)
    path_style = bool(address.endpoint) if address.path_style is None else address.path_style
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "max_pool_connections": CONNECTIONS,
        "signature_version": "s3v4",
        "tcp_keepalive": True,
        "s3": {"addressing_style": "path" if path_style else "auto", "payload_signing_enabled": True},
    }
    try:
        if "response_checksum_validation" in Config.OPTION_DEFAULTS:  # since boto3 1.36; the digest is ours to check
            options |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Boto3 will no longer support")
            session = boto3.session.Session()
            if session.get_credentials() is None:
                raise StoreUnavailable(_no_credentials(name))
            return session.client(
                "s3",
                endpoint_url=address.endpoint or None,
                region_name=address.region or ("us-east-1" if address.endpoint else None),
                verify=str(ca_file) if ca_file else None,
                config=Config(**options),
            )
    except (BotoCoreError, ValueError) as error:
        raise StoreUnavailable(f"{name} cannot be opened ({type(error).__name__})") from None


def _check_ca(ca_file: Path, name: str) -> None:
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise StoreUnavailable(f"{name} cannot be opened: its ca_file is not read ({type(error).__name__})") from None


def _no_credentials(name: str) -> str:
    return f"{name} has no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE"


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, encoding="utf-8", errors="strict") if query else []
    except ValueError:
        raise ValueError("has options that are not name=value, joined by &") from None
    if {name for name, _ in pairs} - set(_OPTIONS):
        raise ValueError(f"has an option that is not one of {', '.join(_OPTIONS)}")
    if len(dict(pairs)) != len(pairs):
        raise ValueError("has an option twice")
    return dict(pairs)


def _endpoint(url: str) -> str:
    if not url:
        return ""
    wrong = ValueError("has an endpoint that is not https://host:port or http://host:port")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise wrong
    if "@" in parts.netloc:
        raise ValueError("has an endpoint with credentials: they belong in the environment or in the files of boto3")
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc) or parts.path not in ("", "/"):
        raise wrong
    return url.rstrip("/")


def _word(text: str, option: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]*", text, re.ASCII):
        raise ValueError(f"has a {option} that is not letters, digits and hyphens")
    return text


def _yes_or_no(text: str) -> bool | None:
    if text not in ("", "true", "false"):
        raise ValueError("has a path_style that is neither true nor false")
    return text == "true" if text else None
