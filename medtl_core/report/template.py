"""Pages from templates and style sheets that lie beside the code; each is whole in itself and fetches nothing."""

from functools import cache
from typing import Any

from medtl_core.report import numerals


def render(package: str, page: str = "page.html", /, **values: object) -> str:
    """Returns the page that a template of a package makes of the values; the same values give the same text.

    Every value is escaped but charts, which come as `markup`. Templates and style sheets that the package lacks are
    those of this one: `base.html`, which pages to read extend, `sheet.html` of those to sign, `macros.html` ...
    """
    return str(read(package, page).render(UNDEFINED=numerals.UNDEFINED, **values))


@cache
def read(package: str, page: str = "page.html") -> Any:
    """Returns a page's template, read once: a process may write many pages."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(place, "") for place in (package, "medtl_core.report")])
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"size": numerals.size, "css": _css}
    return environment.get_template(page)


def _css(text: str) -> str:
    """Text as it stands between quotes in a style sheet: all but plain letters and digits by number."""
    return "".join(one if one.isascii() and one.isalnum() else f"\\{ord(one):x} " for one in text)


def markup(source: str) -> str:
    """Marks text that this package made as HTML; everything else on a page is escaped."""
    from markupsafe import Markup

    return Markup(source)
