"""The console over HTTP: sign-in, sessions, forms, masking, acts, both languages. No script needed."""

from __future__ import annotations

import json
import re
import time
import tomllib
from html import unescape
from importlib import resources
from string import Formatter

import pytest

from hub.web.console.sessions import IDLE_S, WHOLE_S, Sessions
from hub.web.tokens import Principal, Role

MARKED = ("QUATREMARRE", "Zélie-Anne", "8800471132", "279035121518989", "12 rue des Essais Marqués", "19790312")
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'"
PAGES = ("/console/", "/console/messages", "/docs")


def _hidden(html: str, name: str) -> str:
    return unescape(re.search(rf'name="{name}" value="([^"]*)"', html)[1])


def _form(client, uid: str, act: str, delivery: str = "") -> dict[str, str]:
    html = client.get(f"/console/messages/{uid}", params={"act": act, **({"delivery": delivery} if delivery else {})}).text
    assert 'id="act"' in html, act
    return {
        "csrf": _hidden(html, "csrf"),
        "form": _hidden(html, "form"),
        "reason": "essai de la console",
        **({"delivery": delivery} if delivery else {}),
    }


# ---- coming and going


def test_sign_in_with_a_token(house):
    client = house.client(headers={"Accept": "text/html"})
    sent_away = client.get("/console/messages?state=PARTIAL")
    assert (
        sent_away.status_code == 303
        and sent_away.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fmessages%3Fstate%3DPARTIAL"
    )
    assert _hidden(client.get(sent_away.headers["location"]).text, "next") == "/console/messages?state=PARTIAL"
    entered = client.post(
        "/console/sign-in", data={"token": f" {house.tokens['operator']} ", "next": "/console/messages?state=PARTIAL"}
    )
    assert entered.status_code == 303 and entered.headers["location"] == "/console/messages?state=PARTIAL"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and house.tokens["operator"] not in cookie
    assert client.get("/console/").status_code == 200
    assert house.audit("console.sign-in")[-1]["actor"] == "operator-1"


@pytest.mark.parametrize(
    "wanted",
    [
        "https://elsewhere.example",
        "//elsewhere.example",
        "/console//elsewhere",
        "/console/\\x",
        "/fhir/Patient",
        "/console/sign-out",
    ],
)
def test_sign_in_leads_to_no_other_site(house, wanted):
    entered = house.client().post("/console/sign-in", data={"token": house.tokens["operator"], "next": wanted})
    assert entered.headers["location"] == "/console/"


def test_a_wrong_token_or_role_is_told_in_words(own_house):
    client = own_house.client(headers={"Accept-Language": "fr"})
    wrong = client.post("/console/sign-in", data={"token": "vgm_no"})
    assert wrong.status_code == 401 and "inconnu ou révoqué" in wrong.text and "set-cookie" not in wrong.headers
    other = client.post("/console/sign-in", data={"token": own_house.tokens["professional"]})
    assert other.status_code == 403 and "rôle operator" in other.text and "set-cookie" not in other.headers


def test_a_one_use_link_opens_once(house):
    ticket = house.services.tickets.issue("operator", "demo")
    first, second = house.client(), house.client()
    assert first.get(f"/console/enter/{ticket}").status_code == 200 and first.get("/console/").status_code == 200
    assert second.get(f"/console/enter/{ticket}").status_code == 401
    assert second.get("/console/").status_code == 303


def test_sign_out_ends_the_session_and_needs_its_own_form(house):
    client = house.signed_in()
    cookie = dict(client.cookies)
    assert client.post("/console/sign-out", data={"csrf": "wrong"}).status_code == 403
    assert client.get("/console/").status_code == 200
    assert client.post("/console/sign-out", data={"csrf": _hidden(client.get("/console/").text, "csrf")}).status_code == 303
    assert house.client(cookies=cookie).get("/console/").status_code == 303


def test_a_revoked_token_ends_its_sessions(own_house):
    client = own_house.client()
    client.post("/console/sign-in", data={"token": own_house.tokens["operator"]})
    assert client.get("/console/").status_code == 200
    own_house.write(lambda tx: tx.run("UPDATE token SET revoked_at = 1"))
    assert client.get("/console/").status_code == 303


