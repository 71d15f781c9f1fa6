"""Tables and bars of text."""


def table(head, rows):
    """Rows under their heads; numbers to the right."""
    texts = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in range(len(head))]
    lines = []
    for row in texts:
        cells = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric))
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def bar(value, highest, width=50):
    """As long as `value` is beside `highest`; something for anything."""
    if value <= 0 or highest <= 0:
        return ""
    return "#" * max(1, round(value * width / highest))


def numbers(run):
    """Rising numbers, shortened."""
    if len(run) <= 6:
        return ", ".join(map(str, run))
    return f"{run[0]}, {run[1]}, ... {run[-1]}"
