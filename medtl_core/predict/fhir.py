"""Answers as HL7 FHIR (R4 and R5 alike): one bundle, a preliminary DiagnosticReport a case with its Observation.

No patient is named: `subject` is left to the system that knows whose case it is. Classes have no codes of a vocabulary;
their names stand as text.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from medtl_core.predict.answer import Answer
from medtl_core.predict.output import NOTICE, Heading

#: Names the ids of resources, which follow from the head, the case's place and the answer.
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:medtl:answer")


def fhir_lines(answers: Iterable[Answer], heading: Heading) -> Iterator[str]:
    """Yields one Bundle in lines, an entry a line."""
    yield '{"resourceType": "Bundle", "type": "collection", "entry": ['
    last = ""
    for number, answer in enumerate(answers):
        for entry in _entries(number, answer, heading):
            if last:
                yield last + ","
            last = " " + json.dumps(entry, ensure_ascii=False)
    if last:
        yield last
    yield "]}"


def _entries(number: int, answer: Answer, heading: Heading) -> Iterator[dict[str, Any]]:
    """A case's observation and the report that names it, each under an address of its own."""
    seed = json.dumps([heading.version, number, answer.as_dict()], sort_keys=True)
    own, other = (f"urn:uuid:{uuid.uuid5(_SPACE, kind + seed)}" for kind in ("observation", "report"))
    yield {"fullUrl": own, "resource": _observation(answer, heading)}
    yield {"fullUrl": other, "resource": _report(answer, heading, own)}


def _observation(answer: Answer, heading: Heading) -> dict[str, Any]:
    """The answer as a value, or why there is none; a component for each class."""
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"text": "Answer of a trained head"},
        "device": {"display": f"medtl: {heading.version}"},
        "note": [{"text": text} for text in (NOTICE, heading.basis, heading.promise) if text],
    }
    if answer.likeliest:
        made["valueCodeableConcept"] = {"text": answer.likeliest}
    else:
        made["dataAbsentReason"] = {"text": answer.fault or answer.doubt}
    components = [_component(name, share, name in answer.likely) for name, share in answer.probabilities.items()]
    return {**made, **({"component": components} if components else {})}


def _component(name: str, share: float, likely: bool) -> dict[str, Any]:
    unit = {"unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
    made: dict[str, Any] = {"code": {"text": f"Probability of {name}"}, "valueQuantity": {"value": share, **unit}}
    return {**made, **({"interpretation": [{"text": "in the set of likely classes"}]} if likely else {})}


def _report(answer: Answer, heading: Heading, observation: str) -> dict[str, Any]:
    said = answer.likeliest or f"No answer: {answer.fault or answer.doubt}"
    return {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "identifier": [{"system": "urn:medtl:case", "value": answer.name}],
        "code": {"text": "Answer of a trained head"},
        "result": [{"reference": observation}],
        "conclusion": f"{said}. {NOTICE} Head: {heading.version}.",
    }
