"""`[[source]]` and `[[destination]]`: one section a kind, with the settings of that kind and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hub.app.strict import Strict, TlsListener, address
from hub.flow.graph import RECORD, REQUESTED

DELETE = "delete"  # `done` of a source whose files need not be kept
_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"


class _Source(Strict):
    name: str = Field(pattern=_NAME)
    return_to: str = ""
    routes: list[str] = Field([])
    strict_control_id: bool = False
    unknown_patient: Literal["create", "refuse"] = "create"
    charset: str = ""


class MllpSourceSection(_Source, TlsListener):
    kind: Literal["mllp"]
    listen: str
    peers: list[str] = Field([])
    tls_client_names: list[str] = Field([])
    max_frame_bytes: int = Field(64 << 20, ge=1024)
    max_connections: int = Field(10_000, ge=1)
    max_pipelined: int = Field(64, ge=1)
    idle_timeout_s: float = Field(0, ge=0)
    frame_timeout_s: float = Field(30, gt=0)
    _listen = field_validator("listen")(address)

    @property
    def place(self) -> str:
        return self.listen


class _FilesIn(_Source):
    pattern: str = Field("*.hl7", min_length=1)
    poll_s: float = Field(5, gt=0, le=86_400)
    settle_s: float = Field(2, ge=0, le=3600)
    done: str = ""
    failed: str = ""
    answers: str = ""
    max_file_bytes: int = Field(256 << 20, ge=1024)
    max_message_bytes: int = Field(64 << 20, ge=1024)

    @field_validator("pattern")
    @classmethod
    def _of_a_name(cls, value: str) -> str:
        if "/" in value:
            raise ValueError("is of file names, not of paths: folders below are never looked into")
        return value


class FolderSourceSection(_FilesIn):
    kind: Literal["folder"]
    path: Path

    @property
    def place(self) -> str:
        return str(self.path)


class _Login(Strict):
    """Who logs in where over SFTP, and how the server proves itself."""

    host: str
    user: str = Field(min_length=1)
    key_file: Path | None = None
    password_file: Path | None = None
    host_keys_file: Path
    path: str = Field(min_length=1)
    connect_timeout_s: float = Field(10, gt=0)
    answer_timeout_s: float = Field(30, gt=0)
    _host = field_validator("host")(address)

    @model_validator(mode="after")
    def _one_proof(self) -> _Login:
        if self.key_file is not None and self.password_file is not None:
            raise ValueError("key_file or password_file, not both")
        return self

    @property
    def place(self) -> str:
        return f"{self.user}@{self.host}:{self.path}"


class SftpSourceSection(_FilesIn, _Login):
    kind: Literal["sftp"]


class RetrySection(Strict):
    base_s: float = Field(5, gt=0)
    cap_s: float = Field(3600, gt=0)
    give_up_h: float = Field(72, gt=0)
    probe_s: float = Field(5, gt=0)


class _Destination(Strict):
    name: str = Field(pattern=_NAME)
    workers: int = Field(0, ge=0, le=31)
    on_dead: Literal["skip", "block"] = "skip"
    line_ends: Literal["cr", "as_received"] = "cr"
    retry: RetrySection = RetrySection()

    @field_validator("name")
    @classmethod
    def _free(cls, value: str) -> str:
        if value in (RECORD, REQUESTED, "dmp", "route") or value.startswith("mssante"):
            raise ValueError("is a name that the hub uses itself")
        return value


class MllpDestinationSection(_Destination):
    kind: Literal["mllp"]
    connect: str
    connections: int = Field(1, ge=1, le=64)
    in_flight: int = Field(16, ge=1, le=256)
    ack_timeout_s: float = Field(30, gt=0)
    connect_timeout_s: float = Field(10, gt=0)
    lenient_msa: bool = False
    on_unsure: Literal["resend", "hold"] = "resend"
    on_ae: Literal["refuse", "retry"] = "refuse"
    tls: bool = False
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_server_name: str = ""
    _connect = field_validator("connect")(address)

    @property
    def place(self) -> str:
        return self.connect


class _FilesOut(_Destination):
    on_unsure: Literal["ask", "hold"] = "ask"
    batch_size: int = Field(1, ge=1, le=1000)
    batch_wait_s: float = Field(1, gt=0, le=3600)


class FolderDestinationSection(_FilesOut):
    kind: Literal["folder"]
    path: Path

    @property
    def place(self) -> str:
        return str(self.path)


class SftpDestinationSection(_FilesOut, _Login):
    kind: Literal["sftp"]
    connections: int = Field(1, ge=1, le=16)


SourceSection = Annotated[MllpSourceSection | FolderSourceSection | SftpSourceSection, Field(discriminator="kind")]
DestinationSection = Annotated[
    MllpDestinationSection | FolderDestinationSection | SftpDestinationSection, Field(discriminator="kind")
]
SETTINGS: dict[str, dict[str, frozenset[str]]] = {
    "source": {
        kind: frozenset(section.model_fields)
        for kind, section in (("mllp", MllpSourceSection), ("sftp", SftpSourceSection), ("folder", FolderSourceSection))
    },
    "destination": {
        kind: frozenset(section.model_fields)
        for kind, section in (
            ("mllp", MllpDestinationSection),
            ("sftp", SftpDestinationSection),
            ("folder", FolderDestinationSection),
        )
    },
}
"""Settings of each kind: what a mistake is explained with."""
