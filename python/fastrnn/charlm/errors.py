"""The errors that the person at the keyboard can put right; the command shows each as one line."""

import importlib


def printable(text: str) -> str:
    """Return a text with what would move the cursor, or break the line, as an escape sequence."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UserError(Exception):
    """Something that only the user can put right; the message is one line and stands on its own.

    Names of files, and what a damaged file says about itself, may hold line ends and terminal codes: they are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class TextError(UserError):
    """A text that cannot be read, or cannot be learned from."""


class SettingsError(UserError):
    """A setting outside of what makes sense."""


class ModelFileError(UserError):
    """A file that is not a sound character model."""


class SaveError(UserError):
    """A file that could not be written. What stood there before still does."""


class TrainingError(UserError):
    """Training that cannot go on."""


def require(*libraries: str) -> None:
    """Raise :class:`MissingExtraError` unless these can be imported."""
    library = ""
    try:
        for library in libraries:
            importlib.import_module(library)
    except ImportError:
        raise MissingExtraError(library.partition(".")[0]) from None


class MissingExtraError(UserError):
    """A library of the ``cli`` extra that is not installed."""

    def __init__(self, library: str) -> None:
        super().__init__(f'this needs {library}, which is not installed: pip install "fastrnn[cli]"')
