"""Pages from templates and style sheets that lie beside the code; each is whole in itself and fetches nothing."""

from importlib.resources import files

from medtl_core.report import numerals


def render(package: str, **values: object) -> str:
    """Returns the page that `page.html` of a package makes of the values; the same values give the same text.

    Every value is escaped but charts, which come as `markup`. Templates and style sheets that the package lacks are
    those of this one: `base.html`, which every page extends, `macros.html` and `style.css`.

    Args:
        package: that holds `page.html`.
        values: by their names in the template.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folders = [files(package), files("medtl_core.report")]

    def read(name: str) -> str | None:
        places = [place for folder in folders if (place := folder / name).is_file()]
        return places[0].read_text(encoding="utf-8") if places else None

    environment = Environment(
        loader=FunctionLoader(read), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["size"] = numerals.size
    return environment.get_template("page.html").render(UNDEFINED=numerals.UNDEFINED, **values)


def markup(source: str) -> str:
    """Marks text that this package made as HTML; everything else on a page is escaped."""
    from markupsafe import Markup

    return Markup(source)
