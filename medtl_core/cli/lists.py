"""Commands that only list: `medtl backbones`, `medtl methods`."""

from medtl_core.cli import console


def backbones() -> None:
    """List pretrained backbones and where weights are present.

    "rich" and "plain" are the layers that the setting `features` reads. Own weights: backbone=file:PATH, timm:ARCH.
    """
    from medtl_core.backbones.zoo import table

    shown = console.table_of("backbone", "pixels", "rich", "plain", "weights")
    for row in table():
        here = "here" if row["available"] else "not here"
        shown.add_row(row["name"], str(row["size"]), " ".join(row["rich"]), " ".join(row["plain"]), here)
    console.show(shown)


def methods() -> None:
    """List the methods that `methods=...` can name.

    One name of every family; a number in it is its rounds or size. "judged" says whose labelled cases a method needs
    (the setting `test`).
    """
    from medtl_core.federation.registry import all_methods

    shown = console.table_of("name", "judged", "what it is")
    for kind in sorted(all_methods(), key=lambda kind: (kind.__module__, kind.example)):
        shown.add_row("\n".join(kind.names()), kind.test, kind.summary)
    console.show(shown)


COMMANDS = {"backbones": console.command(backbones), "methods": console.command(methods)}
