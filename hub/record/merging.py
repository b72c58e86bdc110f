"""Patients that turned out to be one person. A merge is a link: each fact stays under the number it came with.

`patient_merge` holds every merge; `patient.merged_into` is what those that are not undone come to, and points to the one number
that stands for the person. So undoing a merge gives back what was there before it, and what came since stands where it belongs.

Standard: IHE PAM France 2.11.2, ITI-30 A40; HL7 v2.5.1 §3.6.2 (merge), §3.3.37 (A37, unlink).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hub.store import Transaction

Edge = tuple[int, int, int]  # number of the merge, survivor, prior


def roots_of(tx: Transaction, patients: Iterable[int]) -> dict[int, int]:
    """The number that stands for each of those that were merged into another; the others are left out."""
    wanted = sorted(set(patients))
    if not wanted:
        return {}
    rows = tx.rows_in("SELECT id, merged_into FROM patient WHERE id IN ({keys}) AND merged_into IS NOT NULL", wanted)
    return dict(rows)


def root_of(tx: Transaction, patient_id: int) -> int:
    """The number that stands for a person."""
    return roots_of(tx, [patient_id]).get(patient_id, patient_id)


def same_person(tx: Transaction, patients: Iterable[int]) -> list[int]:
    """These numbers and all that are merged with them, in order."""
    asked = set(patients)
    roots = roots_of(tx, asked)
    found = asked | set(roots.values())
    if found:
        found |= {number for (number,) in tx.rows_in("SELECT id FROM patient WHERE merged_into IN ({keys})", sorted(found))}
    return sorted(found)


def ever_linked(tx: Transaction, patients: Iterable[int]) -> list[int]:
    """These patients, all that were ever merged with one of them, and who is one person with any of those now."""
    asked = sorted(set(patients))
    found = set(asked)
    for column in ("survivor", "prior"):
        sql = f"SELECT survivor, prior FROM patient_merge WHERE {column} IN ({{keys}})"  # noqa: S608 - our names
        found.update(one for row in tx.rows_in(sql, asked) for one in row)
    return same_person(tx, found)


def members_of(tx: Transaction, patients: Sequence[int]) -> dict[int, list[int]]:
    """Root → the numbers that are merged into it, in the order in which they were made."""
    found: dict[int, list[int]] = {}
    if patients:
        rows = tx.rows_in("SELECT merged_into, id FROM patient WHERE merged_into IN ({keys})", sorted(set(patients)))
        for root, number in sorted(rows):
            found.setdefault(root, []).append(number)
    return found


def merge(
    tx: Transaction, survivor: int, prior: int, *, actor: str, message_id: int | None, next_id: Callable[[], int], now_us: int
) -> bool:
    """Let `prior` stand for the same person as `survivor`; False when they do already, the same way round."""
    edges = _edges(tx, [survivor, prior])
    if any(edge[1:] == (survivor, prior) for edge in edges) and root_of(tx, survivor) == survivor:
        return False
    number = next_id()
    tx.insert(
        "patient_merge",
        ("id", "survivor", "prior", "message_id", "actor", "at"),
        [(number, survivor, prior, message_id, actor, now_us)],
    )
    _regroup(tx, {survivor, prior}, [*edges, (number, survivor, prior)])
    return True


def unmerge(tx: Transaction, patient: int, prior: int, *, actor: str, message_id: int | None, now_us: int) -> bool:
    """Undo the merges that made `prior` the same person as `patient`; False when there is none."""
    edges = _edges(tx, [patient, prior])
    if root_of(tx, patient) != root_of(tx, prior):
        return False
    direct = [edge for edge in edges if {edge[1], edge[2]} == {patient, prior}]
    undone = direct or [edge for edge in edges if edge[2] == prior] or [edge for edge in edges if edge[2] == patient]
    tx.update(
        "patient_merge",
        "id",
        ("undone_at", "undone_by", "undone_message_id"),
        [(edge[0], now_us, actor, message_id) for edge in undone],
    )
    _regroup(tx, {patient, prior}, [edge for edge in edges if edge not in undone])
    return True


def _edges(tx: Transaction, patients: Sequence[int]) -> list[Edge]:
    """Every merge in force that links these, directly or over others, in their order. Locks the patients concerned."""
    known: set[int] = set()
    found: dict[int, Edge] = {}
    todo = set(patients)
    while todo:
        asked, todo = sorted(todo), set()
        known.update(asked)
        for column in ("survivor", "prior"):
            sql = f"SELECT id, survivor, prior FROM patient_merge WHERE {column} IN ({{keys}}) AND undone_at IS NULL"  # noqa: S608
            for number, survivor, prior in tx.rows_in(sql, asked):
                found[number] = (number, survivor, prior)
                todo |= {survivor, prior} - known
    tx.run_in(f"SELECT id FROM patient WHERE id IN ({{keys}}) ORDER BY id{tx.locked}", sorted(known))  # noqa: S608
    return [found[number] for number in sorted(found)]


def _regroup(tx: Transaction, patients: set[int], edges: Sequence[Edge]) -> None:
    """Write who stands for whom, as the merges in force say one after the other: the last word counts."""
    everyone = patients | {one for edge in edges for one in edge[1:]}
    before = roots_of(tx, everyone)
    everyone |= set(before.values())
    everyone |= {one for found in members_of(tx, sorted(everyone)).values() for one in found}
    before = roots_of(tx, everyone)
    root = {one: one for one in everyone}
    for _, survivor, prior in edges:
        ours, theirs = root[survivor], root[prior]
        target = survivor if ours == theirs else ours  # merged in a circle: the newest survivor stands for all
        for one, stands in root.items():
            if stands in (ours, theirs):
                root[one] = target
    after = {one: stands for one, stands in root.items() if one != stands}
    changed = [(one, after.get(one)) for one in sorted(everyone) if after.get(one) != before.get(one)]
    tx.update("patient", "id", ("merged_into",), changed)