def test_sessions_end_by_themselves():
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0], at_most=2)
    secret = sessions.open(Principal(0, "x", Role.OPERATOR))
    now[0] = IDLE_S - 1
    assert sessions.find(secret) is not None
    now[0] += IDLE_S + 1
    assert sessions.find(secret) is None
    secret, began = sessions.open(Principal(0, "x", Role.OPERATOR)), now[0]
    while now[0] - began <= WHOLE_S:
        assert sessions.find(secret) is not None
        now[0] += IDLE_S / 2
    assert sessions.find(secret) is None
    first = sessions.open(Principal(0, "a", Role.OPERATOR))
    for _ in range(2):
        sessions.open(Principal(0, "b", Role.OPERATOR))
    assert sessions.find(first) is None
    session = sessions.find(sessions.open(Principal(0, "x", Role.OPERATOR, masked=True)))
    sessions.reveal(session, 7)
    assert sessions.minutes_revealed(session, 7) == 0


# ---- pages


@pytest.mark.parametrize("language", ["fr", "en"])
def test_pages_are_small_strict_and_whole(house, language):
    client = house.signed_in()
    paths = (*PAGES, *(f"/console/messages/{uid}" for uid in house.uids.values()), "/console/sign-in")
    for path in paths:
        response = client.get(path, params={"lang": language})
        html = response.text
        assert response.status_code == 200, path
        assert len(response.content) < 70_000 and response.headers["cache-control"] == "no-store", path
        assert (
            response.headers["content-security-policy"].startswith(POLICY)
            and "unsafe" not in response.headers["content-security-policy"]
        )
        assert not re.search(r'\sstyle="|\son[a-z]+="|javascript:|<script>|(?:src|href)="(?:https?:)?//', html), path
        assert f'<html lang="{language}">' in html and html.count("<h1") == 1 and 'class="skip"' in html, path
        assert all("<caption" in table for table in re.findall(r"<table.*?</table>", html, re.DOTALL)), path
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids)), path


def test_the_list_shows_every_state_by_shape_and_word(house):
    html = house.signed_in().get("/console/messages", params={"lang": "fr"}).text
    for word in (
        "Terminé",
        "En cours",
        "Partiel",
        "Refusé",
        "Mis de côté",
        "Sans route",
        "À décider",
        "Reçu",
        "IPP ••••1132",
        "document initial",
    ):
        assert word in html, word
    for shape in ("ok", "flow", "wait", "doubt", "fail", "aside"):
        assert f'href="#i-{shape}"' in html, shape


def test_filters_are_in_the_address_and_pages_follow(house):
    client = house.signed_in()
    html = client.get("/console/messages", params={"state": "PARTIAL", "source": "labo"}).text
    assert "LAB1002" in html and "LAB1001" not in html
    assert "LAB1002" in client.get("/console/messages", params={"type": "mdm^t02", "since": "24h"}).text
    empty = client.get("/console/messages", params={"control_id": "nothing", "lang": "fr"}).text
    assert "Aucun message ne répond" in empty and "Élargir" in empty
    for wrong in ({"state": "X"}, {"since": "yesterday"}, {"after": "x"}):
        assert client.get("/console/messages", params=wrong).status_code == 400
    assert client.get("/console/messages", params={"patient": "x"}).status_code == 404


def test_no_page_holds_a_patients_value(house):
    client = house.signed_in()
    client.headers["Accept"] = "*/*"
    paths = [*PAGES, f"/console/messages?patient={house.patient}", "/console/messages/new?last=0&open=" + house.uids["LAB1001"]]
    for uid in house.uids.values():
        paths += [f"/console/messages/{uid}", f"/console/messages/{uid}/live", f"/console/messages/{uid}?act=replay"]
    for path in paths:
        text = client.get(path).text
        assert not [value for value in MARKED if value in text], path


def test_a_message_tells_its_story(house):
    client = house.signed_in()
    waiting = client.get(f"/console/messages/{house.uids['LAB1001']}", params={"lang": "fr"}).text
    for said in (
        "Gardé sur le disque",
        "Acquitté AA",
        "Aiguillé vers 4 destinations",
        "destination non configurée",
        "Porté au dossier",
        "mssante:•••@",
    ):
        assert said in waiting, said
    refused = client.get(f"/console/messages/{house.uids['LAB1003']}", params={"lang": "en"}).text
    assert "Refused at the door" in refused and "PID-32" in refused and "Refused AE" in refused
    assert "does not read" not in refused
    unreadable = client.get(f"/console/messages/{house.uids['UNREADABLE']}", params={"lang": "en"}).text
    assert "do not read as HL7 v2" in unreadable
    assert client.get("/console/messages/nothing").status_code == 404


def test_opening_a_message_is_audited(house):
    before = len(house.audit("message.view"))
    house.signed_in().get(f"/console/messages/{house.uids['LAB1001']}")
    rows = house.audit("message.view")
    assert len(rows) == before + 1 and json.loads(rows[-1]["detail"]) == {"masked": True} and rows[-1]["patient_id"] is not None


