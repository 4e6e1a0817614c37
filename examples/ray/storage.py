"""Models on storage that all machines see: a shared folder, S3, or whatever else fsspec knows."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


class Folder:
    """A folder at a path or address, such as `/shared/model` or `s3://bucket/model`."""

    def __init__(self, address: str) -> None:
        self.system, self.path = url_to_fs(address.rstrip("/"))
        self.is_local = isinstance(self.system, LocalFileSystem)
        #: Whole, so that it means the same on every machine.
        self.address = self.path if self.is_local else address.rstrip("/")

    def names(self) -> dict[str, int]:
        """The files in it, and their sizes."""
        self.system.invalidate_cache()
        if not self.system.isdir(self.path):
            return {}
        found = self.system.ls(self.path, detail=True)
        return {one["name"].rsplit("/", 1)[-1]: one["size"] for one in found if one["type"] == "file"}

    def at(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A file of it to read: in place, or a copy for as long as it is needed."""
        if self.is_local:
            yield Path(self.at(name))
            return
        with tempfile.TemporaryDirectory(prefix="shard-") as folder:
            copy = Path(folder, name)
            self.system.get_file(self.at(name), str(copy))
            yield copy

    @contextlib.contextmanager
    def created(self, name: str) -> Iterator[Path]:
        """A file of it to write, which appears whole: quant's outputs do, and a copy gets its name last."""
        if self.is_local:
            Path(self.path).mkdir(parents=True, exist_ok=True)
            yield Path(self.at(name))
            return
        with tempfile.TemporaryDirectory(prefix="shard-") as folder:
            made = Path(folder, name)
            yield made
            part = self.at(name + ".part")
            self.system.put_file(str(made), part)
            self.system.mv(part, self.at(name))

    @contextlib.contextmanager
    def headers(self, names: list[str]) -> Iterator[Path]:
        """A folder with these safetensors files, of which only what their headers say is there."""
        if self.is_local:
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory(prefix="headers-") as folder:
            for name in names:
                with self.system.open(self.at(name), "rb") as file:
                    start = file.read(8)
                    start += file.read(struct.unpack("<Q", start)[0])
                    size = file.seek(0, 2)
                with open(Path(folder, name), "wb") as copy:
                    copy.write(start)
                    # The rest is a hole: it takes no room on the disk.
                    copy.truncate(size)
            yield Path(folder)


def option(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, an option of the command: `block_size=32`, `dtype=int4`, `strict=true`."""
    name, _, value = text.partition("=")
    words: dict[str, Any] = {"true": True, "false": False}
    if value in words:
        return name, words[value]
    return name, int(value) if value.isdigit() else value
