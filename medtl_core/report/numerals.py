"""How numbers are written, the same way in the terminal, in tables and in plots."""

#: Shown where a figure is not defined, for instance the AUROC of a site with one class.
UNDEFINED = "–"  # noqa: RUF001 (an en dash is the usual sign for "no value")


def figure(value: float | None) -> str:
    """Returns a figure between 0 and 1 to three digits.

    Example:
        >>> figure(0.5), figure(None)
        ('0.500', '–')
    """
    return UNDEFINED if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Returns a difference with its sign; zero has none.

    Example:
        >>> signed(0.1), signed(-0.1), signed(0.0)
        ('+0.100', '−0.100', '0.000')
    """
    if value is None:
        return UNDEFINED
    text = f"{abs(value):.3f}"
    if not float(text):
        return text
    return ("+" if value > 0 else "−") + text  # noqa: RUF001 (a minus sign as wide as the plus)


def size(count: float) -> str:
    """Returns a number of bytes in decimal units.

    Example:
        >>> size(512), size(12_345), size(1_900_000)
        ('512 B', '12.3 kB', '1.90 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5 or unit == "GB":
            break
        count /= 1000
    digits = 0 if unit == "B" or count >= 100 else 1 if count >= 10 else 2
    return f"{count:.{digits}f} {unit}"


def seconds(value: float) -> str:
    """Returns a duration.

    Example:
        >>> seconds(0.0123), seconds(4.56), seconds(75)
        ('12 ms', '4.6 s', '1 min 15 s')
    """
    if not value:
        return "0 s"
    if value < 0.9995:
        return f"{1000 * value:.0f} ms" if value >= 0.0095 else f"{1000 * value:.1f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"
