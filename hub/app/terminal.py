"""How commands speak: results on stdout, remarks on stderr, nothing that could steer a terminal, no patient's number."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import orjson

from hub.model.refusals import HubError, Misconfigured

_PATIENT_MAILBOXES = "patient."
_WIDE_COLUMNS = 130


def print_json(document: Mapping[str, Any]) -> None:
    """One indented JSON document on stdout."""
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def remark(sentence: str) -> None:
    """A line on stderr."""
    print(printable(sentence), file=sys.stderr)


def printable(text: str) -> str:
    """`text` without control characters: what a sender writes must not move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)


def destination_name(name: str) -> str:
    """A destination as people may see it: a patient's mailbox is made of an INS, which is left out.

    Standard: MSSanté, patient mailboxes `<INS>@patient.mssante.fr`.
    """
    kind, colon, address = name.partition(":")
    box, at, domain = address.partition("@")
    if colon and at and (domain.lower().startswith(_PATIENT_MAILBOXES) or (box[:1].isdigit() and len(box) >= 13)):
        return printable(f"{kind}:…@{domain}")
    return printable(name)


def local_time(instant: str | None, timezone: tzinfo) -> str:
    """`2026-11-24 09:12:33` of an instant in the form of the API, in the hub's time zone; empty for None."""
    if instant is None:
        return ""
    return datetime.fromisoformat(instant).astimezone(timezone).strftime("%Y-%m-%d %H:%M:%S")


def told(said: Mapping[str, Any]) -> str:
    """`203 at MSH-12: Unsupported version id` of an error or finding of the ledger API."""
    code, place, text = said["code"], said["at"], str(said["text"] or "")
    return f"{code}{f' at {place}' if place else ''}: {text.removeprefix(f'{place}: ')}"


def counted(n: int, thing: str, things: str = "") -> str:
    """`1 source`, `2 sources`."""
    return f"{n} {thing}" if n == 1 else f"{n} {things or thing + 's'}"


def failed(error: HubError) -> int:
    """Say what went wrong; the exit code: 2 for what only another configuration or version can mend."""
    remark(error.sentence)
    return 2 if error.code in ("Misconfigured", "SchemaTooNew") else 1


def is_narrow() -> bool:
    """Whether stdout is a terminal on which a wide table would fold."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE_COLUMNS


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Sequence[int] = ()) -> None:
    """Columns on stdout, folded to the terminal but for those in `whole`; never folded or cut in a file or a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, heading in enumerate(headings):
        table.add_column(heading, no_wrap=n in whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in row))
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(table)


def tell_mistakes(mistakes: Sequence[Misconfigured], *, as_json: bool) -> None:
    """`file: key: reason`, a line each on stderr; with JSON a document on stdout."""
    if as_json:
        print_json({"ok": False, "mistakes": [{"file": m.file, "key": m.key, "reason": m.reason} for m in mistakes]})
        return
    for mistake in mistakes:
        remark(mistake.sentence)
