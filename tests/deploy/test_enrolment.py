"""One open port: what a hospital may do there, what nobody may, and every refusal by its reason."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from medtl_core.deploy.enrolment import REFUSALS, EnrolmentError, ask_standing, enrol
from medtl_core.deploy.invitation import fingerprint_of
from medtl_core.deploy.overview import overview, page
from medtl_core.deploy.roster import ROSTER, change_roster, read_roster
from medtl_core.deploy.told import Told, keep
from medtl_core.flower.processes.children import free_ports
from tests.deploy.coordinated import SECRET, Coordinated, coordinated, identity, new_key, signed
from tests.deploy.tls_made import made

FLEET = "/v1/fleet/pull-messages"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinated]:
    with coordinated(tmp_path_factory.mktemp("port")) as one:
        yield one


def reason(call: object) -> str:
    with pytest.raises(EnrolmentError) as caught:
        call()  # type: ignore[operator]
    assert len(str(caught.value)) > 20
    return caught.value.reason


def test_a_hospital_enrols_once_and_the_same_key_again_costs_nothing(port: Coordinated) -> None:
    invitation, private, public = port.joined("St. Mary's")
    assert enrol(invitation, public, identity("St. Mary's")).node == str(port.link.keys[public])
    member = read_roster(port.coordinator.folder).member("St. Mary's")
    assert (member.key, member.identity, member.registered) == (public, identity("St. Mary's"), True)
    assert abs(ask_standing(port.address, invitation.ca, "St. Mary's", private) - datetime.now(UTC)) < timedelta(
        seconds=30
    )
    assert invitation.token not in (port.coordinator.folder / ROSTER).read_text(encoding="utf-8")


def test_every_refusal_has_its_reason(port: Coordinated) -> None:
    invitation, _, public = port.joined("south")
    own = identity("south")
    _, other = new_key()
    unknown = replace(port.invite("east"), token="A" * 43)
    expired = port.invite("west", days=1e-9)
    second = port.invite("second")
    assert reason(lambda: enrol(unknown, other, own)) == "unknown-token"
    assert reason(lambda: enrol(invitation, other, own)) == "used-token"
    assert reason(lambda: enrol(expired, other, own)) == "expired"
    assert reason(lambda: enrol(replace(second, hospital="third"), other, own)) == "other-name"
    assert reason(lambda: enrol(second, public, identity("second"))) == "known-key"
    assert reason(lambda: enrol(second, other, "no key")) == "malformed"
    assert reason(lambda: enrol(second, "no key", identity("second"))) == "malformed"
    assert reason(lambda: enrol(second, new_key(ec.SECP256R1())[1], identity("second"))) == "malformed"
    assert port.ask("/enrol", body=b"{").json()["reason"] == "malformed"
    assert port.ask("/enrol", body=json.dumps({"hospital": "x" * 20_000}).encode()).json()["reason"] == "malformed"
    assert read_roster(port.coordinator.folder).member("second").key == ""


def test_who_is_revoked_is_out_at_its_next_request_and_in_again_by_a_new_invitation(port: Coordinated) -> None:
    invitation, private, public = port.joined("shut")
    assert port.ask(FLEET, signed(public, "c2ln")).status_code == 200
    change_roster(port.coordinator.folder, lambda roster: roster.revoked("shut", datetime.now(UTC)))
    refused = port.ask(FLEET, signed(public, "c2ln2"))
    assert (refused.status_code, refused.json()["reason"]) == (401, "revoked")
    assert reason(lambda: enrol(invitation, public, identity("shut"))) == "revoked"
    assert reason(lambda: ask_standing(port.address, invitation.ca, "shut", private)) == "revoked"
    assert enrol(port.invite("shut"), public, identity("shut"))
    assert port.ask(FLEET, signed(public, "c2ln3")).status_code == 200


def test_only_what_registered_hospitals_ask_passes_and_each_signature_once(port: Coordinated) -> None:
    _, private, public = port.joined("passes")
    before = len(port.link.asked)
    for path in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/openapi.json", "/", "/v1/fleet"):
        assert port.ask(path, signed(public, "x")).status_code == 403
    stranger = port.ask(FLEET, signed(new_key()[1], "x"))
    assert (stranger.status_code, stranger.json()["reason"]) == (401, "unregistered")
    assert port.ask(FLEET).status_code == 401
    assert len(port.link.asked) == before
    assert port.ask(FLEET, signed(public, "once")).status_code == 200
    again = port.ask(FLEET, signed(public, "once"))
    assert (again.status_code, again.json()["reason"]) == (401, "replayed")
    assert port.ask("/health", method="GET").json()["status"] == "ok"
    assert reason(lambda: ask_standing(port.address, port.coordinator.ca, "somebody else", private)) == "other-name"
    assert reason(lambda: ask_standing(port.address, port.coordinator.ca, "passes", new_key()[0])) == "unregistered"


def test_what_a_hospital_tells_of_itself_is_kept_and_nobody_tells_it_in_its_place(port: Coordinated) -> None:
    invitation, private, _ = port.joined("tells")
    address, ca, folder = port.address, invitation.ca, port.coordinator.folder

    def row() -> tuple[str, str]:
        view = overview(port.coordinator, None)
        return next((one.epsilon, one.left_out) for one in view.hospitals if one.name == "tells")

    assert row() == ("", "")
    ask_standing(address, ca, "tells", private, Told(2.5, 4.0, "<b>a cause (2 cases)").header())
    assert row() == ("2.5 of 4", "<b>a cause (2 cases)")
    text = page(overview(port.coordinator, None))
    assert "2.5 of 4" in text and "a cause (2 cases)" in text and "<b>a" not in text
    keep(folder, "tells", Told(4.0, 4.0, "", "2000-01-01T00:00:00+00:00"))  # an older question, sent again
    assert row()[0] == "2.5 of 4"
    assert reason(lambda: ask_standing(address, ca, "tells", new_key()[0], Told(0.0, 4.0).header())) == "unregistered"
    for odd in ("no base64", base64.b64encode(b'{"left": "x"}').decode(), Told(float("nan"), 4.0).header()):
        ask_standing(address, ca, "tells", private, odd)
    assert row()[0] == "2.5 of 4"
    change_roster(folder, lambda roster: roster.revoked("tells", datetime.now(UTC)))
    assert row() == ("", "")


def test_a_question_is_held_until_there_is_a_message(port: Coordinated) -> None:
    _, _, public = port.joined("waits")
    port.link.says = b""
    found: list[bytes] = []
    asking = threading.Thread(target=lambda: found.append(port.ask(FLEET, signed(public, "held")).content))
    try:
        asking.start()
        time.sleep(0.5)
        assert not found
        port.link.says = b"a message"
        assert port.desk("/v1/runtime/push-messages", method="POST").content == b"a message"
        asking.join(5.0)
        assert found == [b"a message"]
    finally:
        port.link.says = b"passed"


def test_the_desk_lets_this_machine_read_and_only_the_folders_owner_act(port: Coordinated) -> None:
    port.invite("<b>Krankenhaus Süd & Söhne</b>".replace("/", "|"))
    shown = port.desk("/")
    assert "&lt;b&gt;Krankenhaus Süd &amp; Söhne" in shown.text
    assert "<script" not in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert port.desk("/v1/control/list-runs", method="POST").status_code == 403
    assert port.desk("/v1/control/list-runs", {SECRET[0]: SECRET[1].decode()}, "POST").content == b"passed"
    assert port.desk("/", {"host": "evil.example"}).status_code == 403


def test_the_way_to_the_port_is_looked_at(port: Coordinated, tmp_path: Path) -> None:
    invitation, (_, public) = port.invite("way"), new_key()

    def at(**changed: str) -> str:
        return reason(lambda: enrol(replace(invitation, **changed), public, identity("way")))

    stranger = made("another root").pem
    assert at(ca=stranger, sha256=fingerprint_of(stranger)) == "untrusted"
    (closed,) = free_ports(1)
    assert at(address=f"127.0.0.1:{closed}") == "unreachable"
    assert at(address=port.coordinator.local) == "no-tls"
    with pytest.raises(httpx.TransportError), httpx.Client(trust_env=False) as client:
        client.post(f"http://{port.address}/enrol", json={})


def test_a_certificate_for_another_name_is_told(tmp_path: Path) -> None:
    from tests.deploy.tls_made import Port, opened

    root = made("root")
    with opened(Port(), tmp_path, made("server", root, ("fl.example.org",))) as wrong, coordinated(tmp_path) as port:
        invitation = replace(port.invite(), ca=root.pem, sha256=fingerprint_of(root.pem), address=wrong.address)
        assert reason(lambda: enrol(invitation, new_key()[1], identity("north"))) == "wrong-name"
    late = made("server", root, ("127.0.0.1",), first=timedelta(days=-9), last=timedelta(days=-1))
    with opened(Port(), tmp_path, late) as stale:
        invitation = replace(invitation, address=stale.address)
        assert reason(lambda: enrol(invitation, new_key()[1], identity("north"))) == "stale"
    assert set(REFUSALS) >= {"unknown-token", "used-token", "expired", "revoked", "other-name"}
