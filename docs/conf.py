"""How Sphinx builds the site: pages in Markdown, the reference out of docstrings and of argparse.

``make docs`` builds it into build/docs, in the environment of the Makefile; a warning is an error.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from vledge._version import __version__  # noqa: E402

project = "vledge"
author = "the vledge contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_pages",
    "command_pages",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # records of several machines begin at the third level
default_role = "py:obj"  # `name` in a docstring: a link where there is such a name, else code
highlight_language = "bash"
smartquotes = False  # --option is no dash
exclude_patterns = ["_extensions", "pictures"]

autodoc_mock_imports = ["torch", "onnx", "h5py"]
autodoc_typehints = "none"  # signatures have them
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False

html_theme = "furo"
html_title = f"vledge {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_copyright = False
