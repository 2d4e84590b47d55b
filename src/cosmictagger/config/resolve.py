"""Merge defaults, preset, YAML file and flags into one Config."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cosmictagger.config.options import Option, options_of, suggest
from cosmictagger.config.presets import PRESETS
from cosmictagger.config.sections import Config
from cosmictagger.errors import UserError

SECTIONS: Mapping[str, type] = types.MappingProxyType(
    {field.name: type(field.default) for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.default)}
)


def all_options() -> dict[str, tuple[str, Option]]:
    """Map every key to its section and option; a key stands in one section only."""
    return {item.key: (name, item) for name, section in SECTIONS.items() for item in options_of(section)}


def resolve(flags: Mapping[str, Any], config_file: str | None = None) -> Config:
    """Make the Config of a run: defaults, then the YAML file, then the flags; a preset comes just before its source.

    `flags` maps option keys to typed values and holds only the flags that were given.
    """
    settings = _expand_preset(read_yaml(config_file)) if config_file else {}
    settings |= _expand_preset(flags)
    chosen: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    known = all_options()
    for key, value in settings.items():
        chosen[known[key][0]][key] = value
    sections: dict[str, Any] = {name: section(**chosen[name]) for name, section in SECTIONS.items()}
    return Config(**sections, given=frozenset(settings))


def read_yaml(path: str) -> dict[str, Any]:
    """Read a YAML file of sections (``network: {network_depth: 6}``) into typed values by key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"--config: cannot read '{path}': {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config: '{path}' is not YAML: {' '.join(str(error).split())}.") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(f"--config: '{path}' must hold the sections {', '.join(SECTIONS)}.")
    settings: dict[str, Any] = {}
    for name, values in document.items():
        settings |= _read_section(path, name, values)
    return settings


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Turn a Config into plain dictionaries and lists, as YAML and JSON hold it."""
    plain = {name: dataclasses.asdict(getattr(config, name)) for name in SECTIONS}
    return {
        name: {k: list(v) if isinstance(v, tuple) else v for k, v in section.items()} for name, section in plain.items()
    }


def to_yaml(config: Config) -> str:
    """Write a Config as a YAML document that `read_yaml` reads back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _expand_preset(settings: Mapping[str, Any]) -> dict[str, Any]:
    preset = settings.get("preset")
    if preset is None:
        return dict(settings)
    if preset not in PRESETS:
        raise UserError(f"--preset: '{preset}' is not one of {', '.join(PRESETS)}{suggest(preset, PRESETS)}.")
    return PRESETS[preset] | dict(settings)


def _read_section(path: str, name: str, values: Any) -> dict[str, Any]:
    known = all_options()
    if name not in SECTIONS:
        hint = f"; write it under '{known[name][0]}:'" if name in known else suggest(name, SECTIONS)
        raise UserError(f"--config: '{path}' has an unknown section '{name}'{hint}. Sections: {', '.join(SECTIONS)}.")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"--config: '{path}': section '{name}' must hold keys and values.")
    settings = {}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"--config: '{path}' has an unknown key '{name}.{key}'{suggest(key, known)}.")
        home, item = known[key]
        if home != name:
            raise UserError(f"--config: '{path}': '{key}' belongs under '{home}:', not under '{name}:'.")
        settings[key] = item.parse(value, f"--config: '{path}': {name}.{key}")
    return settings
