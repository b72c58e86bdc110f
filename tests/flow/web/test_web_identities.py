"""The queue of doubtful identities over HTTP: who may look, what is shown, what each decision does and leaves in the audit."""

from __future__ import annotations

from itertools import count

import pytest

from hub.model.identifiers import INS_NIR_TEST, InsMatricule, LocalIdentifier
from hub.model.identity import PatientIdentity
from hub.model.uids import uid_text
from hub.record.identity import resolve_all

INS = "284057512345672"


def person(ipp: str, name: str) -> PatientIdentity:
    return PatientIdentity(
        local=(LocalIdentifier("urn:oid:1.2.250.1.999.7", ipp),),
        ins=(InsMatricule(INS, INS_NIR_TEST),),
        statuses=("VALI",),
        birth_name=name,
        birth_date="19840501",
        sex="F",
    )


@pytest.fixture
def doubtful(own_house):
    """A house with one case: an INS that two patients claim. Its id, holder and newcomer."""
    numbers = count(own_house.store.next_id())

    def job(tx):
        told = [(next(numbers), person("Q1", "ESSAI")), (next(numbers), person("Q2", "AUTRE"))]
        first, second = resolve_all(tx, told, next_id=lambda: next(numbers), now_us=own_house.store.now_us())
        (row,) = tx.rows("SELECT id FROM identity_case")
        return uid_text(row[0]), uid_text(first.patient_id), uid_text(second.patient_id)

    return own_house, *own_house.write(job)


def test_only_operators_look_and_decide(own_house):
    case = uid_text(own_house.store.next_id())
    for role in ("professional", "system"):
        with own_house.client(role) as client:
            assert client.get("/api/v1/identity-cases").status_code == 403
            assert client.post(f"/api/v1/identity-cases/{case}/link", json={"reason": "same"}).status_code == 403
            assert client.post(f"/api/v1/merges/{case}/undo", json={"reason": "same"}).status_code == 403


def test_a_case_is_listed_previewed_linked_and_undone(doubtful):
    house, case, holder, newcomer = doubtful
    with house.client("operator") as client:
        (item,) = client.get("/api/v1/identity-cases").json()["items"]
        assert (item["id"], item["kind"], item["patient"]["id"], item["other"]["id"]) == (
            case,
            "INS_TRAITS_DIFFER",
            newcomer,
            holder,
        )
        assert item["identifier"]["value"] == INS and item["decisions"] == ["link", "split", "refuse"]
        told = client.get(f"/api/v1/identity-cases/{case}/preview", params={"action": "link"}).json()
        assert told["possible"] and told["agree"] == {"birth_name": False, "birth_date": True, "sex": True}
        assert client.get("/api/v1/identity-cases").json()["items"][0]["state"] == "OPEN"
        linked = client.post(f"/api/v1/identity-cases/{case}/link", json={"reason": "papers seen"})
        assert (linked.status_code, linked.json()["state"], linked.json()["patient"]["merged_into"]) == (200, "LINKED", holder)
        assert client.get("/api/v1/identity-cases").json()["items"] == []
        again = client.post(f"/api/v1/identity-cases/{case}/split", json={"reason": "papers seen"})
        assert (again.status_code, again.json()["code"]) == (409, "NotPossible")
        (merge,) = client.get("/api/v1/merges", params={"patient": newcomer}).json()["items"]
        assert (merge["survivor"], merge["prior"], merge["undone_at"]) == (holder, newcomer, None)
        undone = client.post(f"/api/v1/merges/{merge['id']}/undo", json={"reason": "wrong papers"})
        assert undone.json() == {"id": merge["id"], "undone": True}
        assert client.post(f"/api/v1/merges/{merge['id']}/undo", json={"reason": "wrong papers"}).status_code == 409
        (merge,) = client.get("/api/v1/merges", params={"patient": holder}).json()["items"]
        assert merge["undone_at"] and merge["undone_by"] == merge["by"]
    acts = house.read(
        lambda tx: tx.rows("SELECT act, detail FROM audit WHERE act LIKE 'identity.%' OR act LIKE 'merge.%' ORDER BY id")
    )
    assert [act for act, _ in acts if "refused" not in act and "list" not in act] == [
        "identity.link",
        "identity.split",
        "merge.undo",
        "merge.undo",
    ]
    assert '"papers seen"' in next(detail for act, detail in acts if act == "identity.link")
    assert INS not in str(acts)


def test_a_masked_token_sees_no_number(doubtful):
    house, case, _, _ = doubtful
    with house.client("masked") as client:
        item = client.get(f"/api/v1/identity-cases/{case}").json()
        assert "value" not in item["identifier"]
        assert INS not in client.get("/api/v1/identity-cases").text


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/v1/identity-cases/{case}/link", None, 400, "ReasonMissing"),
        ("/api/v1/identity-cases/{case}/link", {"reason": "  "}, 400, "ReasonMissing"),
        ("/api/v1/identity-cases/{case}/refuse", {"reason": "no", "x": 1}, 400, "UnknownKey"),
        ("/api/v1/identity-cases/{none}/link", {"reason": "same person"}, 404, "NotFound"),
        ("/api/v1/identity-cases/nonsense/link", {"reason": "same person"}, 404, "NotFound"),
        ("/api/v1/merges/{none}/undo", {"reason": "wrong"}, 409, "NotPossible"),
    ],
)
def test_what_is_not_right_is_said(doubtful, path, body, status, code):
    house, case, _, _ = doubtful
    with house.client("operator") as client:
        answer = client.post(path.format(case=case, none=uid_text(house.store.next_id())), json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        for query in ("?action=forget", ""):
            assert client.get(f"/api/v1/identity-cases/{case}/preview{query}").status_code in (400, 422)
        assert client.get("/api/v1/identity-cases?state=GONE").status_code == 400
