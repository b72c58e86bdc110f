"""Large bodies for a command that may not need them: a folder is made, or a bucket reached, at the first use."""

from __future__ import annotations

from collections.abc import Callable

from hub.store.blobs import Blobs


class LazyBlobs:
    """`Blobs` that are opened when they are used. Raises what `open_` raises, then."""

    def __init__(self, open_: Callable[[], Blobs]) -> None:
        self._open = open_
        self._opened: Blobs | None = None

    @property
    def _blobs(self) -> Blobs:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @property
    def name(self) -> str:
        return self._blobs.name

    def write(self, sha256: bytes, content: bytes) -> None:
        self._blobs.write(sha256, content)

    def sync_folders(self) -> None:
        if self._opened is not None:
            self._opened.sync_folders()

    def read(self, sha256: bytes) -> bytes:
        return self._blobs.read(sha256)

    def clear_parts(self) -> None:
        self._blobs.clear_parts()

    def remove(self, sha256: bytes) -> None:
        self._blobs.remove(sha256)