def test_the_language_follows_the_browser_then_the_choice(house):
    client = house.client(headers={"Accept-Language": "en-GB,fr;q=0.5"})
    assert '<html lang="en">' in client.get("/console/sign-in").text
    assert '<html lang="fr">' in client.get("/console/sign-in?lang=fr").text
    assert '<html lang="fr">' in client.get("/console/sign-in").text
    assert '<html lang="fr">' in house.client(headers={"Accept-Language": "de"}).get("/console/sign-in?lang=xx").text


def test_live_news_counts_what_came_and_how_open_rows_stand(house):
    client = house.signed_in()
    client.headers["Accept"] = "application/json"
    uid = house.uids["LAB1001"]
    news = client.get("/console/messages/new", params={"last": 0, "open": uid, "lang": "fr"}).json()
    assert news["new"] == len(house.uids) and "nouveaux messages" in news["label"] and "En cours" in news["rows"][uid]["state"]
    assert client.get("/console/messages/new", params={"last": 0, "source": "agenda"}).json()["new"] == 1
    assert client.get("/console/messages/new", params={"last": 1 << 62}).json()["new"] == 0
    assert client.get("/console/messages/new", params={"last": "x"}).status_code == 400
    assert house.client(headers={"Accept": "application/json"}).get("/console/messages/new").status_code == 401


def test_static_files_are_kept_by_their_digest(house):
    html = house.client().get("/console/sign-in").text
    for url in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', html):
        response = house.client().get(url)
        assert response.status_code == 200 and "immutable" in response.headers["cache-control"] and len(response.content) < 30_000
    assert house.client().get("/console/static/console.css?v=other").headers["cache-control"] == "no-cache"
    for name in ("..%2f__init__.py", "words.toml", "nothing.css"):
        assert house.client().get(f"/console/static/{name}").status_code == 404


# ---- search


@pytest.mark.parametrize(
    ("text", "leads_to"),
    [
        ("LAB1002", r"/console/messages\?control_id=LAB1002"),
        ("mdm^t02", r"/console/messages\?type=MDM%5ET02"),
        ("8800471132", r"/console/messages\?patient=[0-9a-f-]{36}"),
        ("279035121518989", r"/console/messages\?patient=[0-9a-f-]{36}"),
        ("V4410", r"/console/messages\?patient=[0-9a-f-]{36}"),
        ("", "/console/messages"),
    ],
)
def test_a_search_word_is_recognised_and_no_patient_value_gets_into_the_address(house, text, leads_to):
    client = house.signed_in()
    csrf = _hidden(client.get("/console/").text, "csrf")
    response = client.post("/console/search", data={"q": text, "csrf": csrf})
    assert response.status_code == 303 and re.fullmatch(leads_to, response.headers["location"])
    assert client.get(response.headers["location"]).status_code == 200


def test_an_unknown_search_word_is_repeated_nowhere(house):
    client = house.signed_in()
    response = client.post(
        "/console/search", data={"q": "279035121518900", "csrf": _hidden(client.get("/console/").text, "csrf")}
    )
    assert response.status_code == 404 and "279035121518900" not in response.text
    assert client.post("/console/search", data={"q": "x"}).status_code == 403
    uid = house.uids["LAB1001"]
    csrf = _hidden(client.get("/console/").text, "csrf")
    assert client.post("/console/search", data={"q": uid, "csrf": csrf}).headers["location"] == f"/console/messages/{uid}"


# ---- seeing values


def test_values_are_shown_for_a_reason_for_a_while_and_only_of_that_message(own_house):
    house, client = own_house, own_house.signed_in()
    uid, other = house.uids["LAB1001"], house.uids["LAB1002"]
    assert client.get(f"/console/messages/{uid}/bytes").status_code == 403
    form = _form(client, uid, "reveal")
    assert client.post(f"/console/messages/{uid}/reveal", data=form | {"reason": "abc"}).status_code == 400
    shown = client.post(f"/console/messages/{uid}/reveal", data=form)
    assert shown.status_code == 303
    html = client.get(f"/console/messages/{uid}").text
    assert "QUATREMARRE" in html and "279035121518989" in html
    raw = client.get(f"/console/messages/{uid}/bytes")
    assert raw.content.startswith(b"MSH|") and raw.headers["content-disposition"].startswith("attachment")
    assert "QUATREMARRE" not in client.get(f"/console/messages/{other}").text
    assert "QUATREMARRE" not in house.signed_in().get(f"/console/messages/{uid}").text
    row = house.audit("message.reveal")[-1]
    assert json.loads(row["detail"]) == {"reason": "essai de la console"} and row["patient_id"] is not None
    assert house.audit("message.body")[-1]["target"] == f"message/{uid}"
    house.app.state.sessions._clock = lambda: time.monotonic() + 601
    assert "QUATREMARRE" not in client.get(f"/console/messages/{uid}").text
    assert client.get(f"/console/messages/{uid}/bytes").status_code == 403


