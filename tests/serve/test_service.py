"""The service answers what `medtl predict` answers, to its own page alone, and keeps nothing."""

import base64
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from PIL import Image

from medtl_core.cli import app as cli
from medtl_core.cli.predict import heading_of
from medtl_core.config import settings
from medtl_core.errors import ConfigError
from medtl_core.features.spec import feature_facts, feature_spec
from medtl_core.predict import Predictor, load
from medtl_core.predict.saved import save_head
from medtl_core.serve.app import Service, application
from medtl_core.serve.guard import hosts_of
from medtl_core.values import Head
from tests.formats.dicom_made import dicom
from tests.predict.heads import CLASSES, film, made, made_of_table

pytestmark = pytest.mark.usefixtures("one_torch_thread")
HERE = "http://127.0.0.1:8765"


def asked(predictor: Predictor, limit: int = 1_000_000, least: float = 0.0) -> TestClient:
    service = Service(predictor, heading_of(predictor, {}), least=least, limit=limit)
    return TestClient(application(service, hosts_of("127.0.0.1", (), opened=False)), base_url=HERE)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return made(tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the service."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def service(predictor: Predictor) -> Iterator[TestClient]:
    with asked(predictor) as client:
        yield client


@pytest.fixture
def client(service: TestClient, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of a service whose temporary folder holds nothing when the test ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield service
    assert [*place.iterdir()] == []


def table_head(folder: Path) -> Predictor:
    """A head that takes the larger of two columns."""
    chosen = settings({"backbone": "table"})
    spec = feature_spec(chosen, (), ("a", "b"))
    facts = {"features": {**feature_facts(chosen, ()), "columns": ["a", "b"]}}
    head = Head(np.asarray([[1.0, 0, 0, 0], [0, 0, 1, 0]]), np.zeros(2), "x", ("<b>&", "y"), spec.fingerprint, facts)
    return load(save_head(head, folder, "made"))


def test_it_answers_as_the_command_does(client: TestClient, predictor: Predictor, tmp_path: Path) -> None:
    path = film(tmp_path).path
    (expected,) = predictor.answers([path])
    said = client.post("/v1/answers?map=1", content=path.read_bytes()).json()
    (answer,) = said["answers"]
    assert answer == {**expected.as_dict(), "case": "the file"}
    assert said["head"] == predictor.version and set(answer["probabilities"]) == set(CLASSES)
    kind, _, data = said["map"].partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert kind == "data:image/png;base64" and picture.size == (64, 64)
        (shown,) = predictor.attributor().explain(path, expected.likeliest)
        np.testing.assert_array_equal(np.asarray(picture), shown.shown())
    assert client.post("/v1/answers", content=path.read_bytes()).json()["map"] is None


def test_the_page_holds_nothing_inline_and_names_no_other_host(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for text in (page.text, client.get("/page.css").text, client.get("/page.js").text):
        assert "http" not in text and "style=" not in text and "onclick" not in text and "innerHTML" not in text
    assert page.text.count("<script") == 1 and 'src="page.js"' in page.text
    assert "set-cookie" not in page.headers and page.headers["cache-control"] == "no-store"
    assert not [name for name in page.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example"},
        {"host": "attacker.example:8765"},
        {"host": "127.0.0.1.attacker.example"},
        {"origin": "http://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_or_name_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    reply = client.post("/v1/answers", content=b"x", headers=headers)
    assert reply.status_code == 403 and "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765"])
def test_its_own_names_are_known(client: TestClient, host: str) -> None:
    own = {"host": host, "origin": f"http://{host.lower()}", "sec-fetch-site": "same-origin"}
    assert client.get("/v1/head", headers=own).json()["classes"] == list(CLASSES)


def test_a_large_file_is_refused_before_it_is_read(client: TestClient) -> None:
    read = []

    def body() -> Iterator[bytes]:
        for _ in range(100):
            read.append(1)
            yield bytes(100_000)

    told = client.post("/v1/answers", content=body(), headers={"content-length": "500000000"})
    assert told.status_code == 413 and "1 MB" in told.json()["fault"]
    assert client.post("/v1/answers", content=body()).status_code == 413  # without a length


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b" + bytes(40), bytes(400)])
def test_what_is_no_picture_has_no_answer_and_names_no_place(client: TestClient, content: bytes) -> None:
    reply = client.post("/v1/answers?map=1", content=content)
    said = reply.json()
    fault = said["fault"] if reply.status_code == 422 else said["answers"][0]["fault"]
    assert fault and "temporary" not in json.dumps(said) and "medtl-serve" not in json.dumps(said)


def test_a_dicom_file_is_read_and_one_that_names_a_patient_is_refused(client: TestClient, tmp_path: Path) -> None:
    plain, named = tmp_path / "plain.dcm", tmp_path / "named.dcm"
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    dicom(plain, pixels, BurnedInAnnotation="NO")
    dicom(named, pixels, BurnedInAnnotation="NO", PatientName="Doe^Jane")
    (answer,) = client.post("/v1/answers", content=plain.read_bytes()).json()["answers"]
    assert not answer["fault"] and len(answer["probabilities"]) == 3
    said = client.post("/v1/answers", content=named.read_bytes())
    assert said.json()["answers"][0]["fault"] and "Jane" not in said.text


def test_a_table_is_answered_row_by_row(tmp_path: Path) -> None:
    with asked(table_head(tmp_path), least=0.99) as client:
        said = client.post("/v1/answers", content=b"a,b\n9,1\n1,9\nx,1\n1,1\n").json()["answers"]
        told = {row["case"]: row for row in said}
        assert [told[f"row {number}"]["answer"] for number in (2, 3, 4, 5)] == ["<b>&", "y", None, None]
        assert told["row 4"]["fault"] and "below 0.99" in told["row 5"]["doubt"]
        assert client.post("/v1/answers", content=b"a,c\n3,1\n").status_code == 422
        page = client.get("/").text
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page


def test_records_are_answered_under_agreed_names_which_the_page_tells(tmp_path: Path) -> None:
    told = ("glucose (mmol/L, 1.0 to 40.0, about 20.5 by 9.75)", "smoker (flag)", "stage=I", "stage=II", "stage=other")
    with asked(made_of_table(tmp_path, told)) as client:
        row = client.post("/v1/answers", content=b"stage,smoker,glucose,ward\nI,no,5.0,x\nIV,,90,x\n").json()["answers"]
        faults = {one["case"]: one["fault"] for one in row}
        assert not faults["row 2"] and "1 to 40 mmol/L" in faults["row 3"] and "case.csv" not in faults["row 3"]
        missing = client.post("/v1/answers", content=b"stage,smoker\nI,no\n").json()["fault"]
        assert "column 'glucose' is missing" in missing and missing.startswith("the file")
        assert "glucose (mmol/L), smoker (yes or no), stage (I or II or other)" in client.get("/").text


@pytest.mark.parametrize(
    ("address", "names", "opened"),
    [("0.0.0.0", (), False), ("0.0.0.0", (), True), ("192.0.2.7", ("ward",), False), ("::", (), True)],
)
def test_an_address_that_others_reach_needs_a_word_and_a_name(
    address: str, names: tuple[str, ...], opened: bool
) -> None:
    with pytest.raises(ConfigError):
        hosts_of(address, names, opened=opened)


def test_an_opened_service_is_known_by_its_name_alone() -> None:
    assert hosts_of("192.0.2.7", ("ward",), opened=True) == ("192.0.2.7", "ward")
    assert hosts_of("0.0.0.0", ("ward",), opened=True) == ("ward",)


@pytest.mark.parametrize("words", [["--prevalence", "y=1"], ["--least", "2"], ["--address", "0.0.0.0"]])
def test_the_command_refuses_before_it_listens(tmp_path: Path, words: list[str]) -> None:
    table_head(tmp_path)
    assert CliRunner().invoke(cli.app, ["serve", str(tmp_path / "made"), *words]).exit_code == 1
