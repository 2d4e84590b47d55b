"""The command line, derived from the configuration sections. Imports neither torch nor MPI."""

import argparse
import dataclasses
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cosmictagger import __version__
from cosmictagger.config.options import FALSE_WORDS, TRUE_WORDS, Option, options_of, suggest
from cosmictagger.config.resolve import SECTIONS, all_options
from cosmictagger.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode:
    """A mode of the program: what its help says, and which sections it makes use of."""

    summary: str
    example: str
    sections: tuple[str, ...]


MODES: Mapping[str, Mode] = {
    "train": Mode(
        summary="train a network on larcv3 files",
        example="python bin/exec.py train --file events.h5 -i 500 -mb 2 --preset a21 --downsample 1",
        sections=("run", "data", "network", "training", "inference", "distribution", "simulation"),
    ),
    "iotest": Mode(
        summary="time reading alone, with the very loader that train uses",
        example="python bin/exec.py iotest --file events.h5 -i 200 -mb 16",
        sections=("run", "data", "distribution"),
    ),
    "inference": Mode(
        summary="tag all events of larcv3 files with a trained network",
        example="python bin/exec.py inference --file events.h5 --weights-location log/checkpoints",
        sections=("run", "data", "network", "inference", "distribution"),
    ),
    "simulate": Mode(
        summary="simulate events of a liquid-argon detector and write them as a larcv3 file",
        example="python bin/exec.py simulate --events 1000 --seed 1 --output simulated.h5",
        sections=("simulation", "run"),
    ),
    "report": Mode(
        summary="make the report page of a log directory again, from the files in it",
        example="python bin/exec.py report --log-directory runs/mine",
        sections=("run",),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a command line asks for: a mode, the flags that were given, and a YAML file of further settings."""

    mode: str
    flags: Mapping[str, Any]
    config_file: str | None


def parse_command_line(arguments: Sequence[str]) -> Request:
    """Parse the arguments after the program name; --help and --version print and exit."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "--version"):
        _top_parser().parse_args([name])
    if name not in MODES:
        raise UserError(f"Unknown mode '{name}'{suggest(name, MODES)}; the first word is the mode: {', '.join(MODES)}.")
    known = all_options()
    parsed = vars(_mode_parser(name).parse_args(_spell_out_booleans(rest)))
    config_file = parsed.pop("config")
    flags = {}
    for key, words in parsed.items():
        item = known[key][1]
        flags[key] = item.parse(words, item.flag)
        item.check(flags[key], item.flag)
    return Request(mode=name, flags=flags, config_file=config_file)


class _Parser(argparse.ArgumentParser):
    """Report mistakes as UserError and suggest the flag that was meant."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            raise UserError(f"Unknown argument '{word}'{suggest(word, _all_flags())}; see {self.prog} --help.")
        return parsed


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def _top_parser() -> argparse.ArgumentParser:
    modes = "\n".join(f"  {name:10} {mode.summary}" for name, mode in MODES.items())
    parser = _Parser(
        prog="exec.py",
        usage="exec.py MODE [options]",
        formatter_class=_Formatter,
        description="Tag every pixel of liquid-argon TPC images as background, cosmic ray or neutrino.",
        epilog=f"modes:\n{modes}\n\nexec.py MODE --help lists the options of a mode.\n\n{_examples(MODES)}",
    )
    parser.add_argument("--version", action="version", version=f"CosmicTagger {__version__}")
    return parser


def _mode_parser(name: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"exec.py {name}",
        usage=f"exec.py {name} [options]",
        formatter_class=_Formatter,
        description=_describe_mode(MODES[name]),
        epilog=_examples([name]),
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; every run saves its own")
    for section_name, section in SECTIONS.items():
        _add_section(parser, section, shown=section_name in MODES[name].sections)
    return parser


def _describe_mode(mode: Mode) -> str:
    text = (
        f"{mode.summary[0].upper()}{mode.summary[1:]}. Values come from the defaults in [brackets], then the YAML file of "
        "--config, then --preset, then the flags. Booleans are set by --name, unset by --no-name, or take true|false."
    )
    return textwrap.fill(text, 110)


def _examples(names: Iterable[str]) -> str:
    return "\n".join(["example:", *(f"  {MODES[name].example}" for name in names)])


def _add_section(parser: argparse.ArgumentParser, section: type, shown: bool) -> None:
    group = parser.add_argument_group((section.__doc__ or "").rstrip(".")) if shown else parser
    for item in options_of(section):
        # Options of other modes are accepted, so that one set of flags serves all modes, but not shown.
        group.add_argument(
            *_flags(item),
            dest=item.key,
            default=argparse.SUPPRESS,
            metavar=_metavar(item),
            nargs="+" if item.length == -1 else item.length,
            help=_help(item) if shown else argparse.SUPPRESS,
        )


def _flags(item: Option) -> list[str]:
    return ([item.short] if item.short else []) + [item.flag]


def _all_flags() -> list[str]:
    items = [item for _, item in all_options().values()]
    negated = [f"--no-{item.flag[2:]}" for item in items if item.base is bool]
    return [flag for item in items for flag in _flags(item)] + negated + ["--config", "--help"]


def _metavar(item: Option) -> Any:
    if item.choices or item.base is bool:
        return "|".join(item.choices or ("true", "false"))
    name = {int: "N", float: "X", str: "WORD"}[item.base]
    if item.key.endswith(("file", "directory", "location")):
        name = "PATH"
    return (name,) * item.length if item.length and item.length > 1 else name


def _help(item: Option) -> str:
    text = item.help
    if item.default not in (None, ()):
        text += f" [{str(item.default).lower() if item.base is bool else item.default}]"
    return text.replace("%", "%%")


def _spell_out_booleans(arguments: Sequence[str]) -> list[str]:
    """Write every boolean flag as ``--name=true|false``, so that none swallows the word behind it."""
    spellings: dict[str, tuple[str, bool]] = {}
    for _, item in all_options().values():
        if item.base is bool:
            spellings |= dict.fromkeys(_flags(item), (item.flag, True))
            spellings[f"--no-{item.flag[2:]}"] = (item.flag, False)
    result: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word not in spellings:
            result.append(word)
            continue
        flag, value = spellings[word]
        if value and words and words[0].lower() in TRUE_WORDS | FALSE_WORDS:
            result.append(f"{flag}={words.pop(0)}")
        else:
            result.append(f"{flag}={str(value).lower()}")
    return result
