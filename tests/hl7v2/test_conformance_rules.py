"""Every rule of every table of a French profile: quiet on conformant messages, and alone to speak where exactly it is broken.

The bad messages are made from the table: what a rule asks is undone in one place of a conformant message.
"""

from __future__ import annotations

import importlib.util
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.formats.er7 import read
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.conformance import profiles
from mappings.conformance.checks import CHECKS
from mappings.conformance.evaluate import TYPES, ConformanceFinding, evaluate
from mappings.conformance.path import Path as Place
from mappings.conformance.rules import Rule, Severity, rules_of
from mappings.tables import load


def _beside(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


made = _beside("conformance_messages")
Editable = made.Editable
SITE = Site()


@cache
def _table(name: str) -> dict:
    return load(resources.files("mappings.tables").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8"))


def _tables_of(profile: str) -> list[str]:
    included = _table(profile).get("includes", [])
    return [profile, *(table for one in included for table in _tables_of(one))]


def _cases() -> list[tuple[str, str, str]]:
    """Each row of each table once, in a profile that has it: profile, table, rule id."""
    found: dict[tuple[str, str], str] = {}
    for profile in ("pam-fr", *profiles.NAMES):
        kept = {rule.id for rule in profiles.profile_named(profile).rules}
        for table in _tables_of(profile):
            for rule in rules_of(_table(table), ""):
                if rule.id in kept:
                    found.setdefault((table, rule.id), profile)
    return [(profile, table, rule) for (table, rule), profile in found.items()]


CASES = _cases()


def _found(profile: str, message: Editable) -> tuple[ConformanceFinding, ...]:
    return evaluate(profiles.profile_named(profile).rules, CHECKS, read(message.bytes()), SITE)


# ---- good ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", profiles.NAMES)
def test_conformant_messages_break_nothing_and_find_their_profile(profile):
    for text in made.MESSAGES[profile]:
        message = Editable.of(text)
        assert [(f.rule, f.at) for f in _found(profile, message)] == []
        assert profiles.profile_of(read(message.bytes())).name == profile


def test_every_table_is_part_of_a_profile():
    folder = resources.files("mappings.tables").joinpath("profiles")
    names = {one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")}
    assert names == {table for profile in profiles.NAMES for table in _tables_of(profile)}
    assert len(CASES) > 450


# ---- bad: made from the row ------------------------------------------------------------------------------------------


def _places(rule: Rule, base: Editable) -> list[tuple[int, int]]:
    """Lines and repetitions that a rule looks at."""
    from mappings.conformance.view import View

    view = View(read(base.bytes()), SITE)
    return [
        (segment.index, value.repetition)
        for segment in rule.at.segments(view.message, view.parts)
        for value in (rule.at.values(segment) if rule.at.field else [_Whole()])
    ]


class _Whole:
    repetition = 0


def _broken(rule: Rule, base: Editable) -> Iterator[Editable]:
    """Messages in which the rule may be broken."""
    at: Place = rule.at
    if at is not None and at.text == "MSH-1":
        yield Editable(base.copy().lines, separator="#")
        return
    if at is not None and at.text == "MSH-2":
        message = base.copy()
        message.put(0, 2, "^~\\&#")
        yield message
        return
    if rule.kind == "order":
        for n in range(1, len(base.lines)):
            for m in range(n + 1, len(base.lines)):
                message = base.copy()
                message.lines.insert(n, message.lines.pop(m))
                yield message
        return
    places = _places(rule, base)
    if not at.field:
        if rule.kind == "usage" and rule.wanted == "R" and places:
            yield Editable([line for n, line in enumerate(base.lines) if n not in {place for place, _ in places}])
        elif rule.kind == "usage" and rule.wanted == "X" and not places:
            message = base.copy()
            message.lines.append(_line_of(at).split("|"))
            yield message
        elif rule.kind == "max" and places:
            message = base.copy()
            line = message.lines[places[-1][0]]
            for _ in range(rule.wanted):
                message.lines.insert(places[-1][0] + 1, list(line))
            yield message
        return
    if rule.kind == "usage" and rule.wanted == "X":
        yield from _filled(rule, base)
        return
    for line, repetition in places:
        if rule.kind == "usage" and not at.component:
            message = base.copy()
            if at.repetition is None:
                message.put(line, at.field, "")
            else:
                message.put_part(line, at.field, repetition, 0, 0, "")
            yield message
        elif rule.kind == "max":
            message = base.copy()
            message.put(line, at.field, "~".join([message.get(line, at.field).split("~")[0]] * (rule.wanted + 1)))
            yield message
        else:
            for value in _values(rule):
                message = base.copy()
                message.put_part(line, at.field, repetition, at.component or 1, at.subcomponent, value)
                yield message
                if rule.kind == "never" and not at.component:
                    message = base.copy()
                    message.put(line, at.field, f"{message.get(line, at.field)}~{value}")
                    yield message


def _filled(rule: Rule, base: Editable) -> Iterator[Editable]:
    """Something written where nothing may stand."""
    at = rule.at
    lines = [n for n, line in enumerate(base.lines) if line[0] == at.segment]
    for line in lines:
        for repetition in range(1, base.get(line, at.field).count("~") + 2):
            for value in ("20261124", "A01", "75108", "^X"):
                message = base.copy()
                message.put_part(line, at.field, repetition, at.component, at.subcomponent, value)
                yield message


def _line_of(at: Place) -> str:
    if at.segment == "OBX":
        return made.meta_obx(9, next(iter(at.choice.values)), "N")
    return made.LINES[at.segment]


def _values(rule: Rule) -> Iterator[str]:
    if rule.kind == "usage":
        yield ""
    elif rule.kind == "never":
        yield from rule.wanted
    elif rule.kind == "length":
        yield "x" * (rule.wanted + 1)
    else:
        yield from (
            "ZZ",
            "zz.",
            "2.6",
            "2.7",
            "T02",
            "V",
            "E",
            "U",
            "R01",
            "A12",
            "NW",
            "CE",
            "ST",
            "C",
            "11 22",
            "99",
            "1.0",
            "NM",
        )
        yield from ("ACK_LECTURE_MSS", "TRANSMISSION_DEMANDE", "REPONSE_DEMANDE", "O", "1.2.250.1.213.1.4.9")


# ---- bad: named checks -----------------------------------------------------------------------------------------------

Change = Callable[[Editable], None]


def _set(name: str, field: int, value: str, nth: int = 1) -> Change:
    return lambda message: message.put(message.find(name, nth), field, value)


def _part(name: str, field: int, value: str, *, component: int = 1, sub: int = 0, repetition: int = 1, nth: int = 1) -> Change:
    return lambda message: message.put_part(message.find(name, nth), field, repetition, component, sub, value)


def _flag(code: str, value: str) -> Change:
    return lambda message: message.put_part(message.obx(code), 5, 1, 1, 0, value)


def _all(*changes: Change) -> Change:
    return lambda message: [change(message) for change in changes] and None


def _document(content: str, nth: int = 1) -> Change:
    return _part("OBX", 5, content, component=5, nth=nth)


def _shift(message: Editable) -> None:
    message.lines[message.find("ZBE")].insert(3, "20261124090000")


def _swap(message: Editable) -> None:
    first = message.obx("MASQUE_PS")
    message.lines[first], message.lines[first + 1] = message.lines[first + 1], message.lines[first]


def _double(code: str) -> Change:
    return lambda message: message.lines.insert(message.obx(code) + 1, list(message.lines[message.obx(code)]))


def _add(line: str) -> Change:
    return lambda message: message.lines.append(line.split("|"))


def _drop(name: str, nth: int = 1) -> Change:
    return lambda message: message.lines.pop(message.find(name, nth)) and None


WRONG_KEY = made.INS[:13] + ("11" if not made.INS.endswith("11") else "12")
OTHER = made.cda(matricule=made.ins("1900175108001"))
UNPADDED = b64encode(b"Bonjour").decode().rstrip("=")
NO_FLAGS = _all(_flag("DESTDMP", "N"), _flag("DESTMSSANTEPS", "N"), _flag("DESTMSSANTEPAT", "N"))

NAMED: dict[str, tuple[tuple[Change, str], ...]] = {
    "ins_key": ((_part("PID", 3, WRONG_KEY, repetition=2), "PID[1]-3[2].1"),),
    "ins_environment": (
        (_part("MSH", 11, "T"), "PID[1]-3[2].4.2"),
        (_part("PID", 3, "1.2.250.1.213.1.4.10", component=4, sub=2, repetition=2), "PID[1]-3[2].4.2"),
    ),
    "ins_namespace": ((_part("PID", 3, "ASIP-SANTE-INS-NIA", component=4, sub=1, repetition=2), "PID[1]-3[2].4.1"),),
    "zbe_shifted": ((_shift, "ZBE[1]-4"),),
    "merge_differs": ((_set("MRG", 1, "900^^^CHU&1.2.250.1.999.1&ISO^PI"), "MRG[1]-1"),),
    "one_document": ((lambda m: m.lines.insert(m.find("OBX") + 1, list(m.lines[m.find("OBX")])), "OBX[2]"),),
    "action_triplet": (
        (_set("ORC", 1, "CA"), "ORC[1]-1"),
        (_set("OBX", 11, "D", 2), "OBX[2]-11"),
        (_set("OBX", 11, "D"), "OBX[1]-11"),
    ),
    "event_action": ((_set("OBX", 11, "D"), "OBX[1]-11"),),
    "document_readable": (
        (_document(b64encode(b"<x/>").decode()), "OBX[1]-5.5"),
        (_document("%%%%"), "OBX[1]-5.5"),
    ),
    "base64_whole": (
        (lambda m: m.put_part(m.obx("CORPSMAIL_PS"), 5, 1, 5, 0, UNPADDED), "CORPSMAIL_PS"),
        (lambda m: m.put_part(m.obx("CORPSMAIL_PS"), 5, 1, 5, 0, made.MAIL_TEXT[:9]), "CORPSMAIL_PS"),
        (lambda m: m.put_part(m.obx("CORPSMAIL_PS"), 5, 1, 5, 0, "%%"), "CORPSMAIL_PS"),
        (_document(UNPADDED), "OBX[1]-5.5"),
    ),
    "document_patient": ((_document(OTHER), "PID[1]-3"),),
    "document_number": ((_set("TXA", 12, "1.2.250.1.999.7.77"), "TXA[1]-12"),),
    "document_replaced": ((_set("TXA", 13, "1.2.250.1.999.7.77"), "TXA[1]-13"),),
    "document_type": ((_part("OBR", 4, "18748-4"), "OBR[1]-4.1"), (_part("TXA", 2, "18748-4"), "TXA[1]-2.1")),
    "same_type": ((_all(_document("%%%%"), _part("OBR", 4, "18748-4")), "OBR[1]-4.1"),),
    "document_relation": (
        (_document(made.cda(replaces=made.OLD)), "OBX[1]-5.5"),
        (_document(made.cda()), "OBX[1]-5.5"),
    ),
    "traits_in_document": ((_document(made.cda(traits=False)), "OBX[1]-5.5"),),
    "metadata_order": ((_swap, "MASQUE_PS"),),
    "metadata_twice": ((_double("MASQUE_PS"), "MASQUE_PS"),),
    "metadata_unknown": ((_add("OBX|30|CWE|DEST_DMP^x||Y||||||F"), "DEST_DMP"),),
    "a_destination": ((NO_FLAGS, "DESTDMP"),),
    "hidden_from_patient": ((_flag("INVISIBLE_PATIENT", "Y"), "DESTMSSANTEPAT"),),
    "routing_matrix": ((_flag("DESTMSSANTEPAT", "N"), "DESTMSSANTEPS"),),
    "sender_for_dmp": ((_drop("PRT"), "PRT[1]-4"),),
    "ins_for_dmp": ((lambda m: m.put_part(m.find("PID"), 32, 1, 1, 0, "PROV"), "DESTDMP"),),
    "recipients_for_mail": ((_drop("PRT", 2), "DESTMSSANTEPS"), (_drop("PRT", 3), "DESTMSSANTEPAT")),
    "patient_mailbox": ((_part("PRT", 15, "1930412@patient.mssante.fr", component=4, nth=3), "PRT[3]-15.4"),),
    "placer_number": ((_set("OBR", 2, "OPN2^^1.2.250.1.999.6^ISO"), "OBR[1]-2"),),
}  # fmt: skip

# What breaks together, because one thing is behind it: by rule id, the other rules that then speak too.
TOGETHER = {
    "same_type": {"document_readable"},
    "document_readable": {"base64_whole"},
    "base64_whole": {"document_readable"},
    "ins_for_dmp": {"PID-32/INS"},
    "PID-32/INS": {"ins_for_dmp"},
    "PID-32/R": {"ins_for_dmp"},
    "PID-32/table": {"ins_for_dmp"},
    "PID-32/contradiction": {"ins_for_dmp"},
    "ins_key": {"ins_for_dmp", "document_patient"},
    "PRT{4=SB}/R": {"sender_for_dmp"},
    "one_document": {"metadata_unknown"},
    "TXA-12/length": {"document_number"},
    "OBX{3=CONNEXION_SECRETE}/X": {"metadata_order"},
    "ORC-2.3/type": {"placer_number"},
    "ORC-2.4/table": {"placer_number"},
}


def _is_there(place: str, finding: ConformanceFinding, message: Editable) -> bool:
    if "[" in place:
        return finding.at == place
    line = message.lines[finding.line - 1]
    return line[0] == "OBX" and (place == "OBX" or line[3].split("^")[0] == place)


@pytest.mark.parametrize(("profile", "table", "rule_id"), CASES, ids=lambda value: str(value))
def test_a_rule_is_broken_alone(profile, table, rule_id):
    rule = next(one for one in profiles.profile_named(profile).rules if one.id == rule_id)
    allowed = TOGETHER.get(rule_id, set())
    bases = [Editable.of(text) for text in made.MESSAGES[profile]]
    if rule.kind == "check":
        tried = 0
        for change, place in NAMED[rule.wanted]:
            changed = [message for base in bases if (message := _changed(base, change)) is not None]
            tried += bool(changed)
            assert not changed or any(_alone_at(rule, place, profile, message, allowed) for message in changed), place
        assert tried
        return
    attempts = (message for base in bases for message in _broken(rule, base))
    nearest: set[str] = set()
    for message in attempts:
        found = _found(profile, message)
        spoke = {finding.rule for finding in found}
        if rule_id in spoke and spoke <= {rule_id} | allowed:
            for finding in found:
                if finding.rule == rule_id:
                    assert rule.at is None or finding.segment == rule.at.segment
                    assert rule.at is None or (finding.field, finding.component) == (rule.at.field, rule.at.component)
                    assert finding.severity is rule.severity
                    assert finding.sentence.endswith(".") and finding.standard
            return
        nearest = nearest or (spoke if rule_id in spoke else set())
    pytest.fail(f"no message breaks {rule_id} alone; nearest: {sorted(nearest)}")


def _changed(base: Editable, change: Change) -> Editable | None:
    message = base.copy()
    try:
        change(message)
    except (IndexError, StopIteration):
        return None  # this message has no such place
    return message


def _alone_at(rule: Rule, place: str, profile: str, message: Editable, allowed: set[str]) -> bool:
    found = _found(profile, message)
    mine = [finding for finding in found if finding.rule == rule.id]
    return len(mine) == 1 and _is_there(place, mine[0], message) and {finding.rule for finding in found} <= {rule.id} | allowed


def test_every_named_check_is_used_and_tested():
    used = {rule.wanted for name in profiles.NAMES for rule in profiles.profile_named(name).rules if rule.kind == "check"}
    assert used == set(CHECKS) == set(NAMED)


# ---- the language ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"at": "PID-3"},
        {"at": "PID-3", "usage": "R", "max": 1},
        {"at": "pid3", "usage": "R"},
        {"at": "PID-3{5}", "usage": "R"},
        {"usage": "R"},
        {"at": "PID-3", "usage": "R", "when": ["PID-3 equals 1"]},
        {"at": "PID-3", "usage": "R", "severity": "fatal"},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_read_is_refused(row):
    with pytest.raises(ValueError):
        rules_of({"rules": [row]}, "X")


def test_a_profile_that_leaves_out_what_is_not_there_is_refused():
    tables = {
        "a": {"title": "A", "types": ["ADT"], "includes": ["b"], "without": ["PID-9/R"]},
        "b": {"rules": [{"at": "PID-3", "usage": "R"}]},
        "c": {"title": "C", "types": ["ADT"], "includes": ["b"], "rules": [{"at": "PID-3", "usage": "R"}]},
    }
    with pytest.raises(ValueError, match="PID-9/R"):
        profiles.read_profile("a", tables.__getitem__)
    with pytest.raises(ValueError, match="two rules"):
        profiles.read_profile("c", tables.__getitem__)


def test_every_type_of_the_tables_is_known():
    types = {rule.wanted for name in profiles.NAMES for rule in profiles.profile_named(name).rules if rule.kind == "type"}
    assert types <= set(TYPES)


def test_places_are_told_as_they_stand():
    text = made.MESSAGES["cda-2.1"][0]
    message = Editable.of(text)
    message.put_part(message.find("PRT", 2), 15, 1, 3, 0, "NET")
    (finding,) = _found("cda-2.1", message)
    assert (finding.at, finding.line, finding.value) == ("PRT[2]-15.3", message.find("PRT", 2) + 1, "NET")
    assert finding.severity is Severity.WARNING


def test_no_sentence_holds_a_value():
    """Every field of every message is broken; what is said of it never repeats what stands there."""
    for profile, texts in made.MESSAGES.items():
        for text in texts[:2]:
            message = Editable.of(text)
            for line in range(1, len(message.lines)):
                for field in range(1, len(message.lines[line])):
                    if message.lines[line][field] and not (message.lines[line][0] == "OBX" and field in (2, 3)):
                        message.lines[line][field] = "SECRETMARK^SECRETMARK&SECRETMARK^SECRETMARK"
            found = _found(profile, message)
            assert found
            assert not any("SECRETMARK" in finding.sentence + finding.standard + finding.at for finding in found)


# ---- anything --------------------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["PID|", "ZBE|", "PRT|", "OBX|", "ZFA|", "MRG|", "\r", "|", "^", "~", "&", "\\", "ED", "Base64", '""', "INS", "ÿ", "\x00"]
)


@given(st.lists(_PIECES | st.text(max_size=8), max_size=60), st.sampled_from(profiles.NAMES))
@settings(max_examples=300, deadline=None)
def test_any_message_gets_a_report(pieces, profile):
    header = made.MESSAGES[profile][0].split("\r")[0]
    body = (header + "\r" + "".join(pieces)).encode()
    try:
        message = read(body)
    except MessageRefused:
        return
    evaluate(profiles.profile_named(profile).rules, CHECKS, message, SITE)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_get_a_report_or_a_refusal(data):
    try:
        message = read(b"MSH" + data)
    except MessageRefused:
        return
    for profile in profiles.NAMES:
        evaluate(profiles.profile_named(profile).rules, CHECKS, message, SITE)
