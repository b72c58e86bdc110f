"""The DMP of a configuration, made; nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from hub.app.config import Installation, absolute
from hub.model.dmp import Dmp


def make_dmp(installation: Installation) -> Dmp | None:
    """The destination that `[dmp]` describes.

    Raises:
        Misconfigured: a TLS file that does not load.
    """
    section = installation.configuration.dmp
    if section is None:
        return None
    from adapters.dmp.destination import DmpDestination
    from adapters.dmp.options import DmpOptions, DmpTls

    def file(path: Path | None) -> str:
        return str(absolute(installation, path) or "")

    tls = None
    if section.url.startswith("https://"):
        tls = DmpTls(file(section.tls_ca_file), file(section.tls_cert_file), file(section.tls_key_file))
    return DmpDestination(
        DmpOptions(
            section.url,
            source_id=_source_id(installation),
            tls=tls,
            in_flight=section.in_flight,
            connect_timeout_s=section.connect_timeout_s,
            answer_timeout_s=section.answer_timeout_s,
        )
    )


def _source_id(installation: Installation) -> str:
    """The OID of this hub as a source of submissions: always the same for its name and organisation."""
    site = installation.site
    return f"2.25.{uuid5(NAMESPACE_URL, f'urn:vaguemestre:{site.organisation}:{site.name}').int}"
