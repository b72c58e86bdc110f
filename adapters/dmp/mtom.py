"""MTOM: a SOAP 1.2 envelope and its documents as parts of one multipart/related body.

Standard: W3C XOP 1.0, MTOM 1.0; RFC 2387; IHE ITI TF-2 §V.3.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

XOP = "http://www.w3.org/2004/08/xop/include"
_PARAMETER = re.compile(r';\s*([A-Za-z0-9-]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))')
_MAX_PARTS = 64
_ROOT = "envelope@vaguemestre"


class NotMultipart(ValueError):
    """A body that is no multipart/related with a root part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A document: its bytes, under a Content-ID without angle brackets."""

    content_id: str
    content: bytes
    content_type: str = "application/octet-stream"


def written(envelope: bytes, parts: Sequence[Part], action: str, boundary: str) -> tuple[bytes, str]:
    """The body, and its Content-Type. `boundary` must occur in no part."""
    marker = boundary.encode()
    pieces = [_head(marker, _ROOT, 'application/xop+xml; charset=UTF-8; type="application/soap+xml"'), envelope]
    for part in parts:
        pieces += [b"\r\n", _head(marker, part.content_id, part.content_type), part.content]
    pieces.append(b"\r\n--%b--\r\n" % marker)
    content_type = (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; start="<{_ROOT}>"; '
        f'start-info="application/soap+xml"; action="{action}"'
    )
    return b"".join(pieces), content_type


def _head(marker: bytes, content_id: str, content_type: str) -> bytes:
    return b"--%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <%b>\r\n\r\n" % (
        marker,
        content_type.encode(),
        content_id.encode(),
    )


def read(body: bytes, content_type: str) -> tuple[bytes, Mapping[str, bytes]]:
    """The root part, and all parts by Content-ID; a body that is not multipart is its own root.

    Raises:
        NotMultipart: no boundary, no root, or more than 64 parts.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/related":
        return body, {}
    told = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(content_type)}
    if not told.get("boundary"):
        raise NotMultipart("no boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + told["boundary"].encode("latin-1", "replace"))
    if len(pieces) > _MAX_PARTS + 2:
        raise NotMultipart(f"more than {_MAX_PARTS} parts")
    parts: dict[str, bytes] = {}
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            break
        head, blank, content = piece.partition(b"\r\n\r\n")
        if blank:
            parts[_content_id(head)] = content
    root = parts.get(told.get("start", "").strip("<>")) or next(iter(parts.values()), None)
    if root is None:
        raise NotMultipart("no root part")
    return root, parts


def _content_id(head: bytes) -> str:
    found = re.search(rb"(?im)^content-id:[ \t]*<?([^>\r\n]*)>?", head)
    return found[1].decode("latin-1").strip() if found else ""
