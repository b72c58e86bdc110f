"""Time stamps: precision kept, zone of the hub, the doubled hour, and never an exception."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.formats.ts import Precision, parse_ts

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "precision", "date", "when"),
    [
        ("2026", "YEAR", "2026", "2026"),
        ("202603", "MONTH", "2026-03", "2026-03"),
        ("20260302", "DAY", "2026-03-02", "2026-03-02"),
        ("2026030210", "HOUR", "2026-03-02", "2026-03-02T10:00:00+01:00"),
        ("202603021015", "MINUTE", "2026-03-02", "2026-03-02T10:15:00+01:00"),
        ("20260302101500", "SECOND", "2026-03-02", "2026-03-02T10:15:00+01:00"),
        ("20260702101500", "SECOND", "2026-07-02", "2026-07-02T10:15:00+02:00"),
        ("20260302101500.5", "FRACTION", "2026-03-02", "2026-03-02T10:15:00.5+01:00"),
        ("20260302101500.1234", "FRACTION", "2026-03-02", "2026-03-02T10:15:00.1234+01:00"),
        ("20260302101500-0330", "SECOND", "2026-03-02", "2026-03-02T10:15:00-03:30"),
        ("202603021015+0400", "MINUTE", "2026-03-02", "2026-03-02T10:15:00+04:00"),
    ],
)
def test_precision_is_kept(text, precision, date, when):
    ts = parse_ts(text, PARIS)
    assert (ts.precision.name, ts.fhir_date(), ts.fhir_datetime()) == (precision, date, when)
    assert ts.is_valid and not ts.problem


@pytest.mark.parametrize(
    "text",
    [
        "20261301",
        "20260230",
        "2026030225",
        "202603021061",
        "20260302101560",
        "abc",
        "2026-03-02",
        "202",
        "20260302101500+9900",
        "2026030210150",
        "00010101",
        "２０２６",
    ],
)
def test_what_is_no_time_stamp_says_nothing(text):
    ts = parse_ts(text, PARIS)
    assert (ts.instant, ts.micros, ts.problem, ts.fhir_datetime(), ts.fhir_instant()) == (None, 0, "TS_INVALID", "", "")


@pytest.mark.parametrize("text", ["", '""'])
def test_empty_is_no_problem(text):
    assert (parse_ts(text, PARIS).problem, parse_ts(text, PARIS).micros) == ("", 0)


def test_doubled_hour_is_the_first_one():
    ts = parse_ts("20261025023000", PARIS)
    assert (ts.problem, ts.instant) == ("TS_AMBIGUOUS", datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    assert parse_ts("20261025023000+0100", PARIS).problem == ""
    assert parse_ts("20261025", PARIS).problem == ""
    assert parse_ts("20261025033000", PARIS).problem == ""


def test_skipped_hour_is_told():
    ts = parse_ts("20260329023000", PARIS)
    assert (ts.problem, ts.fhir_datetime()) == ("TS_SKIPPED", "2026-03-29T03:30:00+02:00")


def test_a_day_as_an_instant_is_its_local_midnight():
    assert parse_ts("20260302", PARIS).fhir_instant() == "2026-03-02T00:00:00+01:00"
    assert parse_ts("202603", PARIS).fhir_instant() == ""


@given(st.text('0123456789.+-Z: é"', max_size=30))
def test_never_raises(text):
    ts = parse_ts(text, PARIS)
    assert (ts.instant is None) == (ts.precision is Precision.NONE)
    if ts.instant is not None:
        assert text[:4] == ts.fhir_date()[:4] or ts.skipped or text != text.strip()


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_an_offset_gives_back_the_same_instant(when):
    local = when.astimezone(PARIS).replace(microsecond=0)
    if local.utcoffset() % timedelta(minutes=1):
        return  # Paris had odd seconds until 1911; HL7 cannot write them
    ts = parse_ts(local.strftime("%Y%m%d%H%M%S%z"), PARIS)
    assert ts.instant == local
    assert datetime.fromisoformat(ts.fhir_datetime()) == local
    assert ts.micros == int(local.timestamp()) * 1_000_000
