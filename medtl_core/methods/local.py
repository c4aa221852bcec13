"""Each hospital's own logistic head, which travels so that it can be judged: what collaboration has to beat."""

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.logistic import local_head
from medtl_core.values import Released, Update


def local(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The head this hospital would train alone, [C, d + 1] on raw features; see `heads.linear.local_head`."""
    return Released(Update({"head": local_head(site.values, site.label, site.classes)}))


class Local(Method):
    """Each hospital alone: class-balanced logistic regression on its own cases."""

    syntax = "local"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        expect = {"head": ArraySpec((len(study.problem.classes), study.problem.width + 1))}
        replies = study.hospitals.ask(Request("local", expect=expect))
        heads = {reply.site: study.head(reply.arrays["head"], "local", {"site": reply.site}) for reply in replies}
        return Outcome(heads, {"local": Share()})


METHODS = (Local,)
TASKS = {"local": local}
