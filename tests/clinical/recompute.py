"""Every figure of a run's report from its saved scores, with numpy and scikit-learn and nothing of medtl.

    python -m tests.clinical.recompute RUN/seed-0

prints the largest difference to what `result.json` and `clinical.json` hold.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

Found = dict[str, Any]


def probabilities(logits: Any) -> Any:
    """Softmax."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def odds_of(logits: Any) -> Any:
    """Log-odds of each class."""
    rest = [np.logaddexp.reduce(np.delete(logits, cls, axis=1), axis=1) for cls in range(logits.shape[1])]
    return logits - np.stack(rest, axis=1)


def overall(logits: Any, label: Any, site: Any) -> Found:
    """The figures of `result.json`."""
    chance, answer, classes = probabilities(logits), logits.argmax(axis=1), logits.shape[1]
    one_hot, judged = np.eye(classes)[label], [1] if classes == 2 else range(classes)
    table = metrics.confusion_matrix(label, answer, labels=range(classes))
    recalls = [table[c, c] / table[c].sum() for c in range(classes) if table[c].sum()]
    spared = [1 - (table[:, c].sum() - table[c, c]) / (len(label) - table[c].sum()) for c in range(classes)]
    confidence, right = chance.max(axis=1), answer == label
    place = np.minimum((confidence * 15).astype(int), 14)
    ece = sum(abs(confidence[place == b].sum() - right[place == b].sum()) for b in range(15)) / len(label)
    brier = (
        metrics.brier_score_loss(label, chance[:, 1]) if classes == 2 else ((chance - one_hot) ** 2).sum(axis=1).mean()
    )
    own = {name: metrics.recall_score(label[site == name], answer[site == name], average="macro",
                                      labels=np.unique(label[site == name])) for name in np.unique(site)}  # fmt: skip
    shown = [own[name] for name in own if len(np.unique(label[site == name])) > 1]
    return {
        "balanced_accuracy": np.mean(recalls),
        "sensitivity": recalls[1] if classes == 2 else np.mean(recalls),
        "specificity": spared[1] if classes == 2 else np.mean(spared),
        "auroc": np.mean([metrics.roc_auc_score(one_hot[:, c], odds_of(logits)[:, c]) for c in judged]),
        "auprc": np.mean([metrics.average_precision_score(one_hot[:, c], odds_of(logits)[:, c]) for c in judged]),
        "ece": ece, "brier": brier, "log_loss": metrics.log_loss(label, chance, labels=range(classes)),
        "worst_site": min(shown),
    }  # fmt: skip


def class_figures(logits: Any, label: Any, patient: Any, cls: int, record: Found) -> Found:
    """One class's figures of `clinical.json`, flat."""
    inside, score = label == cls, odds_of(logits)[:, cls]
    area = metrics.roc_auc_score(inside, score)
    wins = (score[inside][:, None] > score[~inside]) + 0.5 * (score[inside][:, None] == score[~inside])
    parts = []
    for placed, side in ((wins.mean(axis=1), inside), (wins.mean(axis=0), ~inside)):
        each = np.array([(placed - area)[patient[side] == one].sum() for one in np.unique(patient[side])])
        parts.append(len(each) / (len(each) - 1) * (each**2).sum() / side.sum() ** 2)
    error = np.sqrt(sum(parts)) / (area * (1 - area))
    logit = np.log(area / (1 - area))
    found: Found = {
        "area": area, "precision": metrics.average_precision_score(inside, score),
        "low": 1 / (1 + np.exp(-(logit - 1.959964 * error))), "high": 1 / (1 + np.exp(-(logit + 1.959964 * error))),
        "positive": inside.sum(), "negative": (~inside).sum(),
    }  # fmt: skip
    false, true, _ = metrics.roc_curve(inside, score, drop_intermediate=False)
    for level in record["at_specificity"]:
        found[f"sensitivity at {level}"] = true[1 - false >= float(level) - 1e-9].max()
        found[f"specificity at {level}"] = (1 - false)[true >= float(level) - 1e-9].max()
    share = np.bincount(label, minlength=logits.shape[1]) / len(label)
    chance = probabilities(logits + np.log(np.maximum(share, 1e-12)))[:, cls]
    for threshold in record["benefit"]["threshold"]:
        answered = chance >= threshold
        paid = (answered & ~inside).mean() * threshold / (1 - threshold)
        found[f"benefit at {threshold}"] = (answered & inside).mean() - paid
    if record["operating"]:
        answered = score >= record["operating"]["floor"]
        found["operating"] = [(answered & inside).sum(), (~answered & inside).sum()]
        found["operating"] += [(answered & ~inside).sum(), (~answered & ~inside).sum()]
    return found


