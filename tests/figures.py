"""Measured numbers in README.md and docs/, made from committed JSON: `python tests/figures.py` writes them.

A page holds a block between the comments `<!-- figures: NAME -->` and `<!-- end of figures -->`; the block is the macro
NAME of docs/figures/blocks.md.j2. Numbers come from docs/figures/*.json and from the shipped selector's metrics.json.
"""

import json
import re
import textwrap
from io import StringIO
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
REFERENCE = ROOT / "configs" / "pairs" / "reference"
PLOT = FIGURES / "speed.svg"
BLOCK = re.compile(r"<!-- figures: (\w+) -->\n(.*?)<!-- end of figures -->", re.DOTALL)
INTERVAL = re.compile(r"(\d(?: %)?) \[([\d.]+), ")  # a ratio and its interval stay on one line
PLOTTED = {
    "transformers assisted": "transformers assisted",
    "chain": "best chain",
    "*": "best other policy",
    "learned": "learned",
    "learned, guarded": "learned, guarded",
}


def read(path):
    return json.loads(path.read_text())


def is_other(policy):
    """Whether it is a policy of trees that the learned one is compared with."""
    return not policy.startswith(("plain", "transformers", "learned"))


class Speed(dict):
    """docs/figures/speed.json, and its rows by temperature and policy."""

    def of(self, temperature, policy):
        """The row of a policy; `*` is the fastest of the others."""
        rows = self["temperatures"][temperature]["policies"]
        if policy == "*":
            return max((row for row in rows if is_other(row["policy"])), key=lambda row: row["x_plain"][0])
        return next(row for row in rows if row["policy"] == policy)


def ratio(values):
    return f"{values[0]:.2f} [{values[1]:.2f}, {values[2]:.2f}]"


def blocks():
    """A function that renders the block of a name."""
    environment = Environment(loader=FileSystemLoader(FIGURES), undefined=StrictUndefined, trim_blocks=False)
    environment.filters["ratio"] = ratio
    environment.filters["change"] = lambda values: f"{values[0]:.3f} → {values[1]:.3f}"
    environment.filters["or_dash"] = lambda value: "-" if value is None else str(value)
    environment.filters["two_or_dash"] = lambda value: "-" if value is None else f"{value:.2f}"
    metrics = read(REFERENCE / "selector" / "metrics.json")
    replayed = {(row["policy"], row["scheme"], f"{row['temperature']:g}"): row["speed_up"] for row in metrics["replay"]}
    values = {path.stem: read(path) for path in FIGURES.glob("*.json")}
    module = environment.get_template("blocks.md.j2").make_module(
        values
        | {
            "speed": Speed(values["speed"]),
            "metrics": metrics,
            "pair": read(REFERENCE / "provenance.json"),
            "replay": lambda policy, scheme, temperature: replayed.get((policy, scheme, temperature)),
            "millions": lambda count: f"{count / 1e6:.1f}",
        }
    )
    return lambda name: wrapped(str(getattr(module, name)()))


def wrapped(text):
    """Paragraphs folded to 120 letters; tables as they are."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", text.strip())]
    fold = {"width": 120, "break_long_words": False, "break_on_hyphens": False}
    return "\n\n".join(
        "\n".join(line.rstrip() for line in part.splitlines())
        if part.startswith("|")
        else textwrap.fill(INTERVAL.sub("\\1\0[\\2,\0", part), **fold).replace("\0", " ")
        for part in paragraphs
    )


def filled(page_text):
    """The page with every block as the figures make it."""
    render = blocks()
    return BLOCK.sub(
        lambda found: f"<!-- figures: {found[1]} -->\n{render(found[1])}\n<!-- end of figures -->", page_text
    )


def plot():
    """The README's plot as SVG: ratio to plain decoding, a group of bars per temperature."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    speed = Speed(read(FIGURES / "speed.json"))
    colours = ["#9aa5b1", "#7b8794", "#52606d", "#2f9e6e", "#1f7a54"]
    with pyplot.rc_context({"svg.hashsalt": "treewright", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
        for number, (policy, label) in enumerate(PLOTTED.items()):
            rows = [speed.of(temperature, policy)["x_plain"] for temperature in speed["temperatures"]]
            heights = [row[0] for row in rows]
            errors = [[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]]
            places = [group + 0.16 * (number - 2) for group in range(len(rows))]
            axes.bar(places, heights, 0.15, label=label, color=colours[number], yerr=errors, error_kw={"lw": 0.8})
        axes.axhline(1, color="#3e4c59", lw=0.8)
        axes.set_xticks(range(len(speed["temperatures"])), [f"T = {name}" for name in speed["temperatures"]])
        axes.set_ylabel("tokens/s over plain decoding")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=len(PLOTTED), frameon=False, fontsize=8)
        output = StringIO()
        figure.savefig(output, format="svg", metadata={"Date": None, "Title": "Speed of the reference pair"})
        pyplot.close(figure)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def main():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page.write_text(filled(page.read_text()))
    PLOT.write_text(plot())


if __name__ == "__main__":
    main()
