"""The sets that are drawn instead of read, by the name that the setting `data` takes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from medtl_core.config import Settings
from medtl_core.data.partition import apportion
from medtl_core.data.synthetic import letters, signals
from medtl_core.data.synthetic.phantom import DEFAULT_PATIENTS, DEFAULT_SIZE, SHARES, drawing_of, phantom, train_images
from medtl_core.data.synthetic.tissue import LABORATORIES, TILES, tissue
from medtl_core.store import cache_folder, file_of
from medtl_core.values import Examples


def phantom_patients(settings: Settings) -> int:
    """Returns how many phantom patients the hospitals of `settings` need; never below the default."""
    seats = apportion({name: share for name, share in SHARES.items() if name != settings.leave_out}, settings.sites)
    # Trimming a hospital to whole patients can waste one image each; two more keep uneven shares above the line.
    needed = {name: count * (settings.shots + 3) for name, count in seats.items()}
    patients = DEFAULT_PATIENTS
    while any(train_images(patients)[name] < count for name, count in needed.items()):
        patients = patients * 5 // 4
    return patients


def _phantom(settings: Settings) -> Examples:
    size = max(settings.sizes, default=DEFAULT_SIZE)
    return phantom(size=size, patients=phantom_patients(settings), folder=cache_folder(settings.cache))


def is_drawn_first(settings: Settings) -> bool:
    """Whether a run draws pictures before anything else, which takes long, and keeps them."""
    folder, size = cache_folder(settings.cache), max(settings.sizes, default=DEFAULT_SIZE)
    if settings.data != "phantom" or settings.data_path or folder is None or size < DEFAULT_SIZE:
        return False
    return not file_of(drawing_of(folder, 0, size, phantom_patients(settings)), "json").exists()


def _tissue(settings: Settings) -> Examples:
    left = len({*LABORATORIES} - {settings.leave_out})
    needed = -(-settings.sites // left) * (settings.shots + 3 * TILES) / TILES
    return tissue(size=max(settings.sizes, default=DEFAULT_SIZE), trained=max(40, int(needed)))


#: Name in the catalog -> what draws the cases that the hospitals of some settings need.
BUILT_IN: Mapping[str, Callable[[Settings], Examples]] = MappingProxyType(
    {
        "phantom": _phantom,
        "tissue": _tissue,
        "letters": letters.made,
        "heartbeats": signals.made,
        "bearings": signals.made,
    }
)
