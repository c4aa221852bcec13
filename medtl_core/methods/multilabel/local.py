"""Each hospital's own logistic heads of the findings, which travel so that they can be judged."""

import numpy as np

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.local import local_head
from medtl_core.methods.multilabel.model import FindingsHead, marked
from medtl_core.methods.multilabel.sums import labels_of
from medtl_core.values import Released, Update


def label_local(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The heads that this hospital would train alone, [L, d + 1]; see `methods.local.local_head`."""
    heads = []
    for label in labels_of(site.material).T:
        rows = np.flatnonzero(label >= 0)
        absent, present = local_head(site.values[rows], label[rows].astype(np.int64), 2)
        counts = np.bincount(label[rows], minlength=2).astype(np.float64)
        heads.append(marked((present - absent)[None], counts[None])[0])
    return Released(Update({"head": np.stack(heads)}))


class LabelLocal(Method):
    """Multi-label: each hospital alone, balanced logistic regression of each finding on its own cases."""

    syntax = "local"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        expect = {"head": ArraySpec((len(study.problem.classes), study.problem.width + 1))}
        replies = study.hospitals.ask(Request("label_local", expect=expect))
        heads = {reply.site: reply.arrays["head"] for reply in replies}
        models = {site: FindingsHead.of(study, head, "local", {"site": site}) for site, head in heads.items()}
        return Outcome(models, {"label_local": Share()})


LABEL_METHODS = (LabelLocal,)
TASKS = {label_local.__name__: label_local}
