"""Configuration of the documentation's site: Sphinx with Furo, Markdown by MyST, notebooks by MyST-NB."""

import os
import re
from typing import Any

from densenets import __version__

project = "densenets"
author = "the developers of densenets"
copyright = "2026, the developers of densenets"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
# What stands in single backticks in our docstrings is code.
default_role = "code"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links such as page.md#a-heading, as GitHub makes them
nb_execution_mode = os.environ.get("DENSENETS_NOTEBOOKS", "cache")  # "off" for a quick look at the rest
nb_execution_timeout = 600
nb_execution_raise_on_error = True

python_maximum_signature_line_length = 100  # longer ones have a line a parameter
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

pygments_style = "a11y-light"
pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "densenets"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")


def as_restructured_text(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Write a docstring as the reStructuredText that its author means.

    An indented block that is no section's is code, not a quotation; a star is a star, as in shapes such as
    (N, C, *spatial).
    """
    marked, section = [], False
    for paragraph in re.split(r"\n{2,}", "\n".join(lines)):
        section = section or bool(_SECTION.match(paragraph))
        indented = all(line.startswith("    ") for line in paragraph.splitlines())
        if paragraph and indented and not section:
            marked += [".. code-block:: python", paragraph]
        else:
            marked.append(re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", paragraph))
    lines[:] = "\n\n".join(marked).splitlines()


def setup(app: Any) -> None:
    """Register what is done to docstrings before Napoleon reads their sections."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
