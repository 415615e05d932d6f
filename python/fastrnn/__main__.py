"""``python -m fastrnn``."""

from .command.main import command

command()
