"""The bell across processes and machines: a JetStream stream that holds the last ring of each name.

The subject of a ring is `vaguemestre.<cluster>.ring.<hash of the name>`, its payload a random token of the process that rang:
no name leaves the process. The stream keeps one message a subject, so rings are coalesced on the server, and a process that
connects later hears the last ring of each name. Without NATS the bell rings inside the process only.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import secrets
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, ConnectionClosedError, Error, SecureConnRequiredError, StaleConnectionError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from hub.bell.local import LocalBell
from hub.model import log
from hub.model.refusals import Misconfigured

NAMES = 10_000  # names remembered at most; a ring beyond is lost, the sweep finds its work
SPACING_S = 0.010  # between two publishes of one name
BEAT_S = 2.0  # between two proofs that the connection and the consumer live
ANSWER_S = 3  # the server answers within
SILENCE_S = 3 * BEAT_S  # without message or heartbeat: the consumer or the stream is gone
OPEN_S = 8.0  # to connect and to find the stream
START_S = 2.0  # start waits so long for a first result
PAUSE_S = (0.1, 2.0)  # between two attempts to connect: first, longest
MAX_AGE_S = 3600.0  # of a ring in the stream
MAX_BYTES = 4 << 20  # of the stream

_CLUSTER = re.compile(r"[a-z0-9_-]{1,64}")


@lru_cache(maxsize=NAMES)
def ring_hash(name: str) -> str:
    """The word of the subject that stands for `name`: 16 hex digits."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


class _Client(Client):
    """A client that sends nothing, credentials least of all, when TLS was asked for and the server does not offer it."""

    secure = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self.secure and initial_connection and not info.get("tls_required"):
            raise SecureConnRequiredError
        await super()._process_info(info, initial_connection)


