"""``python -m fastrnn``."""

from .cli import command

command()
