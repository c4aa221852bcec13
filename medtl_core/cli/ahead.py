"""What a simulation on this machine reads before it is needed, beside other work, and what it need not read at all.

On a machine without features of the built-in pictures a second process reads torch and the network while this one
draws, computes the features as soon as the drawing is kept, and is done with them when this one has read the rest: it
then runs as it does on a full cache. Where the second process fails, the run computes what it lacks.
"""

import gc
import json
import os
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import accumulate
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl_core.config import Settings, kind_of, settings
from medtl_core.data.catalog import catalog
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.data.synthetic.built_in import is_drawn_first
from medtl_core.features.extract import extract, feature_spec
from medtl_core.features.forward import forward
from medtl_core.runtime import one_thread, processor

if TYPE_CHECKING:
    from medtl_core.flower.run import RunPlan

#: What torch imports and a forward pass has no use for, a third of what that takes.
_UNUSED = (
    "torch._meta_registrations", "torch.export", "torch.utils.data", "torch.optim", "torch.distributions",
    "torch.masked", "torch.nn.intrinsic", "opt_einsum", "cuda.bindings.runtime",
)  # fmt: skip


def read_ahead(plan: "RunPlan") -> None:
    """Draws built-in pictures, and lets another process compute their features, where neither is kept."""
    chosen = plan.settings
    if not is_drawn_first(chosen) or "image" not in chosen.kinds or "torch" in sys.modules:
        return
    words = [json.dumps(chosen.replace(seed=chosen.seed + number).public()) for number in range(plan.seeds)]
    command, nowhere = [sys.executable, "-P", "-m", __name__, f"{plan.workers}", *words], subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere) as child:
        shared_parts(chosen)
        if child.stdin:
            child.stdin.close()  # the drawing is kept
        _read_rest(plan)


def _read_rest(plan: "RunPlan") -> None:
    """Reads what else the run will need."""
    import numpy.ma  # noqa: F401
    import rich.table  # noqa: F401

    import medtl_core.flower.grid  # noqa: F401
    from medtl_core.flower.run import load_apps
    from medtl_core.report import folder, template, terminal  # noqa: F401
    from medtl_core.versions import versions

    load_apps(plan.app)
    versions()
    template.read("medtl_core.report")


def main(workers: int, runs: list[Settings]) -> None:
    """Computes the features of all cases that some runs read, and keeps them."""
    for unused in _UNUSED:
        read_later(unused)
    import torch  # noqa: F401 - it then runs with one thread

    one_thread()
    chosen = runs[0]
    spec = feature_spec(chosen, catalog()[chosen.data].views)
    for record, own in spec.parts(chosen):
        if kind_of(own.backbone) == "image":
            forward(own.backbone, own.weights, record, processor(own.device))
    sys.stdin.read()  # until the drawing is kept
    parts = [shared_parts(run) for run in runs]
    sides = [cases for part in parts for cases in part.sides().values()]
    sides += [site.test for part in parts for site in part.sites if chosen.test == "sites"]
    extract(shared_source(chosen).examples.take(np.unique(np.concatenate(sides))), spec, chosen, workers=workers)


def read_later(library: str) -> None:
    """Puts off reading a module that another library imports until something of it is used."""
    package, spec, places = library.rpartition(".")[0], None, None
    for name in accumulate(library.split("."), "{}.{}".format):  # the packages that hold it are not read
        spec = PathFinder.find_spec(name, places)
        places = spec.submodule_search_locations if spec else None
    if library in sys.modules or package in sys.modules or spec is None or spec.loader is None:
        return
    module, loader, turn, begun = module_from_spec(spec), spec.loader, RLock(), list[str]()

    def read(name: str) -> Any:
        with turn:  # which the library itself passes while it is read
            if not begun:
                begun.append(name)
                loader.exec_module(module)
        if name not in vars(module):
            raise AttributeError(f"{library} has no {name!r}")
        return vars(module)[name]

    vars(module)["__getattr__"], sys.modules[library] = read, module  # Python asks it for what is not there


if __name__ == "__main__":
    gc.disable()  # a short life, of which looking for garbage among torch's modules would be a tenth
    main(int(sys.argv[1]), [settings(json.loads(word)) for word in sys.argv[2:]])
    os._exit(0)  # taking torch down takes longer than reading a dozen pictures, and the run waits for the end