class JetStreamBell:
    """A bell that rings in this process and in all others of `cluster`; see hub.bell.port.Bell.

    `url` may be several servers with commas between them, and may hold user and password: it is never logged. `tls://` or a
    TLS file ask for TLS; an empty `tls_ca_file` means the system's authorities. `on_change` hears True when the connection
    is made and False when it is lost or was not made at first.

    Raises:
        Misconfigured: the cluster's name or a TLS file is not usable, or a credentials file is given without the package nkeys.
    """

    def __init__(
        self,
        url: str,
        *,
        cluster: str,
        tls_ca_file: str = "",
        tls_cert_file: str = "",
        tls_key_file: str = "",
        creds_file: str = "",
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        cluster = cluster.lower()
        if not _CLUSTER.fullmatch(cluster):
            raise Misconfigured("", "cluster.name", "letters, digits, - and _ only, 64 at most")
        if creds_file and importlib.util.find_spec("nkeys") is None:
            raise Misconfigured("", "bell.creds_file", "needs the package nkeys")
        self._stream, self._subject = f"VAGUEMESTRE_{cluster.upper()}", f"vaguemestre.{cluster}.ring."
        self._secure = "tls://" in url or bool(tls_ca_file or tls_cert_file)
        self._options: dict[str, Any] = {"servers": [one.strip() for one in url.split(",")]}
        if self._secure:
            self._options["tls"] = _tls_context(tls_ca_file, tls_cert_file, tls_key_file)
        if creds_file:
            self._options["user_credentials"] = creds_file
        self._on_change = on_change
        self._local = LocalBell()
        self._known: set[str] = set()  # hashes that were waited for or heard
        self._due: set[str] = set()  # hashes to publish
        self._sent: dict[str, float] = {}  # hash: when it was last published, loop time
        self._unproven: set[str] = set()  # published, the server did not yet answer a later ping
        self._wake = asyncio.Event()
        self._token = secrets.token_hex(8).encode()
        self._sequence, self._heard_at = 0, 0.0
        self._up: bool | None = None
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether rings reach other processes."""
        return self._up is True

    def ring(self, name: str) -> None:
        key = ring_hash(name)
        self._local.ring(key)
        if key not in self._due and len(self._due) < NAMES:
            self._due.add(key)
            self._wake.set()

    async def wait(self, name: str, timeout_s: float) -> bool:
        """Whether it rang, here or elsewhere, within `timeout_s`."""
        key = ring_hash(name)
        self._known.add(key)
        return await self._local.wait(key, timeout_s)

    def wake(self, name: str) -> None:
        """Ring in this process only."""
        self._local.ring(ring_hash(name))

    def gather(self, names: Collection[str], wakes: str) -> None:
        """A ring of any of `names` wakes who waits on `wakes`, in this process, until this is called again for `wakes`."""
        keys = [ring_hash(name) for name in names]
        self._known.update(keys)
        self._local.gather(keys, ring_hash(wakes))

    async def start(self) -> None:
        """Connect, and stay connected until `close`. Returns after START_S at the latest, connected or not."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="bell")
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._settled.wait()

    async def close(self) -> None:
        """Publish what is due, for a moment at most, and disconnect."""
        task, self._task = self._task, None
        if task is not None:
            if self.connected and self._due:
                await asyncio.sleep(2 * SPACING_S)
            await _end(task)
        self._up = None

    async def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while not _cancelled():
            try:
                await self._session()
            except asyncio.CancelledError:
                if _cancelled():
                    raise
                reason = "cancelled"  # by the client, which lost its connection
            except Exception as error:
                reason = _reason(error)
            pause_s = PAUSE_S[0] if self._up else min(2 * pause_s, PAUSE_S[1])
            self._tell(up=False, reason=reason)
            await asyncio.sleep(pause_s)

    async def _session(self) -> None:
        """One connection, from its opening to its loss, which is always an error."""
        client = _Client()
        client.secure = self._secure
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        publisher: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(OPEN_S):
                await self._open(client, closed)
            self._tell(up=True)
            publisher = asyncio.create_task(self._publish(client), name="bell.publish")
            await self._watch(client, publisher, closed)
        finally:
            self._again(self._unproven)
            if publisher is not None:
                await _end(publisher)
            await _end(asyncio.create_task(_close(client)), timeout_s=ANSWER_S)

    async def _open(self, client: Client, closed: asyncio.Future[None]) -> None:
        async def on_error(_: Exception) -> None:
            """Whatever matters shows in `_watch`."""

        async def on_closed() -> None:
            if not closed.done():
                closed.set_result(None)

        await client.connect(
            **self._options,
            name="vaguemestre",
            allow_reconnect=False,  # `_run` does it
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=2,
            ping_interval=3600,  # `_watch` does it
            error_cb=on_error,
            closed_cb=on_closed,
        )
        jetstream = client.jsm(timeout=ANSWER_S)
        try:
            await jetstream.stream_info(self._stream)
        except NotFoundError:
            await jetstream.add_stream(
                StreamConfig(
                    name=self._stream,
                    subjects=[self._subject + "*"],
                    storage=StorageType.MEMORY,
                    discard=DiscardPolicy.OLD,
                    max_msgs_per_subject=1,
                    max_age=MAX_AGE_S,
                    max_bytes=MAX_BYTES,
                )
            )
        self._sequence, self._heard_at = 0, asyncio.get_running_loop().time()
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=self._hear)
        await jetstream.add_consumer(
            self._stream,
            ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=self._subject + "*",
                ack_policy=AckPolicy.NONE,
                idle_heartbeat=BEAT_S,
                mem_storage=True,
            ),
        )

    async def _hear(self, message: Msg) -> None:
        """A ring or a heartbeat. It never publishes: bells do not answer each other."""
        self._heard_at = asyncio.get_running_loop().time()
        if not message.subject.startswith(self._subject):
            return
        sequence, before = message.metadata.sequence.stream, self._sequence
        self._sequence = sequence
        if message.data == self._token and sequence == before + 1:
            return  # our own, and it did not take the place of another's
        self._ring_here(message.subject.removeprefix(self._subject))

    def _ring_here(self, key: str) -> None:
        if key not in self._known:
            if len(self._known) >= NAMES:
                return
            self._known.add(key)
        self._local.ring(key)

    async def _publish(self, client: Client) -> None:
        """Publish what is due: at once what was quiet for SPACING_S, the rest when that time is over."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        self._wake.set()
        while not _cancelled():
            await self._wake.wait()
            self._wake.clear()
            now = loop.time()
            for key in [key for key in self._due if self._sent.get(key, 0.0) + SPACING_S <= now]:
                self._due.discard(key)
                self._unproven.add(key)
                self._sent[key] = now
                await client.publish(self._subject + key, self._token)
            if len(self._sent) > NAMES:
                self._sent.clear()
            if self._due and (timer is None or timer.when() <= now):
                timer = loop.call_later(SPACING_S, self._wake.set)

    async def _watch(self, client: Client, publisher: asyncio.Task[None], closed: asyncio.Future[None]) -> None:
        """Prove again and again that server and consumer live; raises when they do not."""
        while not _cancelled():
            await asyncio.wait({publisher, closed}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if publisher.done():
                publisher.result()
            if closed.done() or client.is_closed:
                raise ConnectionClosedError
            published, self._unproven = self._unproven, set()
            try:
                await client.flush(timeout=ANSWER_S)
            except BaseException:
                self._again(published)
                raise
            if asyncio.get_running_loop().time() - self._heard_at > SILENCE_S:
                raise StaleConnectionError
        raise asyncio.CancelledError

    def _again(self, keys: set[str]) -> None:
        """Publish them on the next connection: nobody knows whether the server had them."""
        self._due |= set(list(keys)[: NAMES - len(self._due)])
        self._unproven = set()

    def _tell(self, *, up: bool, reason: str = "") -> None:
        """Log a change, once; after a gap wake all who wait here, since rings may be lost with the old stream."""
        if up and self._up is False:
            for key in self._known:
                self._local.ring(key)
        before, self._up = self._up, up
        self._settled.set()
        if before is up:
            return
        if up:
            log.event("bell.up")
        else:
            log.event("bell.down", level="warning", reason=reason)
        if self._on_change is not None:
            self._on_change(up)


def _tls_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(cafile=ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ValueError):
        raise Misconfigured("", "bell.tls_ca_file", "not a readable PEM file") from None
    try:
        if cert_file:
            context.load_cert_chain(cert_file, key_file or cert_file, password=lambda: "")
    except (OSError, ValueError):
        raise Misconfigured("", "bell.tls_cert_file", "not a readable certificate with its key, without a password") from None
    return context


def _reason(error: Exception) -> str:
    """A word for the log; never the text of the error, which may hold an address."""
    if isinstance(error, AuthorizationError) or (isinstance(error, Error) and "authoriz" in str(error).lower()):
        return "not authorized"
    return type(error).__name__


def _cancelled() -> bool:
    """Whether the running task was told to end; the client swallows some cancellations, the count stays."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _close(client: Client) -> None:
    with suppress(Error, OSError):
        await client.close()


async def _end(task: asyncio.Task[None], timeout_s: float = 0.0) -> None:
    """Wait for a task's end, `timeout_s` at most, then cancel it until it ends."""
    await asyncio.wait({task}, timeout=timeout_s)
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
    if not task.cancelled():
        task.exception()
