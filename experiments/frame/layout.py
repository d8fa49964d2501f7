"""The layout of help texts: the width of their lines, and paragraphs and commands filled to it."""

import shutil
import textwrap

WIDEST, NARROWEST = 100, 40  # lines of text, in characters


def text_width() -> int:
    """Return how many characters a line of text has: those of the terminal, within bounds that are easy to read."""
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    return min(max(columns, NARROWEST), WIDEST)


def fill(text: str, width: int) -> str:
    """Return paragraphs refilled to a width, and indented lines, which are commands, continued by backslashes."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if block.startswith(" "):
            blocks.append("\n".join(_command(line, width) for line in block.splitlines()))
        else:
            blocks.append(textwrap.fill(" ".join(block.split()), width, break_on_hyphens=False, break_long_words=False))
    return "\n\n".join(blocks)


def _command(line: str, width: int) -> str:
    """Return an indented command, continued by backslashes where it is wider than `width`."""
    indent = line[: len(line) - len(line.lstrip())]
    parts = textwrap.wrap(
        line.strip(), width - len(indent) - 4, break_on_hyphens=False, break_long_words=False, subsequent_indent="  "
    )
    return " \\\n".join(indent + part for part in parts)
