"""Answers for an image archive: a Structured Report a case, beside a Secondary Capture of what was looked at.

A report is DICOM's measurement report (PS3.16 TID 1500) with a probability for each class and the likely classes,
marked as preliminary and unverified. Of a case that came as DICOM, both join its study with what its header says of the
patient, which the check for identities has let pass; of any other case they name nobody.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl_core.data.images import read_pictures
from medtl_core.data.views import Pixels, square
from medtl_core.errors import ConfigError
from medtl_core.predict.answer import Answer
from medtl_core.predict.colour import header_of
from medtl_core.predict.output import NOTICE, Heading

if TYPE_CHECKING:
    from medtl_core.predict.attribution import Attributor
    from medtl_core.predict.gradcam import GradCam

#: Coding scheme of a head's own classes; no vocabulary knows them.
_SCHEME = "99MEDTL"
#: Longest meaning of a code, and longest text of an element, in characters.
_MEANING = 64
_SIDE = 512
#: Elements of a study and its patient that a report shares with a case that came as DICOM.
_PATIENT = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def write_reports(
    answers: Iterable[Answer], heading: Heading, folder: Path, attributor: "Attributor | GradCam | None"
) -> Iterator[Answer]:
    """Passes answers on, and writes of each that has probabilities `NNNNN.sr.dcm` and, of a picture, `NNNNN.sc.dcm`.

    Args:
        answers: of cases on files.
        heading: of these.
        folder: new.
        attributor: where given, the Secondary Capture shows where the answer comes from, else the picture alone.

    Raises:
        ConfigError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise ConfigError("--format dicom needs highdicom; pip install 'medtl[dicom]'") from None
    folder.mkdir(parents=True)
    for number, answer in enumerate(answers, 1):
        if answer.probabilities:
            patient = header_of(Path(answer.name))
            capture = _capture(_picture(answer, attributor), patient)
            capture.save_as(folder / f"{number:05d}.sc.dcm", enforce_file_format=True)
            report = _report(answer, heading, patient, capture)
            report.save_as(folder / f"{number:05d}.sr.dcm", enforce_file_format=True)
        yield answer


def _picture(answer: Answer, attributor: "Attributor | GradCam | None") -> Pixels:
    if not Path(answer.name).exists():
        return np.zeros((_SIDE, _SIDE, 3), np.uint8)  # a built-in case has no file
    if attributor is None:
        return square(read_pictures(answer.name)[0], _SIDE)
    return attributor.explain(answer.name, answer.largest)[0].shown()


def _capture(pixels: Pixels, patient: Mapping[str, str]) -> Any:
    from highdicom.sc import SCImage
    from pydicom.uid import generate_uid

    made: Any = SCImage(
        pixel_array=np.ascontiguousarray(pixels),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=patient.get("StudyInstanceUID") or generate_uid(),
        series_instance_uid=generate_uid(),
        series_number=9001,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="medtl",
    )
    made.PatientOrientation = None  # the picture does not say
    made.SeriesDescription = "Research: where an answer comes from"
    made.DerivationDescription = NOTICE
    return _of_patient(made, patient)


def _report(answer: Answer, heading: Heading, patient: Mapping[str, str], capture: Any) -> Any:
    from highdicom.sr import EnhancedSR, MeasurementReport
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    source = Dataset()
    source.update(capture)
    for name in _PATIENT:  # said at the end: highdicom warns of names such as "Anonymous"
        setattr(source, name, None)
    for name, value in patient.items():
        if value and name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
            setattr(source, name, value)
    content = MeasurementReport(
        observation_context=_observer(heading),
        procedure_reported=_code("363679005", "Imaging", "SCT"),
        imaging_measurements=[_group(answer, heading, source)],
        title=_code("126000", "Imaging Measurement Report", "DCM"),
    )
    made = EnhancedSR(
        evidence=[source],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=9002,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="medtl",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    made.SeriesDescription = "Research: answer of a head, not verified"
    return _of_patient(made, patient)


def _of_patient(made: Any, patient: Mapping[str, str]) -> Any:
    """A data set with what the header of the case's own file says of its patient and study."""
    for name in _PATIENT:
        setattr(made, name, patient.get(name) or None)
    return made


def _group(answer: Answer, heading: Heading, source: Any) -> Any:
    """A probability for each class, the answer, and the classes in the set."""
    from highdicom import sr

    codes = {name: _code(f"class-{number}", name) for number, name in enumerate(heading.classes)}
    shares = [
        sr.Measurement(
            _code(f"p-{heading.classes.index(name)}", f"Probability of {name}"), share, _code("1", "no units", "UCUM")
        )
        for name, share in answer.probabilities.items()
    ]
    said = codes.get(answer.likeliest) or _code(
        "several" if answer.likeliest else "none", answer.likeliest or "No answer"
    )
    judged = [sr.QualitativeEvaluation(_code("answer", "Likeliest class"), said)]
    judged += [sr.QualitativeEvaluation(_code("likely", "Likely class"), codes[name]) for name in answer.likely]
    words = [f"{word}: {text}" for word, text in (("doubt", answer.doubt), ("promise", heading.promises)) if text]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identifier="answer of a head"),
        algorithm_id=sr.AlgorithmIdentification(
            "medtl", heading.version, parameters=[f"basis: {heading.basis}", *words, NOTICE], manufacturer="medtl"
        ),
        measurements=shares,
        qualitative_evaluations=judged,
        source_images=[sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )


def _observer(heading: Heading) -> Any:
    from highdicom import sr
    from pydicom.uid import generate_uid

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["medtl", heading.version]), name="medtl", model_name=heading.version
    )
    context = sr.ObserverContext(_code("121007", "Device", "DCM"), device)
    return sr.ObservationContext(observer_device_context=context)


def _code(value: str, meaning: str, scheme: str = _SCHEME) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning[:_MEANING])
