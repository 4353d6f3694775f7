"""Bar plots as SVG, with nothing to install."""

from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP, TOP = 720, 250, 20, 8, 44
OURS, LIMIT, PEER = "#2266aa", "#999999", "#cc7733"


def colour(label):
    return OURS if label.startswith("ours") else LIMIT if label.startswith("limit") else PEER


def plot(path, title, rows, unit):
    """`rows`: (label, value); the longest bar fills the width."""
    rows = [(label, value) for label, value in rows if value]
    if not rows:
        return
    height = TOP + len(rows) * (BAR + GAP) + GAP
    room = WIDTH - LABEL - 90
    most = max(value for _, value in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for index, (label, value) in enumerate(rows):
        y = TOP + index * (BAR + GAP)
        length = max(1, room * value / most)
        parts.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour(label)}"/>')
        parts.append(f'<text x="{LABEL + length + 6:.1f}" y="{y + 15}">{value:.3g} {escape(unit)}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