def test_a_masked_session_never_sees_values(house):
    client, uid = house.signed_in(masked=True), house.uids["LAB1001"]
    html = client.get(f"/console/messages/{uid}?act=reveal").text
    assert 'id="act"' not in html and 'href="?act=reveal' not in html
    form = {"csrf": _hidden(html, "csrf"), "form": "x", "reason": "essai de la console"}
    assert client.post(f"/console/messages/{uid}/reveal", data=form).headers["location"].endswith("done=twice")
    session = next(reversed(house.app.state.sessions._open.values()))
    assert client.post(f"/console/messages/{uid}/reveal", data=form | {"form": session.new_form()}).status_code == 403
    assert client.get(f"/console/messages/{uid}/bytes").status_code == 403


# ---- acts


def test_acts_ask_first_then_act_once_and_leave_their_reason(own_house):
    house, client = own_house, own_house.signed_in()
    uid = house.uids["LAB1002"]
    api = house.client("operator")
    dead = next(d["id"] for d in api.get(f"/api/v1/messages/{uid}").json()["deliveries"] if d["state"] == "DEAD")
    form = _form(client, uid, "retry", dead)
    assert house.operations.done == []
    first = client.post(f"/console/messages/{uid}/retry", data=form)
    again = client.post(f"/console/messages/{uid}/retry", data=form)
    assert first.headers["location"].endswith("?done=retry") and again.headers["location"].endswith("?done=twice")
    assert house.operations.done == [("retry", dead)]
    assert "La livraison repart" in client.get(first.headers["location"], params={"done": "retry", "lang": "fr"}).text
    assert client.post(f"/console/messages/{uid}/skip", data=_form(client, uid, "skip", dead)).status_code == 303
    assert json.loads(house.audit("delivery.skip")[-1]["detail"]) == {"reason": "essai de la console"}
    aside = house.uids["LAB1004"]
    assert client.post(f"/console/messages/{aside}/discard", data=_form(client, aside, "discard")).status_code == 303
    assert api.get(f"/api/v1/messages/{aside}").json()["state"] == "DISCARDED"
    assert 'id="act"' not in client.get(f"/console/messages/{aside}?act=discard").text


def test_replay_ticks_nothing_that_leaves_the_house(own_house):
    client, uid = own_house.signed_in(), own_house.uids["LAB1001"]
    html = client.get(f"/console/messages/{uid}?act=replay").text
    boxes = re.findall(r'<input type="checkbox" name="destination" value="([^"]+)"( checked)?> ([^ <]+)', html)
    assert [(name.partition(":")[0], bool(ticked)) for _, ticked, name in boxes] == [
        ("record", True),
        ("lab-out", True),
        ("dmp", False),
        ("mssante", False),
    ]
    keys = {name.partition(":")[0]: key for key, _, name in boxes}
    form = _form(client, uid, "replay")
    assert client.post(f"/console/messages/{uid}/replay", data=form).status_code == 400
    assert client.post(f"/console/messages/{uid}/replay", data=form | {"destination": "dmp"}).status_code == 400
    done = client.post(f"/console/messages/{uid}/replay", data=form | {"destination": [keys["record"], keys["lab-out"]]})
    assert done.headers["location"].endswith("?done=replay") and own_house.operations.done == [("replay", "record,lab-out")]
    page = client.get(f"/console/messages/{uid}?act=replay").text
    clash = client.post(
        f"/console/messages/{uid}/replay",
        data={
            "csrf": _hidden(page, "csrf"),
            "form": _hidden(page, "form"),
            "reason": "essai de la console",
            "destination": keys["dmp"],
        },
    )
    assert clash.status_code == 409 and own_house.audit("message.replay.refused")
    assert not [value for value in MARKED if value in str(own_house.audit()) + clash.text]


