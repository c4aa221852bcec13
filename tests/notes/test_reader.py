"""Notes become cases, from a manifest or files; what cannot be read, or identifies somebody, is refused."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.data.faults import Faults
from medtl_core.data.partition import partition
from medtl_core.data.source import Source, open_source, private_source
from medtl_core.errors import DataError
from medtl_core.notes.identity import refusals
from medtl_core.values import Examples

TEXTS = ("The lungs are clear.", "There is a small effusion.", "The heart is large.", "A nodule is seen on the left.")


def written(
    folder: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("note", "label", "patient_id")
) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def many(count: int = 24) -> list[list[str]]:
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")
    return [[f"{TEXTS[row % 4]} {words[row % 8]} {words[row // 8]}", "ab"[row % 2], f"p{row}"] for row in range(count)]


def opened(folder: Path) -> tuple[Source, Faults]:
    faults = Faults()
    return open_source(settings({"data": "", "data-path": str(folder), "backbone": "text:words"}), faults), faults


def test_a_column_of_notes_is_read_with_line_breaks_and_letters_of_any_language(tmp_path: Path) -> None:
    rows = many()
    rows[3][0] = 'Befund:\n"unauffällig", keine Stauung'
    source, faults = opened(written(tmp_path, rows))
    assert not faults.causes
    assert source.examples["note"][3] == rows[3][0]
    assert len(source.examples) == 24


def test_a_file_a_note_is_read_in_three_encodings(tmp_path: Path) -> None:
    rows = many()
    for number, row in enumerate(rows):
        encoding = ("utf-8", "utf-16", "cp1252")[number % 3]
        (tmp_path / f"{number}.txt").write_bytes(f"Größe unverändert. {row[0]}".encode(encoding))
        row[0] = f"{number}.txt"
    source, faults = opened(written(tmp_path, rows, ("note_path", "label", "patient_id")))
    assert not faults.causes
    assert all(note.startswith("Größe unverändert.") for note in source.examples["note"])


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "gone.txt", ""])
def test_a_file_outside_the_folder_or_not_there_costs_its_case(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("The lungs are clear.", encoding="utf-8")
    folder, rows = tmp_path / "data", many()
    folder.mkdir()
    for number, row in enumerate(rows):
        (folder / f"{number}.txt").write_text(row[0], encoding="utf-8")
        row[0] = f"{number}.txt"
    rows[5][0] = name
    source, faults = opened(written(folder, rows, ("note_path", "label", "patient_id")))
    assert len(source.examples) == 23 and len(faults.rows) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.4 the lungs", rb"{\rtf1\ansi The lungs are clear.}", b"<HTML><body>The lungs are clear.</body></HTML>",
        b"\xef\xbb\xbf<?xml version='1.0'?><note>clear</note>", b"\xff\xd8\xff\xe0 lungs",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", b'{"text": "The lungs are clear."}',
        b"MSH|^~\\&|LAB|OBX|1|TX|The lungs are clear.",
    ],
)  # fmt: skip
def test_a_file_that_is_no_plain_text_costs_its_case(tmp_path: Path, content: bytes) -> None:
    rows = many()
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.txt").write_bytes(row[0].encode() if number else content)
        row[0] = f"{number}.txt"
    source, faults = opened(written(tmp_path, rows, ("note_path", "label", "patient_id")))
    assert len(source.examples) == 23 and "save it as plain text" in faults.causes[0].cause


@pytest.mark.parametrize(
    "note",
    ["", "   ", "120/80 37.2", "word " * 50_000, "NULL", "<html><p>The lungs are clear.</p></html>", r"{\rtf1 clear}",
     "Жалобы на боль".encode("cp1251").decode("cp1252"), "Gr\u00c3\u00b6\u00c3\u0178e normal"],
)  # fmt: skip
def test_a_note_without_words_or_without_end_costs_its_case(tmp_path: Path, note: str) -> None:
    rows = many()
    rows[7][0] = note
    source, faults = opened(written(tmp_path, rows))
    assert len(source.examples) == 23
    assert [fault.places for fault in faults.causes] == [("row 9",)]


def test_a_file_of_500_megabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    rows = many()
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.txt").write_text(row[0], encoding="utf-8")
        row[0] = f"{number}.txt"
    with (tmp_path / "4.txt").open("wb") as file:
        file.truncate(500 << 20)
    source, faults = opened(written(tmp_path, rows, ("note_path", "label", "patient_id")))
    assert len(source.examples) == 23 and "larger" in faults.causes[0].cause


def test_the_same_words_are_of_one_patient_whatever_the_numbers_between_them(tmp_path: Path) -> None:
    rows = [[f"The lungs are clear. {number}", "a", f"p{number}"] for number in range(6)]
    rows += [[f"{TEXTS[1]} word{chr(97 + number) * 3}", "b", f"q{number}"] for number in range(12)]
    rows += [[f"{TEXTS[2]} {chr(97 + number) * 3}", "a", f"p{number}"] for number in range(6)]
    source, _ = opened(written(tmp_path, rows))
    examples = source.examples
    alike = np.asarray([note.startswith("The lungs") for note in examples["note"]])
    assert len(set(examples["patient"][alike])) == 1
    assert set(examples["patient"][examples["label"] == 0]) == set(examples["patient"][alike])
    parts = partition(examples, settings({"sites": 2, "shots": 0, "partition": "even"}))
    sides = [set(examples["note_key"][part.train]) for part in parts.sites]
    assert not sides[0] & sides[1]
    assert not set.union(*sides) & set(examples["note_key"][parts.server_test])


def test_a_note_under_two_labels_is_at_fault_with_its_twin(tmp_path: Path) -> None:
    rows = many(40)
    rows[2][0] = rows[1][0].upper() + " 7"
    source, faults = opened(written(tmp_path, rows))
    assert len(source.examples) == 38
    assert [fault.places for fault in faults.causes] == [("row 3", "row 4")]


def test_under_privacy_no_patient_is_joined_to_another(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(json.dumps({"name": "t", "classes": ["a", "b"]}), encoding="utf-8")
    rows = many()
    rows[2][0] = rows[0][0]
    place = written(tmp_path, rows)
    chosen = settings({"data": "", "data-path": str(place), "backbone": "text:words", "privacy": "auto"})
    assert len(set(private_source(chosen).examples["patient"])) == 24
    assert len(set(opened(place)[0].examples["patient"])) == 23


def test_a_manifest_needs_one_of_the_two_columns(tmp_path: Path) -> None:
    rows = [[*row, "x.txt"] for row in many()]
    with pytest.raises(DataError, match="note_path"):
        opened(written(tmp_path, rows, ("note", "label", "patient_id", "note_path")))


IDENTITIES = {
    "names": "Seen with Mr. Abernathy today.",
    "birth": "The patient, DOB: 03/04/1950, came in.",
    "phone": "Call back at (555) 123-4567.",
    "mail": "Write to jane.roe@example.org for films.",
    "numbers": "MRN: 00482913, chest film.",
    "address": "Lives at 12 Willow Street with her son.",
}


@pytest.mark.parametrize("kind", IDENTITIES)
def test_a_note_that_identifies_somebody_is_refused_by_its_kind_and_not_quoted(tmp_path: Path, kind: str) -> None:
    rows = many()
    rows[4][0] += f" {IDENTITIES[kind]}"
    source, faults = opened(written(tmp_path, rows))
    assert len(source.examples) == 23
    told = str(faults.causes[0])
    assert f"{kind}" in told and "row 6" in told
    assert not any(word in told for word in ("Abernathy", "1950", "4567", "jane", "00482913", "Willow"))


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        (
            "names",
            "Patient: Müller, Hans *12.03.1950; Patient: Hans Müller, geb. 1950; NAME: SMITH, JOHN; "
            "Pat.: Schmidt, Eva; "
            "Nachname: Schmidt; Surname: Smith; First name: John; Nom : DUPONT Jean; Nombre: Juan García; "
            "Paciente: Juan García; Cognome: Rossi; Naam: Jansen; Herrn Ötzi Müller; Frau Dr. med. Schäfer; "
            "Prénom : Marie; Mme Élodie Blanc; Dr Ångström; Mr O'Brien; Mrs McDonald; Name: Łukasz; "
            "MÜLLER Hans, geb. 1950; Fr. Dr. Schmidt-Weber; Fr. Schmidt kam; Hr. Müller; pt: J. Smith; Pt J. Smith; "
            "seen by Drs. Lee and Park; O'Brien, Mary-Ann (DOB 3/4/1950); SCHMIDT, Eva (DOB 1950); Dr. van der Berg; "
            "Sra. de la Cruz; Mr. SMITH; DR. SMITH; Herr MÜLLER; Signed by: John A. Smith; John Smith, M.D.; "
            "Пациент: Иванов Иван; Hasta: Mehmet Kaya; Pani Kowalska; Όνομα: Γιώργος; "
            "Pacjent: Jan Kowalski; Dott.ssa Bianchi; DOE^JOHN",
        ),
        (
            "birth",
            "Hans *12.03.1950; geb. am 12.03.1950; Geb.-Datum: 12.03.1950; né le 12/03/1950; née le 12 mars 1950; "
            "date de naissance : 12/03/1950; fecha de nacimiento: 12/03/1950; nato il 12/03/1950; "
            "geboortedatum: 12-03-1950; DOB: 03-Apr-1950; born 12th March 1950; geb. 12 maart 1950; "
            "né le 1er mars 1950; nata a Roma il 12/03/1950; DOB (03/04/1950); "
            "Дата рождения: 12.03.1950; doğum tarihi 12.03.1950",
        ),
        ("phone", "Tél. 01 23 45 67 89; Handy 0171 1234567; Tel.: 0221/123456; 07700 900123; 0171/1234567; "
            "06 12 34 56 78; (02) 1234 5678; Tlf. 91 123 45 67; 00 49 30 1234567; (555)123-4567; ph: 555 123 4567"),
        ("numbers", "Fall-Nr. 12345678; Patienten-ID: 12345678; Pat.-Nr.: 123456; KVNR A123456789; "
            "NHS number 943 476 5919; patient number 12345; Med Rec No: 123456; BSN 123456782; CPF 123.456.789-09; "
            "12345678Z; RSSMRA85T10A562S; PESEL 44051401359; 120350-1234; 1 85 05 78 006 084; Acct No 123456; "
            "Chart # 12345; ID: 12345678"),
        ("addresses", "Hauptstr. 12; 12 rue de la Paix; Calle Mayor 5; Hauptstr. 5a; Via Roma 12; Kerkstraat 12; "
            "Postfach 1234"),
    ],
)  # fmt: skip
def test_what_letters_of_several_countries_say_of_a_person_is_found(kind: str, notes: str) -> None:
    missed = [note for note in notes.split("; ") if not any(kind in cause for cause in refusals(note))]
    assert missed == []


@pytest.mark.parametrize(
    "note",
    [
        "Patient: 65-year-old male", "Patient: Normal heart", "Patient: Keine Beschwerden im Liegen",
        "Paziente: sesso M",
        "Patient: XXXX", "Name: [NAME], XXXX", "NAME: XXXX XXXX", "Name: REDACTED BY MACHINE", "NAME: ABCD",
        "* 12.03.2020 CT thorax", "Paciente de 65 años", "Fall 3: Normal", "Nom du produit: X", "M. Crohn",
        "MR. XXXX", "Dr. ABCD", "LUNGE Frei", "The Infant, born at 38 weeks 1500 g", "14 Fr. Foley", "IPP 40mg",
        "nie 1000 ml", "pH: 7.35/45/22", "pt: Alert", "seen by Drs. XXXX", "born 38 weeks 1500 g", "MR THORAX",
    ],
)  # fmt: skip
def test_what_names_nobody_passes(note: str) -> None:
    assert refusals(note) == []


def test_many_such_notes_refuse_the_whole(tmp_path: Path) -> None:
    rows = [[f"{row[0]} Seen with Mr. Abernathy.", *row[1:]] for row in many()]
    with pytest.raises(DataError, match="24 of 24") as caught:
        open_source(settings({"data": "", "data-path": str(written(tmp_path, rows)), "backbone": "text:words"}))
    assert "Abernathy" not in str(caught.value)


def test_the_hospitals_own_file_permits_a_kind_and_no_run_can(tmp_path: Path) -> None:
    rows = many()
    rows[4][0] += f" {IDENTITIES['names']}"
    rows[5][0] += f" {IDENTITIES['phone']}"
    folder = written(tmp_path, rows)
    (folder / "notes.toml").write_text('permit = ["names"]', encoding="utf-8")
    source, _ = opened(folder)
    assert len(source.examples) == 23
    assert not any("identity" in key or "permit" in key for key in settings({}).public())


def shown(examples: Examples) -> set[str]:
    return {name for name, column in examples.columns.items() if any("lungs" in str(cell) for cell in column)}


def test_only_the_column_of_notes_holds_a_note(tmp_path: Path) -> None:
    assert shown(opened(written(tmp_path, many()))[0].examples) == {"note"}


def test_a_long_note_of_titles_is_searched_once() -> None:
    assert refusals("Dr " * 60_000) == refusals("Herr " + "A." * 60_000) == []
