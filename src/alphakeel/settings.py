"""What settings are made of: sections of typed, explained, range-checked options.

A section is a frozen dataclass whose fields are made by `option`, and the root of the settings
also holds sections, made by `section`. A section checks itself on construction, is built from
nested mappings with every unknown key refused by name, and is written as TOML, grouped by the
question that it answers. The sections themselves are in :mod:`alphakeel.config`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from alphakeel.errors import ConfigError
from alphakeel.files import regular_file

__all__ = [
    "NONE",
    "Section",
    "build",
    "common_option",
    "option",
    "plain_values",
    "read_toml",
    "section",
    "to_toml",
]


# What a settings file says for "no value" where the default is one: TOML itself has no null.
NONE = "none"


def option(
    default: Any,
    help: str,  # noqa: A002  (the word the reader of a settings file looks for)
    *,
    low: float | None = None,
    within: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
    common: bool = False,
    question: str = "",
) -> Any:
    """Declare one setting: default, explanation and valid range (ends included).

    A range is `within` two ends, or bounded by `low` alone. `common` keys are those that most
    people change. `question` is needed at the root only: a section has one for all of its keys.
    """
    low, high = within if within is not None else (low, None)
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "common": common,
        "question": question,
    }
    return field(default=default, metadata=metadata)


common_option = partial(option, common=True)


def section(cls: type[Section], question: str) -> Any:
    """Declare one section of the root, and the reader's question that its keys answer."""
    return field(default_factory=cls, metadata={"question": question})


