"""Send synthetic messages over MLLP, receive them, and compare both journals.

    python -m bench.traffic load 127.0.0.1:2575 -c 8 -m 1000 --kind mix [--rate 200] [--resend] [--journal sent.txt]
    python -m bench.traffic sink 127.0.0.1:2576 [--expect 8000] [--delay 0.01] [--ae-every 53] [--journal got.txt]
    python -m bench.traffic check sent.txt got.txt

The result is one JSON object on stdout; exit 1 when something was lost, refused or out of order. The same classes serve the
fault tests inside their own process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.sender import Load, send
from bench.sink import Sink, every
from bench.synthetic import KINDS, Traffic

_CONTROL_ID = re.compile(r"(?P<run>.+)C(?P<connection>\d+)S(?P<number>\d+)")


@dataclass
class Verdict:
    """What the two journals say together: control ids that were acknowledged and never arrived, that arrived more than once, and
    patients whose first arrivals were out of order.
    """

    acked: int
    arrived: int
    lost: list[str]
    repeated: dict[str, int]
    inversions: list[str]
    unknown: list[str]  # arrived and never sent

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.inversions or self.unknown)


def compare(acked: Iterable[str], sent: Iterable[str], arrivals: Iterable[tuple[str, str]]) -> Verdict:
    """`arrivals` are (control id, patient) in order. One patient's messages come over one connection, so their numbers ascend."""
    counts: Counter[str] = Counter()
    last: dict[tuple[str, str], int] = {}
    inversions = []
    for control_id, patient in arrivals:
        counts[control_id] += 1
        if counts[control_id] > 1:
            continue
        match = _CONTROL_ID.fullmatch(control_id)
        if match is None:
            continue
        key, number = (f"{match['run']}C{match['connection']}", patient), int(match["number"])
        if number < last.get(key, -1):
            inversions.append(control_id)
        last[key] = max(number, last.get(key, -1))
    acked, known = list(acked), set(sent)
    return Verdict(
        len(acked),
        len(counts),
        lost=[one for one in acked if one not in counts],
        repeated={one: n for one, n in counts.items() if n > 1},
        inversions=inversions,
        unknown=[one for one in counts if one not in known],
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all well, 1 something lost, refused or out of order."""
    options = _parser().parse_args(arguments)
    if options.command == "check":
        return _check(options)
    return _run({"load": _load, "sink": _sink}[options.command](options))


def _run(job: Any) -> int:
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    code: int = run(job)
    return code


async def _load(options: argparse.Namespace) -> int:
    host, _, port = options.address.rpartition(":")
    traffic = Traffic(options.kind, options.run, options.patients, options.size, options.results)
    sent = await send(
        Load(
            host,
            int(port),
            traffic,
            options.connections,
            options.messages,
            options.pipeline,
            options.rate,
            options.resend,
            options.patience,
            options.first,
        )
    )
    if options.journal:
        Path(options.journal).write_text("".join(f"{one} {answer or '-'}\n" for one, answer in sent.answers.items()))
    print(json.dumps(sent.summary()))
    return 0 if len(sent.acked_at) == options.connections * options.messages else 1


async def _sink(options: argparse.Namespace) -> int:
    host, _, port = options.address.rpartition(":")
    sink = Sink(every(drop=options.drop_every, ae=options.ae_every, mute=options.mute_every), delay_s=options.delay)
    await sink.start(host, int(port))
    print(f"listening on {host}:{sink.port}", file=sys.stderr)
    while not options.expect or len(set(sink.ids)) < options.expect:
        sink.changed.clear()
        try:
            await asyncio.wait_for(sink.changed.wait(), options.idle if sink.journal else None)
        except TimeoutError:
            break
    await sink.stop()
    if options.journal:
        Path(options.journal).write_text("".join(f"{got.control_id} {got.patient} {got.did}\n" for got in sink.journal))
    seconds = sink.journal[-1].at - sink.journal[0].at if sink.journal else 0.0
    counts = Counter(sink.ids)
    print(
        json.dumps(
            {
                "arrived": len(counts),
                "repeats": len(sink.journal) - len(counts),
                "connections": sink.connections,
                "seconds": round(seconds, 3),
                "per_s": round(len(counts) / seconds, 1) if seconds else 0.0,
            }
        )
    )
    return 0 if not options.expect or len(counts) >= options.expect else 1


def _check(options: argparse.Namespace) -> int:
    sent = [line.split() for line in Path(options.sent).read_text().splitlines()]
    got = [line.split(" ") for line in Path(options.got).read_text().splitlines()]
    acked = [one for one, answer in sent if answer in ("AA", "CA")]
    verdict = compare(acked, [one for one, _ in sent], [(row[0], row[1]) for row in got])
    print(
        json.dumps(
            {
                "acked": verdict.acked,
                "arrived": verdict.arrived,
                "lost": len(verdict.lost),
                "repeated": len(verdict.repeated),
                "inversions": len(verdict.inversions),
                "unknown": len(verdict.unknown),
                "examples": verdict.lost[:5] + verdict.inversions[:5],
            }
        )
    )
    return 0 if verdict.is_clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.traffic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    load = commands.add_parser("load", help="send messages and wait for their answers")
    load.add_argument("address", help="HOST:PORT of the listener")
    load.add_argument("-c", "--connections", type=int, default=8)
    load.add_argument("-m", "--messages", type=int, default=1000, help="messages on each connection")
    load.add_argument("--kind", choices=KINDS, default="adt")
    load.add_argument("--patients", type=int, default=100, help="patients of each connection")
    load.add_argument("--size", type=int, default=3_000, help="bytes of a document (mdm, cda), or of the PDF in it (lab)")
    load.add_argument("--results", type=int, default=14, help="results of a lab report")
    load.add_argument("--pipeline", type=int, default=1, help="unanswered messages on one connection")
    load.add_argument("--rate", type=float, default=0, help="messages a second in all; 0 = as fast as they are answered")
    load.add_argument("--resend", action="store_true", help="connect again and send again what has no positive answer")
    load.add_argument("--patience", type=float, default=600, help="seconds until it gives up")
    load.add_argument("--run", default=f"R{int(time.time()) % 100_000:05}", help="first part of the control ids")
    load.add_argument("--first", type=int, default=0, help="number of the first connection")
    load.add_argument("--journal", help="file for control ids and answers")
    sink = commands.add_parser("sink", help="receive messages")
    sink.add_argument("address", help="HOST:PORT to listen on")
    sink.add_argument("--expect", type=int, default=0, help="end after so many different messages")
    sink.add_argument("--idle", type=float, default=10, help="end after so many silent seconds")
    sink.add_argument("--delay", type=float, default=0, help="seconds before each answer")
    for name, does in (("ae", "answer AE"), ("mute", "do not answer"), ("drop", "end the connection unanswered")):
        sink.add_argument(f"--{name}-every", type=int, default=0, help=f"{does} each Kth message", metavar="K")
    sink.add_argument("--journal", help="file for control ids, patients and what was done")
    check = commands.add_parser("check", help="compare the two journals")
    check.add_argument("sent")
    check.add_argument("got")
    return parser


if __name__ == "__main__":
    sys.exit(main())
