"""The built-in synthetic notes: short made-up letters of four hospitals; no patient stands behind them.

Three diagnoses share most of what is written. A letter tells its own by some of its sentences, denies signs of others,
and is written in the manner of its hospital. Results on them say nothing about medicine.
"""

import numpy as np

from medtl_core.notes.text import note_keys
from medtl_core.rng import stream
from medtl_core.values import Examples, Task

CLASSES = ("heart failure", "pneumonia", "pulmonary embolism")
#: Letters, and the share of patients to train on at each hospital; a tenth of the patients have two.
PATIENTS, _TEST = 800, 0.3
#: Sentences of a letter that tell its diagnosis, and of those that tell none.
_TELLING, _COMMON = (1, 2, 2, 3), (4, 5, 6)
#: Share of the telling sentences that are of another diagnosis all the same.
_ASTRAY = 0.25

_SIGNS = {
    "heart failure": (
        "both ankles were swollen", "the neck veins were distended", "{he} slept on three pillows",
        "weight had risen by four kilograms", "the ejection fraction was reduced", "furosemide was given",
        "the heart was enlarged on the film", "a third heart sound was heard",
    ),
    "pneumonia": (
        "{he} had a fever with chills", "the sputum was yellow", "a consolidation was seen in the right lower lobe",
        "the white cell count was raised", "amoxicillin was started", "bronchial breathing was heard",
        "the procalcitonin was raised", "the cough had lasted for a week",
    ),
    "pulmonary embolism": (
        "the left calf was tender", "the d-dimer was raised", "the breathlessness came on suddenly",
        "a filling defect was seen on the angiogram", "heparin was started", "{he} had come off a long flight",
        "the right ventricle was strained", "the pain was worse on breathing in",
    ),
}  # fmt: skip
_PLAIN = (
    "{he} was short of breath", "{he} felt tired", "the pulse was fast", "saturation was low on room air",
    "the abdomen was soft", "{he} lives alone", "{he} has never smoked", "{he} smokes a few cigarettes a day",
    "kidney values were as before", "the skin was warm", "there was no rash", "{he} takes a tablet for blood pressure",
    "sleep was poor", "appetite was fair", "the neurological examination was normal", "{he} walked without help",
    "the electrocardiogram showed sinus rhythm", "an appointment was made with the family doctor",
)  # fmt: skip
_DENIED = (
    "no swelling of the ankles",
    "no fever",
    "no pain in the calf",
    "no cough",
    "no chest pain",
    "no palpitations",
)
#: Hospital -> share of the diagnoses, how a letter begins and ends, and whether sentences are cut short.
_HOSPITALS = {
    "harbour": ((0.5, 0.3, 0.2), "Dear colleague, we report on a patient who was admitted", "Kind regards", False),
    "hill": ((0.2, 0.6, 0.2), "DISCHARGE SUMMARY. Reason for admission: dyspnoea.", "Signed electronically", True),
    "park": ((0.3, 0.3, 0.4), "Emergency department note.", "Handed over to the ward", True),
    "river": ((0.4, 0.4, 0.2), "Thank you for referring this patient.", "With thanks for taking over", False),
}


def letters(seed: int = 0, patients: int = PATIENTS) -> Examples:
    """Returns made-up letters of `patients` patients; one with more begins with those of one with fewer."""
    rows: list[tuple[int, str, str, str, str]] = []
    for number in range(patients):
        dice, site = stream(seed, "letters", number), [*_HOSPITALS][number % len(_HOSPITALS)]
        label = int(dice.choice(len(CLASSES), p=_HOSPITALS[site][0]))
        split = "test" if dice.random() < _TEST else "train"
        own, count = (label, f"{site}-{number:05d}", site, split), 2 if dice.random() < 0.1 else 1
        rows += [(*own, _letter(dice, site, label)) for _ in range(count)]
    labels, owners, sites, splits, notes = zip(*rows, strict=True)
    columns = {"patient": np.asarray(owners), "site": np.asarray(sites), "split": np.asarray(splits)}
    text = {"note": np.asarray(notes, object), "note_key": note_keys(notes)}
    return Examples({"label": np.asarray(labels, np.int64), **columns, **text}, Task("letters", CLASSES))


def _letter(dice: np.random.Generator, site: str, label: int) -> str:
    _, first, last, short = _HOSPITALS[site]
    told = []
    for _ in range(int(dice.choice(_TELLING))):
        of = int(dice.integers(len(CLASSES))) if dice.random() < _ASTRAY else label
        told.append(str(dice.choice(_SIGNS[CLASSES[of]])))
    told += dice.choice(_PLAIN, int(dice.choice(_COMMON)), replace=False).tolist()
    told += dice.choice(_DENIED, 2, replace=False).tolist()
    he = "she" if dice.random() < 0.5 else "he"
    sentences = [str(told[place]).format(he=he) for place in dice.permutation(len(told))]
    if short:
        sentences = [
            sentence.removeprefix("the ").replace(" was ", " ").removeprefix(f"{he} ") for sentence in sentences
        ]
    age, pressure = int(dice.integers(35, 92)), int(dice.integers(95, 170))
    body = ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return f"{first} Age {age}, blood pressure {pressure}/{pressure - 45}. {body}. {last}."
