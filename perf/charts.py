"""Bar charts in SVG: one bar for each row, as long as its median, with a whisker from the least to the most."""

from html import escape

WIDTH, LEFT, RIGHT = 560, 110, 62
ROW, BAR, TOP, BOTTOM = 24, 14, 4, 20


def bars(rows, title):
    """`rows` are (name, class, {min, median, max})."""
    most = max(spread["max"] for _, _, spread in rows) or 1.0
    step = tick_step(most)
    height = TOP + ROW * len(rows) + BOTTOM

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / most

    parts = [tick(x(step * number), step * number, height - BOTTOM, step) for number in range(int(most / step) + 1)]
    for number, (name, kind, spread) in enumerate(rows):
        parts.append(bar(name, kind, spread, x, TOP + ROW * number + ROW / 2))
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def bar(name, kind, spread, x, middle):
    least, median, most = (x(spread[of]) for of in ("min", "median", "max"))
    text = middle + 4
    return (
        f'<text x="{LEFT - 8}" y="{text}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{middle - BAR / 2}" width="{max(1.0, median - LEFT):.1f}" height="{BAR}" rx="2"/>'
        f'<path class="whisker" fill="none" d="M{least:.1f} {middle}H{most:.1f}{stop(least, middle)}{stop(most, middle)}"/>'
        f'<text x="{most + 7:.1f}" y="{text}">{spread["median"]:.2f}</text>'
    )


def stop(x, middle):
    return f"M{x:.1f} {middle - 4}v8"


def tick(x, value, bottom, step):
    digits = 0 if step >= 1 else 2 if step < 0.1 else 1
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="soft" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{value:.{digits}f}</text>'
    )


def tick_step(most):
    """A round number that makes three to seven steps."""
    size = 1e-3
    while True:
        for factor in (1, 2, 5):
            if most / (size * factor) <= 7:
                return size * factor
        size *= 10
