"""uvicorn inside the hub's own event loop: no signal handlers, no access log, a port that we bind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hub.model import log


class WebServer:
    """Serves what `app_factory` makes on `listen` (`host:port`; port 0 takes a free one).

    The application and uvicorn are imported in `start`, so that the hub can listen for messages first.
    """

    def __init__(
        self,
        app_factory: Callable[[], Any],
        listen: str,
        *,
        tls_cert_file: Path | None = None,
        tls_key_file: Path | None = None,
        tls_client_ca_file: Path | None = None,
    ) -> None:
        self._app_factory, self._listen = app_factory, listen
        self._tls = (tls_cert_file, tls_key_file, tls_client_ca_file)
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None
        self.host, self.port = "", 0

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls[0] else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Return once requests are answered.

        Raises:
            OSError: the address cannot be bound.
        """
        bound = _bind(self._listen)
        try:
            self.host, self.port = bound.getsockname()[:2]
            self._server = await asyncio.to_thread(self._make_server)
            self._serving = asyncio.create_task(self._server.serve(sockets=[bound]), name="web")
            while not self._server.started:
                if self._serving.done():
                    await self._serving
                    raise OSError("the web server ended while starting")
                await asyncio.sleep(0.005)
        except BaseException:
            bound.close()
            raise
        log.event("web.listening", listen=f"{self.host}:{self.port}", edge=self.url.partition(":")[0])

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Stop listening, let requests in hand end, then cut."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._serving}, timeout=timeout_s)
        if not done:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        self._server = self._serving = None

    def _make_server(self) -> Any:
        import uvicorn

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        cert, key, client_ca = self._tls
        config = uvicorn.Config(
            self._app_factory(),
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            lifespan="off",
            http="httptools",
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
            proxy_headers=False,
            ssl_certfile=cert,
            ssl_keyfile=key,
            ssl_ca_certs=str(client_ca) if client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if client_ca else ssl.CERT_NONE,
        )
        config.load()
        if isinstance(config.ssl, ssl.SSLContext):
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        return Server(config)


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it each answer waits 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
    except (OSError, ValueError, OverflowError):
        bound.close()
        raise
    return bound
