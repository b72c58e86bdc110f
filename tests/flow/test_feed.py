"""The change feed against a real receiver: order, what is told of hidden and withdrawn things, outages, a crash."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.rest_hook import RestHook
from hub.app.config_feed import FeedSection
from hub.flow import feed as feed_module
from hub.model.refusals import PeerBusy, PeerRefused, PeerUnavailable

CONFIG = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
[[feed]]
name = "portal"
url = "{url}"
types = ["Patient"]
poll_s = 0.05
from_start = true
token_file = "token"
"""


class Receiver:
    """An HTTP server that keeps what it is told; `answers` are the statuses of the next notifications, then 200."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.tokens: set[str] = set()
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.answers.pop(0) if outer.answers else 200
                outer.tokens.add(self.headers.get("Authorization", ""))
                if status == 200:
                    outer.bodies.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def told(self) -> list[tuple[str, str]]:
        return [
            (entry["request"]["method"], entry["request"]["url"])
            for body in self.bodies
            for entry in body["entry"]
            if "resource" not in entry
        ]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_other_software_hears_of_every_patient_in_order(running, make_adt, receiver, tmp_path, monkeypatch):
    monkeypatch.setattr(feed_module, "SETTLED_US", 0)
    monkeypatch.setattr(feed_module, "AT_ONCE", 2)

    async def main():
        (tmp_path / "token").write_text("s3cret-for-tests")
        config = CONFIG.format(url=receiver.url).replace('"token"', json.dumps(str(tmp_path / "token")))
        async with running(config) as hub, hub.sender() as his:
            receiver.answers += [503]
            await hub.hub.start_web()
            for n in range(5):
                await his.ask(make_adt(f"A{n}", ipp=f"90000{n}"))
            await hub.settled(5)
            made = [row for (row,) in await hub.rows("SELECT id FROM resource WHERE type = 'Patient' ORDER BY updated_at, id")]
            for job in hub.hub._jobs.get_jobs():
                if job.id == "feed portal":
                    told = job.args[0]
            for _ in range(400):
                told.not_before = 0.0
                if len(receiver.told) >= len(made):
                    break
                await asyncio.sleep(0.05)
            from hub.model.uids import uid_text

            once = list(dict.fromkeys(receiver.told))  # one whose answer was late comes again
            assert once == [("POST", f"Patient/{uid_text(number)}") for number in made]
            assert receiver.tokens == {"Bearer s3cret-for-tests"}
            assert receiver.answers == []  # the refused one was told again

    asyncio.run(main())


@pytest.mark.parametrize(("status", "error"), [(503, PeerBusy), (429, PeerBusy), (403, PeerRefused), (301, PeerRefused)])
def test_an_answer_that_is_no_yes_is_an_error(receiver, status, error):
    async def main():
        receiver.answers.append(status)
        hook = RestHook(receiver.url)
        async with hook.client() as client:
            with pytest.raises(error):
                await hook.post(client, b"{}")
            await hook.post(client, b"{}")

    asyncio.run(main())


def test_nobody_there_is_told_as_such():
    async def main():
        hook = RestHook("http://127.0.0.1:9/hook", timeout_s=1)
        async with hook.client() as client:
            with pytest.raises(PeerUnavailable):
                await hook.post(client, b"{}")

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://portal.example/x", "ftp://x", "https://u:p@x/", "https://", "https://a b/"])
def test_addresses_that_are_none_or_leave_without_tls_are_refused(url):
    with pytest.raises(ValueError):
        FeedSection(name="x", url=url)
