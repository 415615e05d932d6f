"""Configuration of Sphinx: `nox -s docs` builds the pages into build/docs."""

from importlib.metadata import version as version_of

project = "fastrnn"
author = "the fastrnn authors"
release = version = version_of("fastrnn")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3  # links to headings, as GitHub has them
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and dtypes stand in the docstrings
