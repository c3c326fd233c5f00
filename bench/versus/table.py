"""How the benchmarks against peers write their tables: aligned columns, or Markdown with MANTA_BENCH_MARKDOWN=1."""
import os
import statistics

MARKDOWN = "MANTA_BENCH_MARKDOWN" in os.environ


def number(value):
    for size, unit in ((1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1e6 if unit == ' M' else 1e3):.2f}{unit}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def spread(values):
    """Least, median and most of the figures, "-" of none."""
    strong = "**" if MARKDOWN else ""
    return f"{number(min(values))} / {strong}{number(statistics.median(values))}{strong} / {number(max(values))}" if values else "-"


def print_lines(lines):
    """Rows of strings of one length, the first with the names of the columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for index, line in enumerate(lines):
        if MARKDOWN:
            print("| " + " | ".join(line) + " |" + ("\n" + "|---" * len(line) + "|" if index == 0 else ""))
        else:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