def stored(record: Found) -> Found:
    """The same of what the run stored."""
    told = {name: record[name] for name in ("area", "precision", "low", "high", "positive", "negative")}
    share = lambda cell, part, other: cell[part] / (cell[part] + cell[other])  # noqa: E731
    for level, cell in record["at_specificity"].items():
        told[f"sensitivity at {level}"] = share(cell, "found", "missed")
    for level, cell in record["at_sensitivity"].items():
        told[f"specificity at {level}"] = share(cell, "spared", "false")
    benefit = record["benefit"]
    told |= {f"benefit at {t}": value for t, value in zip(benefit["threshold"], benefit["model"], strict=True)}
    if record["operating"]:
        told["operating"] = [record["operating"]["test"][part] for part in ("found", "missed", "false", "spared")]
    return told


class Worst:
    """The largest difference by kind of figure."""

    def __init__(self) -> None:
        self.apart: dict[str, float] = {}

    def note(self, kind: str, ours: Any, theirs: Any) -> None:
        """Keeps a difference if it is the largest."""
        apart = float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)), initial=0.0))
        self.apart[kind] = max(self.apart.get(kind, 0.0), apart)


def compare(folder: Path) -> dict[str, float]:
    """Returns the largest difference by kind of figure, over all methods that were judged with one head."""
    with np.load(folder / "scores.npz", allow_pickle=False) as file:
        saved = {name: file[name] for name in file.files}
    result, clinical = (json.loads((folder / name).read_text()) for name in ("result.json", "clinical.json"))
    worst = Worst()
    for name, record in clinical["methods"].items():
        whole(saved, saved[f"logits {name}"], result["methods"][name], worst)
        parts(saved, saved[f"logits {name}"], record, worst)
    return worst.apart


def whole(saved: Found, logits: Any, judged: Found, worst: Worst) -> None:
    """Compares what `result.json` holds of a method."""
    label, site, classes = saved["label"], saved["site"], range(logits.shape[1])
    answer = logits.argmax(axis=1)
    for figure, value in overall(logits, label, site).items():
        worst.note(figure, value, judged["figures"][figure])
    worst.note("confusion", metrics.confusion_matrix(label, answer, labels=classes), judged["confusion"])
    for place, row in judged["by_site"].items():
        here = site == place
        table = metrics.confusion_matrix(label[here], answer[here], labels=classes)
        worst.note("confusion of a site", table, row["confusion"])


def parts(saved: Found, logits: Any, record: Found, worst: Worst) -> None:
    """Compares what `clinical.json` holds of a method."""
    label, classes, answer = saved["label"], saved["classes"].tolist(), logits.argmax(axis=1)
    areas = []
    for key, row in record["classes"].items():
        mine, theirs = class_figures(logits, label, saved["patient"], classes.index(key), row), stored(row)
        assert mine.keys() == theirs.keys()
        areas.append(mine["area"])
        for figure, value in mine.items():
            worst.note(figure.partition(" at ")[0], value, theirs[figure])
    worst.note("macro AUROC", np.mean(areas), record["area"])
    for column, group in ((column, group) for column, groups in record["groups"].items() for group in groups):
        here = saved[f"group {column}"] == group["value"]
        if group["cases"]:
            table = metrics.confusion_matrix(label[here], answer[here], labels=range(len(classes)))
            worst.note("confusion of a group", table, group["confusion"])
    confidence = probabilities(logits).max(axis=1)
    for covered, share in record["kept"]:
        kept = confidence >= np.sort(confidence)[::-1][round(covered * len(label)) - 1] - 1e-12
        worst.note("kept", [kept.mean(), (answer == label)[kept].mean()], [covered, share])


if __name__ == "__main__":
    for kind, apart in compare(Path(sys.argv[1])).items():
        sys.stdout.write(f"{kind:24}{apart:.1e}\n")
