"""A user's own Python file: run from its path, as a module of its own, and hashed.

Factors and models of the user's are marked in such a file. Whatever is wrong with it is reported in
one sentence with the file and the line.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from pathlib import Path, PurePath
from typing import Any

from alphakeel.errors import ConfigError
from alphakeel.files import regular_file

__all__ = ["UserFile", "line_of_error", "place_of", "run_file"]


@dataclass(frozen=True, eq=False)
class UserFile:
    """A file that was run: its name, the SHA-256 of its bytes, and what they defined."""

    name: str
    digest: str
    names: dict[str, Any]

    def marked(self, kind: type) -> list[Any]:
        """What it holds of a kind, each once, in its order."""
        return list(dict.fromkeys(x for x in self.names.values() if isinstance(x, kind)))


def run_file(path: str | Path, what: str) -> UserFile:
    """Run a file; `what` it is wanted for is a word of the message where it cannot be read."""
    file = Path(path)
    try:
        source = regular_file(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} in {file}: {error.strerror}.") from error
    digest = hashlib.sha256(source).hexdigest()
    return UserFile(file.name, digest, _run(file, source, digest))


def place_of(func: Callable[..., Any], line: int | None = None) -> str:
    """File and line of a function, or another line there, as `my_factors.py, line 12`."""
    code = inspect.unwrap(func).__code__
    return f"{PurePath(code.co_filename).name}, line {line or code.co_firstlineno}"


def line_of_error(filename: str, error: BaseException) -> int | None:
    """The line of a file at which an error was raised; None if it came from elsewhere."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == filename
    ]
    return lines[-1] if lines else None


class _SourceLoader(ExecutionLoader):
    """Runs the very bytes that were hashed; a compiled copy beside the file might be older."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        return self._path

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return importlib.util.decode_source(self._source)


def _run(file: Path, source: bytes, digest: str) -> dict[str, Any]:
    """Run a file as a module, and return its names."""
    name = f"alphakeel_custom_{digest[:16]}"
    loader = _SourceLoader(str(file), source)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None  # noqa: S101  (a loader was given)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        place = file.name if error.lineno is None else f"{file.name}, line {error.lineno}"
        raise ConfigError(f"{place}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        line = line_of_error(str(file), error)
        place = file.name if line is None else f"{file.name}, line {line}"
        message = (
            str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}."
        )
        raise ConfigError(f"{place}: {message}") from error
    finally:
        del sys.modules[name]
    return vars(module)
