"""What frozen networks see of a picture, position by position, before it is pooled."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings, kind_of
from medtl_core.data.views import VIEWS, Pixels, normalised, square
from medtl_core.errors import ConfigError
from medtl_core.features.extract import FeatureSpec, Spec

#: Of every record and view the maps of its taps, float32 [c, h, w].
Read = Sequence[Sequence[Mapping[str, NDArray[np.float32]]]]


@final
class TapMaps:
    """Reads the maps of the taps of a head's features.

    Args:
        spec: of these features.
        settings: under which they are made.

    Raises:
        ConfigError: the features are not pooled from maps of a single or several networks.
    """

    def __init__(self, spec: Spec, settings: Settings) -> None:
        parts = spec.parts(settings)
        for record, _ in parts:
            if kind_of(record.backbone) != "image":
                raise ConfigError("maps are made of heads on images; a table's columns have none")
        self.records = tuple(record for record, _ in parts)
        self._networks = [_Tapped(record, chosen) for record, chosen in parts]

    def __call__(self, picture: Pixels) -> Read:
        """Returns the maps of a picture, uint8 [h, w, 3].

        Raises:
            ConfigError: a tap gives none.
        """
        return [
            [network.maps(VIEWS[view](square(picture, record.size))) for view in record.views]
            for record, network in zip(self.records, self._networks, strict=True)
        ]


@final
class _Tapped:
    """A frozen network, of whose taps the maps are read as they are."""

    def __init__(self, record: FeatureSpec, settings: Settings) -> None:
        from medtl_core.backbones.zoo import find_backbone
        from medtl_core.features.forward import load_agreed

        backbone, self._record = find_backbone(settings.backbone), record
        self._run = load_agreed(settings.backbone, settings.weights, record.weights_sha, record.taps, record.pooling)
        self._modules = {tap: self._run.network.get_submodule(backbone.taps[tap]) for tap in record.taps}
        self._turn = Lock()

    def maps(self, pixels: Pixels) -> Mapping[str, NDArray[np.float32]]:
        import torch

        found = dict[str, NDArray[np.float32]]()

        def read(tap: str) -> Any:
            return lambda module, inputs, output: found.__setitem__(tap, output[0].numpy().copy())

        batch = normalised(torch.from_numpy(pixels.copy())[None], self._record.mean, self._record.std)
        with self._turn, ExitStack() as hooks, torch.inference_mode():
            for tap, module in self._modules.items():  # before the extractor's own hook, which ends the pass
                hooks.callback(module.register_forward_hook(read(tap), prepend=True).remove)
            self._run(batch)
        for tap, maps in found.items():
            if maps.ndim != 3:
                raise ConfigError(f"the tap {tap!r} gives no map; maps are made of convolutional networks")
        return found
