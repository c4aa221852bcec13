"""Where maps point: on the lesion, on that of another film of the hospital, and read once for every head."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from medtl_core.data.synthetic.phantom import phantom
from medtl_core.features.spec import feature_spec
from medtl_core.predict.attribution import ClassMap
from medtl_core.predict.tap_maps import Read, TapMaps
from medtl_core.values import Array
from simulations.pointing import NAME, Film, Pointed, Remembered, exact, films, own_cases, pointed, shuffled
from tests.predict.heads import made

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def film(site: str, row: int) -> Film:
    """A film whose lesion is one row of four."""
    lesion = np.zeros((4, 4), bool)
    lesion[row] = True
    return Film(np.full((4, 4, 1), row, np.uint8), site, lesion)


def test_a_point_is_laid_on_the_other_films_of_its_hospital_alone() -> None:
    shown = [film("a", 0), film("a", 0), film("a", 3), film("b", 1)]
    found = Pointed(shown, [(0, 2), (3, 1), (0, 0), (1, 1)])
    assert found.hits.tolist() == [True, False, False, True]
    # The first point lies on one of two others' lesions, the second too, the third on both; "b" has no other film.
    assert found.elsewhere == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_of_a_square_that_is_equally_strong_its_middle_is_pointed_at() -> None:
    class Square:
        def explain(self, image: Array, name: str) -> list[ClassMap]:
            drawn = np.zeros((4, 4))
            drawn[1:4, :3] = 2.0
            return [ClassMap(image, drawn)]

    found = pointed([Square()], [film("a", 2)])  # type: ignore[list-item]
    assert found.points == [(2, 1)]
    assert found.hits.all()


@dataclasses.dataclass
class Counted:
    """Reads maps, and counts how often."""

    maps: TapMaps
    reads: int = 0

    @property
    def records(self) -> tuple[object, ...]:
        return self.maps.records

    def __call__(self, picture: Array) -> Read:
        self.reads += 1
        return self.maps(picture)


def test_every_head_explains_from_one_reading_and_as_the_product_does(tmp_path: Path) -> None:
    predictor = made(tmp_path, features="plain")
    own = phantom(2, 64, patients=40)
    own = own.take(np.flatnonzero((own["site"] == own["site"][0]) & (own["split"] == "train")))
    shown = [Film(own["image"][0], str(own["site"][0]), np.ones((64, 64), bool))]
    counted = Counted(TapMaps(feature_spec(predictor.settings, predictor.views), predictor.settings))
    maps = Remembered(counted)  # type: ignore[arg-type]
    (learnt,) = exact(predictor, own, shown, maps)
    reads = counted.reads
    (lost,) = exact(shuffled(predictor, 0), own, shown, maps)
    first, second = (one.explain(shown[0].pixels, NAME)[0].strength for one in (learnt, lost))
    assert counted.reads <= reads + 1
    assert not np.allclose(first, second)
    product = predictor.attributor().against(own)  # type: ignore[union-attr]
    np.testing.assert_allclose(first, product.explain(shown[0].pixels, NAME)[0].strength, rtol=1e-5, atol=1e-8)


def test_so_many_own_cases_of_each_class_of_a_hospital() -> None:
    own = own_cases(3, 2)
    kinds = [*zip(own["site"].tolist(), own["label"].tolist(), strict=True)]
    assert {kinds.count(kind) for kind in kinds} == {2}
    assert set(own["split"].tolist()) == {"train"}
    assert len(own_cases(3)) > len(own) == 2 * len(set(kinds))


@pytest.mark.slow
def test_films_are_drawn_as_the_phantom_draws_them() -> None:
    shown = list(films(1))
    assert len(shown) == 59
    assert 0.03 < np.mean([one.lesion.mean() for one in shown]) < 0.1
