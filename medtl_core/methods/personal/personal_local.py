"""Each hospital alone, judged on its own cases only: the floor of every personal method."""

from medtl_core.federation.method import Method, Outcome, Study
from medtl_core.methods.local import local_head
from medtl_core.methods.personal.client import LocalRound, OwnModel, personal_tasks
from medtl_core.methods.personal.server import Finish, finished


def lone_head(here: LocalRound) -> OwnModel:
    """Returns the head a hospital trains on its own cases alone, as `local`."""
    site = here.site
    return here.head(local_head(site.values, site.label, site.classes)), {}


class PersonalLocal(Method):
    """Personal: each hospital alone, judged on its own held-out cases: the floor."""

    syntax = "personal-local"
    test = "sites"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        return finished(study, self, Finish("alone_finish"))


METHODS = (PersonalLocal,)
TASKS = personal_tasks("alone", lone_head)
