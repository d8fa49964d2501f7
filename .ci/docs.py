r"""Build the API pages of mllab with pdoc: `python .ci/docs.py FOLDER`. A warning is an error.

Formulas are set aside while Markdown is rendered: it would take the underscores of $a_i$ for emphasis, and an indented
$$ ... $$ for code. MathJax typesets them in the browser.
"""

import html
import pkgutil
import re
import sys
import warnings
from pathlib import Path

import pdoc
from pdoc import render, render_helpers

import mllab

FORMULA = re.compile(
    r"[ ]*(?P<display>\$\$.+?\$\$)\n?|(?P<inline>(?<![\w$])\$[^\s$](?:[^$]*?[^\s$])?\$(?!\w))", re.DOTALL
)
to_html = render_helpers.to_html


def to_html_with_formulas(text: str) -> str:
    """Return Markdown as HTML, its formulas unchanged."""
    formulas: list[str] = []

    def set_aside(found: re.Match) -> str:
        formulas.append(found["display"] or found["inline"])
        mark = f"FORMULA{len(formulas) - 1}END"
        return f"\n{mark}\n" if found["display"] else mark

    page = to_html(FORMULA.sub(set_aside, text))
    for number, formula in enumerate(formulas):
        mark = f"FORMULA{number}END"
        if page.count(mark) != 1 or re.search(rf"<(pre|code)>[^<]*{mark}", page):
            raise ValueError(f"a formula that is lost or shown as code: {formula}")
        page = page.replace(mark, html.escape(formula))
    return page


def main(folder: Path) -> None:
    """Write the pages of every module."""
    warnings.simplefilter("error")
    render.env.filters["to_html"] = to_html_with_formulas
    render.configure(docformat="google", math=True)
    modules = [module.name for module in pkgutil.walk_packages(mllab.__path__, "mllab.")]
    # Of a package with `__all__`, pdoc leaves its modules out; of the others it adds them by itself.
    hidden = [name for name in modules if hasattr(sys.modules[name.rpartition(".")[0]], "__all__")]
    pdoc.pdoc("mllab", *hidden, output_directory=folder)
    pages = list(folder.rglob("*.html"))
    print(f"{len(pages)} API pages in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
