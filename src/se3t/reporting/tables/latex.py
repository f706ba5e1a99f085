"""Tables in LaTeX: they need booktabs and plain pdflatex."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from se3t.reporting.tables.layout import Line, ResultTable, lines
from se3t.screen import printable

_ESCAPED = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}
_MACROS = {
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "ε": r"$\varepsilon$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "°": r"$^\circ$",
    "²": r"$^2$",
    "³": r"$^3$",
    "√": r"$\surd$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "ˢ": r"\textsuperscript{s}",
    "ᵛ": r"\textsuperscript{v}",
    "ᵘ": r"\textsuperscript{u}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    '"': "''",
    "→": r"$\to$",
    "\N{ZERO WIDTH SPACE}": "{}",  # two hyphens of a flag are no dash
}
_NUMBER = re.compile(r"^(\S+?)([ˢᵛ]*)(?: ± (\S+))?$")
_OPENING_QUOTE = re.compile(r'(^|[\s([{])"')
_POWER = re.compile(r"^(-?[\d.]+)e(-?\d+)$")
_INDEX = re.compile(r"^(.+)_(\w+)(.*)$")
_COMMAND = re.compile(r"(se3t (?:train|table|data) .*?)(?=; |\. |, |\.?$)")


def to_latex(table: ResultTable) -> str:
    """The table as a float of LaTeX, its notes below it.

    It is centred and may reach into the margins; the text of a label breaks, numbers do not.
    """
    count = len(table.columns)
    rows = [row for block in table.blocks for row in _block(block.system, lines(table, block), count)]
    notes = [f"{_noted(note)}\\par" for note in (*table.notes, *table.missing)]
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table}[htbp]",
            "\\centering",
            f"\\caption{{{escape(_caption(table.title))}.}}",
            "\\scriptsize",
            "\\setlength{\\tabcolsep}{2.5pt}",
            "\\makebox[\\linewidth][c]{%",
            f"\\begin{{tabular}}{{@{{}}p{{27mm}}{'r' * count}@{{}}}}",
            "\\toprule",
            " & ".join(["", *map(_heading, table.headings)]) + " \\\\",
            *rows,
            "\\bottomrule",
            "\\end{tabular}}",
            "\\par\\smallskip",
            "\\begin{minipage}{\\linewidth}\\raggedright\\tiny",
            *notes,
            "\\end{minipage}",
            "\\end{table}",
            "",
        ]
    )


def _caption(title: str) -> str:
    """The title with its number last: LaTeX counts tables itself."""
    number, _, rest = title.partition(", ")
    return f"{rest} ({number} of the paper)" if number.startswith("Table ") else title


def _block(system: str, printed: Iterable[Line], count: int) -> Iterator[str]:
    yield "\\midrule"
    yield f"\\multicolumn{{{count + 1}}}{{@{{}}l}}{{\\textbf{{{escape(system)}}}}} \\\\"
    for line in printed:
        label = f"\\raggedright\\hangindent=1em\\hspace{{0.5em}}{escape(line.label)}"
        cells = [f"\\textit{{{_number(cell)}}}" if line.kind == "ratio" else _number(cell) for cell in line.cells]
        yield " & ".join([label, *cells]) + " \\\\"


def escape(text: str) -> str:
    """Any text as LaTeX prints it; letters that its fonts lack lose their accent, or are written by number."""
    quoted = _OPENING_QUOTE.sub(r"\1“", " ".join(printable(text).split()))
    return "".join(map(_character, quoted.replace("--", "-\N{ZERO WIDTH SPACE}-")))


def _character(character: str) -> str:
    if escaped := _ESCAPED.get(character) or _MACROS.get(character):
        return escaped
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_ESCAPED.get(letter, letter) for letter in plain) or f"(U+{ord(character):04X})"


def _number(cell: str) -> str:
    """A cell, with its spread as an index and powers of ten as such."""
    match = _NUMBER.match(cell)
    if not match:
        return escape(cell)
    value, mark, std = match.groups()
    spread = f"$_{{\\pm {_power(std, is_inside=True)}}}$" if std else ""
    return f"{_power(value)}{escape(mark)}{spread}"


def _power(text: str, *, is_inside: bool = False) -> str:
    match = _POWER.match(text)
    if not match:
        return escape(text)
    formula = f"{match[1]}\\cdot 10^{{{match[2]}}}"
    return formula if is_inside else f"${formula}$"


def _heading(heading: str) -> str:
    """A heading in one or two lines, the second with the unit; what follows an underscore is an index."""
    parts = [_indexed(part) for part in heading.rsplit(", ", 1)]
    stacked = " \\\\ ".join(parts)
    return f"\\begin{{tabular}}[b]{{@{{}}r@{{}}}}{stacked}\\end{{tabular}}" if len(parts) > 1 else parts[0]


def _indexed(text: str) -> str:
    match = _INDEX.match(text)
    if not match:
        return escape(text)
    return f"{escape(match[1])}$_{{\\mathrm{{{escape(match[2])}}}}}$" + f"~{escape(match[3])}" * bool(match[3])


def _noted(note: str) -> str:
    """A note, its commands in typewriter letters."""
    parts = _COMMAND.split(note)
    return "".join(f"\\texttt{{{escape(part)}}}" if index % 2 else escape(part) for index, part in enumerate(parts))
