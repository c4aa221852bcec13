"""The house as one picture, drawn from its imports: `python -m tests.house --picture` writes docs/architecture.svg."""

from tests.house import CORRIDOR, LEAVES, ROOT, House

PATH = ROOT / "docs" / "architecture.svg"
COLUMN, LEFT, TOP, BOX, ROW = 78, 96, 170, 30, 26
ROWS = (*LEAVES, "server", "client", "simulations")
STYLE = (
    "text{font:13px sans-serif;fill:#1c2733}.box{fill:#e3eef9;stroke:#2b6cb0}.leaf{fill:#f3f4f6;stroke:#8a94a0}"
    ".arc{fill:none;stroke:#2b6cb0;stroke-opacity:.45;stroke-width:1.5}.dot{fill:#2b6cb0}.line{stroke:#dde3ea}"
)


def rooms_imported(house: House) -> set[tuple[str, str]]:
    """Returns pairs of rooms, the first of which imports the second."""
    return {(a.layer, b.layer) for a, b in house.arrows() if a.layer != b.layer}


def drawn(house: House) -> str:
    """Returns the picture as SVG: the corridor with an arc for each import, and below it who else imports what."""
    pairs = rooms_imported(house)
    at = {room: LEFT + COLUMN * column + COLUMN // 2 for column, room in enumerate((*CORRIDOR, *LEAVES))}
    width, height = LEFT + COLUMN * len(at) + 8, TOP + BOX + ROW * (len(ROWS) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>Rooms of medtl_core and who imports whom</title>",
        "<desc>Arcs join a room of the corridor to the rooms on its left that it imports; a dot says that the package "
        "or leaf of that line imports the room above.</desc>",
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for a, b in sorted(pairs):
        if a in CORRIDOR and b in CORRIDOR:
            radius = (at[a] - at[b]) / 2
            parts.append(f'<path class="arc" d="M{at[a]} {TOP}A{radius} {radius * 0.5} 0 0 0 {at[b]} {TOP}"/>')
    for room, x in at.items():
        kind = "box" if room in CORRIDOR else "leaf"
        parts.append(f'<rect class="{kind}" x="{x - 37}" y="{TOP}" width="74" height="{BOX}" rx="5"/>')
        parts.append(f'<text x="{x}" y="{TOP + 20}" text-anchor="middle">{room}</text>')
    for row, name in enumerate(ROWS, start=1):
        y = TOP + BOX + ROW * row
        parts.append(f'<path class="line" d="M{LEFT} {y}H{width - 8}"/><text x="8" y="{y + 4}">{name}</text>')
        parts += [f'<circle class="dot" cx="{x}" cy="{y}" r="5"/>' for room, x in at.items() if (name, room) in pairs]
    return "\n".join([*parts, "</svg>"]) + "\n"
