"""Which files of a folder may be taken, and when: whatever stands there, in whatever order it is listed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.flow import files_seen
from hub.flow.files_seen import Settling, look
from hub.model.ports import Entry

NAMES = st.text(st.sampled_from("ab.~\n/é\udcff*["), min_size=1, max_size=6).map(lambda stem: f"{stem}.hl7")


def entry(name: str, size: int = 1, changed: int = 1, **more: bool) -> Entry:
    return Entry(name, size, changed, **{"is_file": True, **more})


ENTRIES = st.builds(entry, NAMES, st.integers(0, 2), is_file=st.booleans(), is_folder=st.booleans())


@given(st.lists(ENTRIES, max_size=40, unique_by=lambda one: one.name))
@settings(deadline=None)
def test_the_first_names_are_chosen_in_their_order_and_nothing_odd(entries):
    before, files_seen.AT_ONCE = files_seen.AT_ONCE, 5
    try:
        seen = look(iter(entries), "*.hl7")
    finally:
        files_seen.AT_ONCE = before
    fit = [e for e in entries if e.is_file and not e.is_folder and e.size and not e.name.startswith(".")]
    fit = sorted(e.name for e in fit if e.name.isprintable() and "/" not in e.name and "\udcff" not in e.name)
    assert [e.name for e in seen.files] == fit[:5]
    assert seen.more == (len(fit) > 5)
    folders = sum(e.is_folder or e.name.startswith(".") for e in entries)
    assert seen.odd + seen.empty + len(fit) + folders == len(entries)


def test_a_pattern_is_of_the_whole_name_and_counts_capitals():
    names = ("a.hl7", "a.HL7", "a.hl7.ack", "ba.hl7", "a.hl7.part")
    assert [e.name for e in look((entry(n) for n in names), "a*.hl7").files] == ["a.hl7"]


def test_a_file_settles_when_two_looks_see_the_same():
    settling = Settling(10)
    assert settling.ready(look([entry("a.hl7", 5)], "*"), 100) == []
    assert settling.ready(look([entry("a.hl7", 6)], "*"), 111) == []  # it grew
    assert settling.ready(look([entry("a.hl7", 6, changed=2)], "*"), 122) == []  # written again
    assert settling.ready(look([entry("a.hl7", 6, changed=2)], "*"), 131) == []
    assert [e.name for e in settling.ready(look([entry("a.hl7", 6, changed=2)], "*"), 132)] == ["a.hl7"]


def test_a_file_that_was_a_part_of_the_same_size_is_whole_at_once():
    settling = Settling(10)
    assert settling.ready(look([entry("a.hl7.part", 5), entry("b.hl7.part", 5)], "*.hl7"), 100) == []
    ready = settling.ready(look([entry("a.hl7", 5), entry("b.hl7", 6)], "*.hl7"), 101)
    assert [e.name for e in ready] == ["a.hl7"]


def test_what_is_forgotten_begins_anew():
    settling = Settling(10)
    settling.ready(look([entry("a.hl7")], "*"), 100)
    settling.ready(look([], "*"), 105)
    assert settling.ready(look([entry("a.hl7")], "*"), 111) == []
    assert len(settling._since) == 1
