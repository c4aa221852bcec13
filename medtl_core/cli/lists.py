"""`medtl methods`, a command that only lists."""

from medtl_core.cli import console


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


COMMANDS = {"methods": console.command(methods)}