def test_forms_of_others_are_refused(own_house):
    client, uid = own_house.signed_in(), own_house.uids["LAB1004"]
    form = _form(client, uid, "discard")
    url = f"/console/messages/{uid}/discard"
    assert client.post(url, data=form | {"csrf": ""}).status_code == 403
    assert client.post(url, data={key: value for key, value in form.items() if key != "csrf"}).status_code == 403
    stranger = own_house.signed_in()
    assert client.post(url, data=form | {"csrf": _hidden(stranger.get("/console/").text, "csrf")}).status_code == 403
    assert client.post(url, data=form, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert client.post(url, data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post(url, json=form).status_code == 415
    assert client.post(f"/console/messages/{uid}/explode", data=form).status_code == 404
    assert own_house.operations.done == []
    assert (
        client.post(url, data=form, headers={"Origin": own_house.server.url, "Sec-Fetch-Site": "same-origin"}).status_code == 303
    )


def test_an_act_on_a_delivery_of_another_message_is_refused(own_house):
    client, api = own_house.signed_in(), own_house.client("operator")
    dead = api.get("/api/v1/deliveries?state=DEAD").json()["items"][0]["id"]
    form = _form(client, own_house.uids["LAB1002"], "skip", dead)
    assert client.post(f"/console/messages/{own_house.uids['ADM0001']}/skip", data=form).status_code == 404
    assert own_house.operations.done == []


# ---- words


def test_both_languages_say_the_same_with_the_same_blanks():
    words = tomllib.loads(resources.files("hub.web").joinpath("words.toml").read_text("utf-8"))
    for section, texts in words.items():
        for name, pair in texts.items():
            assert len(pair) == 2 and all(pair), (section, name)
            french, english = ({field for _, field, _, _ in Formatter().parse(text) if field} for text in pair)
            assert french == english, (section, name)


def test_every_word_that_a_page_asks_for_exists():
    words = tomllib.loads(resources.files("hub.web").joinpath("words.toml").read_text("utf-8"))
    sources = [
        entry
        for folder in ("templates", "console")
        for entry in resources.files("hub.web").joinpath(folder).iterdir()
        if entry.is_file()
    ]
    asked = {
        key
        for entry in sources
        for key in re.findall(
            r'\bw(?:ords)?(?:\.plural)?\(\s*[f]?["\']([a-z_]+\.[A-Za-z_]+)["\']\s*[,)]', entry.read_text("utf-8")
        )
    }
    assert len(asked) > 100
    assert not [key for key in asked if key.partition(".")[2] not in words[key.partition(".")[0]]]


def test_numbers_and_times_are_written_as_each_language_does():
    from zoneinfo import ZoneInfo

    from hub.web.rendering import Words

    french, english = Words("fr", ZoneInfo("Europe/Paris")), Words("en", ZoneInfo("Europe/Paris"))
    at = 1_795_447_927_250_000
    assert (french.number(12345), english.number(12345)) == ("12\u202f345", "12,345")
    assert (french.instant(at), english.instant(at)) == ("23/11/2026 16:32:07", "23 Nov 2026 16:32:07")
    assert (french.fraction(at), english.fraction(at)) == (",250", ".250")
    assert [french.size(n) for n in (521, 4_800, 331_000, 2_100_000)] == [
        "521\u00a0o",
        "4,8\u00a0ko",
        "331\u00a0ko",
        "2,1\u00a0Mo",
    ]
    assert [french.gap(us) for us in (6_000, 1_800_000, 90_000_000, 7_260_000_000, 180_000_000_000)] == [
        "6\u00a0ms",
        "1,8\u00a0s",
        "1\u00a0min 30\u00a0s",
        "2\u00a0h 1\u00a0min",
        "2\u00a0j 2\u00a0h",
    ]
    assert (french.capped(10_001), french.plural("list.shown", 0), english.plural("list.shown", 0)) == (
        "10\u202f000+",
        "0 ligne",
        "0 rows",
    )


def test_home_says_the_worst_first(own_house):
    house, client = own_house, own_house.signed_in()

    def headline() -> str:
        html = client.get("/console/", params={"lang": "fr"}).text
        return re.sub(r"<[^>]+>|\s+", " ", re.search(r'class="note big \w+">(.*?)</p>', html, re.DOTALL)[0])

    assert "4 messages demandent une décision" in headline()
    house.write(lambda tx: tx.run("UPDATE lane SET blocked_reason = 'destination unavailable' WHERE destination = 'dmp'"))
    assert "dmp est en panne" in headline() and "1 livraison attend" in headline()
    house.write(lambda tx: tx.run("UPDATE message SET state = 'DONE'"))
    house.write(lambda tx: tx.run("UPDATE delivery SET state = 'DELIVERED' WHERE destination IN ('dmp', 'ris-out')"))
    assert "1 livraison attend une destination non configurée : mssante." in headline()
    house.write(lambda tx: tx.run("UPDATE delivery SET state = 'DELIVERED'"))
    assert "Rien n’attend une personne" in headline()
