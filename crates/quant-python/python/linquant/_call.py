"""The ``quant`` command, called: options as keywords, documents as files, progress, warnings."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from . import _native
from .errors import LinquantWarning, OptionError

PathLike: TypeAlias = "str | os.PathLike[str]"
Names: TypeAlias = "str | Iterable[str]"


class Bar(Protocol):
    """A bar such as ``tqdm``'s."""

    def update(self, n: float = ..., /) -> object: ...


#: Called with bytes that are done and how many there are (0: nobody knows), or a bar.
Progress: TypeAlias = "Callable[[int, int], object] | Bar | None"


def _teller(progress: Progress) -> Callable[[int, int], object] | None:
    """A bar is told what is new."""
    if progress is None or not hasattr(progress, "update"):
        return progress
    bar: Any = progress
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total and getattr(bar, "total", None) is None:
            bar.total = total
        bar.update(done - told)
        told = done

    return tell


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as the command has them; what is ``None`` or ``False`` is not given."""
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            yield flag
        elif isinstance(value, (str, os.PathLike)):
            yield f"{flag}={os.fspath(value)}"
        elif isinstance(value, Iterable):
            for one in value:
                yield f"{flag}={os.fspath(one) if isinstance(one, os.PathLike) else one}"
        else:
            yield f"{flag}={value}"


def with_others(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a function names, and the command's other options."""
    for name in options:
        if name in given or name == "json":
            raise OptionError(f"{name} is none of this function's options", hint="see its documentation")
    return {**given, **options}


def _called(
    name: str, paths: Iterable[PathLike], options: Mapping[str, Any], progress: Progress, level: int
) -> dict[str, Any]:
    # A plan is a document as it is.
    json_flag = [] if name == "plan" else ["--json"]
    line = ["quant", name, *json_flag, *_flags(options), "--", *(os.fspath(path) for path in paths)]
    text, warned = _native.call(line, _teller(progress))
    for one in warned:
        warnings.warn(one, LinquantWarning, stacklevel=level)
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        # A plan that went to a file.
        return {"text": text}
    return document


def run_command(
    name: str, paths: Iterable[PathLike], options: Mapping[str, Any], progress: Progress = None
) -> dict[str, Any]:
    return _called(name, paths, options, progress, 4)


def command(name: str, /, *paths: PathLike, progress: Progress = None, **options: Any) -> dict[str, Any]:
    """Any command of ``quant`` that knows ``--json``, by its name: for what has no function of its own.

    Args:
        name: Such as ``"inspect"``.
        paths: What the command takes besides options.
        options: Its options, ``-`` as ``_``: ``block_size=32`` is ``--block-size=32``, ``True`` a flag
            without a value, a list the same option several times; ``None`` and ``False`` are not given.

    Returns:
        The document that it prints; ``{"text": ...}`` where it prints something else.

    >>> linquant.command("quantize", "model.safetensors", dtype="int4")  # doctest: +SKIP
    """
    return _called(name, paths, options, progress, 3)


def names_of(given: Names) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def word(given: str | None) -> str | None:
    """``per_channel`` is the command's ``per-channel``."""
    return None if given is None else given.replace("_", "-")


def mode_word(given: str | None) -> str | None:
    return {"linear_symmetric": "symmetric", "linear": "affine"}.get(given or "", given)


@contextlib.contextmanager
def document_file(document: object) -> Iterator[PathLike | None]:
    """The path of a document: of a file, of what its file would hold, or of coremltools' objects."""
    if document is None or isinstance(document, (str, os.PathLike)):
        yield document
        return
    if not isinstance(document, Mapping):
        from .coreml import config_dict

        document = config_dict(document)
    with tempfile.NamedTemporaryFile("w", prefix="linquant-", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        yield file.name
