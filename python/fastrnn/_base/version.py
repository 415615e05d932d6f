"""Which version of the library this is, for those that do not know the compiled part."""

from fastrnn._core import __version__

__all__ = ["__version__"]
