"""The channel: an address, a token, and a connection that is kept between notifications."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from hub.model.refusals import NoAnswer, PeerBusy, PeerRefused, PeerUnavailable

_BUSY = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class RestHook:
    """Where notifications go. `token` is sent as `Authorization: Bearer`; `tls` is None for an address on this machine."""

    url: str
    token: str = ""
    tls: ssl.SSLContext | None = None
    timeout_s: float = 20.0

    def client(self) -> Any:
        """A connection pool of one, to be closed by who asks for it."""
        import httpx

        headers = {"Content-Type": "application/fhir+json", "User-Agent": "Vaguemestre"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        verify: ssl.SSLContext | bool = self.tls if self.tls is not None else True
        return httpx.AsyncClient(headers=headers, verify=verify, timeout=self.timeout_s, trust_env=False)

    async def post(self, client: Any, body: bytes) -> None:
        """Send one notification.

        Raises:
            PeerUnavailable: nothing was sent. NoAnswer: nobody knows. PeerBusy: 5xx, 408, 425, 429. PeerRefused: any other
            status that is not 2xx.
        """
        import httpx

        try:
            answer = await client.post(self.url, content=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise PeerUnavailable(f"no connection ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise NoAnswer(f"no whole answer ({type(error).__name__})") from None
        if answer.is_success:
            return
        reason = str(answer.status_code)
        if answer.status_code >= 500 or answer.status_code in _BUSY:
            raise PeerBusy(f"HTTP {reason}", reason=reason)
        raise PeerRefused(f"HTTP {reason}", reason=reason)
