"""Whether cases are what a model that reads their images was made from."""

from medtl_core.errors import DataError, WeightsError
from medtl_core.features.dataset import Material
from medtl_core.features.spec import feature_spec


def checked(
    material: Material | None, fingerprint: str, reads: str = "a tuned backbone reads images", made: str = "tuned from"
) -> Material:
    """Returns the cases a model is asked about; errors say what it `reads` and how it was `made` of features.

    Raises:
        DataError: there are no images.
        WeightsError: the images' features are not those of the fingerprint.
    """
    if material is None:
        raise DataError(f"{reads}, and only features are here")
    here = feature_spec(material.settings, material.views, material.columns).fingerprint
    if here != fingerprint:
        raise WeightsError(
            f"the model was {made} features {fingerprint[:12]}, but the settings here give {here[:12]}; "
            "use the backbone, features, image-size and views of its run"
        )
    return material
