"""What goes wrong, one class per kind.

Every exception is an :class:`Error`. Its text says what is wrong; its ``hint``, where there is
one, says what to do about it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ArrayError",
    "Error",
    "FileAccessError",
    "FileError",
    "InterruptedError",
    "LinquantWarning",
    "MemoryLimitError",
    "MergeError",
    "NonFiniteError",
    "OptionError",
    "ScaleError",
    "ShapeError",
    "StrictError",
    "TensorError",
    "UnsupportedError",
]


class Error(Exception):
    """The base of all exceptions of the package.

    Attributes:
        hint: What to do about it, or ``None``; of functions on files, the option to give, as a keyword.
    """

    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}; {hint}")
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[Error], args: tuple[object, ...]) -> Error:
    """As it was: its text need not be made of message and hint."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class OptionError(Error, ValueError):
    """An option that makes no sense: an unknown name, a number out of range."""


class ArrayError(Error, ValueError):
    """An array of a type, device or memory layout that cannot be used."""


class ShapeError(Error, ValueError):
    """An axis, block size or buffer that does not fit the shape of an array."""


class NonFiniteError(Error, ValueError):
    """NaN or infinities among values to be quantized."""


class ScaleError(Error, ArithmeticError):
    """Values without a usable scale or zero point: it would overflow, or underflow to 0."""


class MergeError(Error, ValueError):
    """Observers that cannot become one: they differ in kind or settings, or depend on order."""


class FileAccessError(Error, OSError):
    """The operating system refused to read or write.

    Attributes:
        file: Which file or folder.
    """

    file: Path


class FileError(Error, ValueError):
    """A file that is not what it should be, or a name that promises something else.

    Attributes:
        file: Which file or folder.
    """

    file: Path


class TensorError(Error, ValueError):
    """A tensor in a file that cannot be quantized or restored.

    Attributes:
        file: Which file.
        tensor: The tensor's name.
    """

    file: Path
    tensor: str


class StrictError(Error, ValueError):
    """With ``strict=True``: something fell short, and nothing was written."""


class MemoryLimitError(Error, MemoryError):
    """The work would take more memory than it may."""


class InterruptedError(Error):
    """The work was stopped."""


class UnsupportedError(Error, NotImplementedError):
    """What another library does, and this one does not."""


class LinquantWarning(UserWarning):
    """What a user should know of work that was done all the same."""