@dataclass(frozen=True)
class Section:
    """A group of settings that checks itself on construction."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for spec in dataclasses.fields(self):
            if "help" not in spec.metadata:
                continue
            where = f"{_section_name(type(self))}{spec.name}"
            value = _coerce(getattr(self, spec.name), hints[spec.name], where)
            object.__setattr__(self, spec.name, value)
            for item in value if isinstance(value, tuple) else (value,):
                _check_range(item, spec.metadata, where)
        self._check()

    def _check(self) -> None:
        """Checks that involve more than one setting."""

    def keywords(
        self,
        *,
        without: Collection[str] = (),
        only: Collection[str] | None = None,
        prefix: str = "",
    ) -> dict[str, Any]:
        """The options as keywords of what they configure.

        All but those `without`, `only` those named, and those that begin with `prefix`, named by
        the rest.
        """
        names = [
            spec.name
            for spec in dataclasses.fields(self)
            if "help" in spec.metadata
            and spec.name not in without
            and (only is None or spec.name in only)
            and spec.name.startswith(prefix)
        ]
        return {name.removeprefix(prefix): getattr(self, name) for name in names}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file as nested mappings."""
    path = Path(path)
    try:
        # Editors of Windows put a mark before the text, which TOML does not know.
        return tomllib.loads(regular_file(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read settings file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"settings file {path} is not UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        paths = "hex" in str(error) or "escape" in str(error)
        cure = "; write a path with a backslash in single quotes, as in 'C:\\data'" if paths else ""
        raise ConfigError(f"settings file {path} is not valid TOML: {error}{cure}.") from error


def build(cls: type[Section], raw: Any, renamed: Mapping[str, str] | None = None) -> Section:
    """Build a section and those inside it from nested mappings; unknown keys are refused.

    `renamed` maps the full name of a key as it once was to its name now.
    """
    return _build(cls, raw, "", cls, renamed or {})


def _build(
    cls: type[Section], raw: Any, prefix: str, root: type[Section], renamed: Mapping[str, str]
) -> Section:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} must be a table of settings, not {raw!r}.")
    known = {spec.name: spec for spec in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known:
            if f"{prefix}{key}" in renamed:
                now = renamed[f"{prefix}{key}"]
                raise ConfigError(f"setting {prefix}{key} is now called {now}.")
            near = _nearest(key, prefix, root)
            raise ConfigError(
                f"unknown setting {prefix}{key}" + (f"; did you mean {near}?" if near else ".")
            )
        if "help" not in known[key].metadata:
            value = _build(hints[key], value, f"{prefix}{key}.", root, renamed)
        values[key] = value
    return cls(**values)


def _nearest(key: str, prefix: str, root: type[Section]) -> str | None:
    """The known setting closest to a misspelt one, looked for in its own section first."""
    every: dict[str, list[str]] = {}
    for spec in dataclasses.fields(root):
        if "help" in spec.metadata:
            every.setdefault(spec.name, []).append(spec.name)
            continue
        every.setdefault(spec.name, []).append(spec.name)
        for inner in dataclasses.fields(typing.get_type_hints(root)[spec.name]):
            every.setdefault(inner.name, []).append(f"{spec.name}.{inner.name}")
    own = [
        name for name, paths in every.items() if prefix and any(p.startswith(prefix) for p in paths)
    ]
    match = difflib.get_close_matches(key, own, 1, 0.6) or difflib.get_close_matches(
        key, every, 1, 0.6
    )
    if not match:
        return None
    paths = every[match[0]]
    return next((path for path in paths if prefix and path.startswith(prefix)), paths[0])


def plain_values(value: Any) -> Any:
    """Settings as nested plain values (dates as ISO text), ready for JSON."""
    if isinstance(value, Section):
        return {f.name: plain_values(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain_values(item) for item in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def to_toml(
    config: Section,
    title: Collection[str],
    *,
    every: bool = True,
    without: Collection[str] = (),
) -> str:
    """Settings as a TOML text, grouped by question, each key under the line that explains it.

    Without `every`, keys that are not common are left out unless they differ from their default,
    so that reading the text back gives the same settings. Keys without a value are commented out.
    Keys of the root `without` which it is wanted are left out, too.
    The options of the root come first, as TOML has it, and so does their question.
    """
    groups: dict[str, list[str]] = {}
    for spec in dataclasses.fields(config):
        if spec.name in without:
            continue
        lines = groups.setdefault(spec.metadata["question"], [])
        value = getattr(config, spec.name)
        if not isinstance(value, Section):
            lines += _toml_key(spec, value, every)
            continue
        options = dataclasses.fields(value)
        keys = [line for own in options for line in _toml_key(own, getattr(value, own.name), every)]
        if keys:
            about = (type(value).__doc__ or "").splitlines()[0].split("] ", 1)[1]
            lines += ["", f"[{spec.name}]  # {about}", *keys]
    text = [f"# {line}" for line in title]
    for question, lines in groups.items():
        if lines:
            gap = [""] if lines[0] else []
            text += ["", "", f"# ==== {question} ====", *gap, *lines]
    return "\n".join(text) + "\n"


def _toml_key(spec: dataclasses.Field[Any], value: Any, every: bool) -> list[str]:
    if not every and not spec.metadata["common"] and value == spec.default:
        return []
    help_line = f"# {spec.metadata['help']}{_range_text(spec.metadata)}"
    if value is None and spec.default is None:
        return [help_line, f"# {spec.name} ="]
    return [help_line, f"{spec.name} = {_toml(NONE if value is None else value)}"]


def _range_text(meta: Mapping[str, Any]) -> str:
    low, high = meta["low"], meta["high"]
    if low is not None and high is not None:
        return f" [{low:g} to {high:g}]"
    return f" [at least {low:g}]" if low is not None else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(_toml_char(c) for c in value) + '"'
    return value.isoformat() if isinstance(value, dt.date) else repr(value)


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _section_name(cls: type[Section]) -> str:
    text = cls.__doc__ or ""
    return text[1 : text.index("]")] + "." if text.startswith("[") else ""


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Convert `value` to the declared type where no information is lost, else refuse it."""
    if isinstance(hint, types.UnionType):
        kinds = [arg for arg in hint.__args__ if arg is not type(None)]
        if len(kinds) < len(hint.__args__) and (value is None or value == NONE):
            return None
        # Of several types a text is kept as it is: its choices are checked with the range.
        hint = str if str in kinds and isinstance(value, str) else kinds[0]
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        return tuple(_coerce(item, hint.__args__[0], where) for item in value)
    if hint is dt.date:
        return _coerce_date(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        kind = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]
        raise ConfigError(f"{where} must be {kind}, not {value!r}.")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be finite, not {value!r}.")
    return value


def _coerce_date(value: Any, where: str) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} must be a date as YYYY-MM-DD, not {value!r}.") from None


def _check_range(value: Any, meta: Mapping[str, Any], where: str) -> None:
    low, high, choices = meta["low"], meta["high"], meta["choices"]
    if value is None:
        return
    if choices and not (low is not None and isinstance(value, (int, float))):
        if value not in choices:
            near = difflib.get_close_matches(str(value), choices, 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            most = "" if low is None else ", or a number"
            words = f"{', '.join(choices)}{most}"
            raise ConfigError(f"{where} must be one of {words}, not {value!r}{hint}")
        return
    if low is not None and value < low:
        raise ConfigError(f"{where} must be at least {low:g}, not {value!r}.")
    if high is not None and value > high:
        raise ConfigError(f"{where} must be at most {high:g}, not {value!r}.")
