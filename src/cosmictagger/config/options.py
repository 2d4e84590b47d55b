"""The one definition of an option: its type, default, help, flag and YAML key.

A configuration section is a frozen dataclass whose fields are made with `option`. The field name is the
YAML key; with hyphens for underscores it is the flag. The annotation is the type, a `Literal` the choices.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cosmictagger.errors import UserError

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def option(
    default: Any,
    help: str,
    *,
    short: str | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare a field of a configuration section.

    `help` states the unit where there is one. `minimum` and `maximum` are inclusive bounds, `above` an
    exclusive lower bound, `short` a second flag such as ``-lr``.
    """
    bounds = {"minimum": minimum, "above": above, "maximum": maximum}
    return dataclasses.field(default=default, metadata={"help": help, "short": short, "bounds": bounds})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """An option seen from outside: what argparse, the YAML reader and the documentation need of it."""

    key: str
    help: str
    default: Any
    short: str | None
    bounds: dict[str, float | None]
    base: type  # int, float, bool or str: the type of the value, or of each element
    length: int | None  # None: a scalar; -1: any number of elements; n: exactly n
    choices: tuple[str, ...] | None
    optional: bool  # None is a value of its own ("decide for me")

    @property
    def flag(self) -> str:
        """The long flag, ``--learning-rate`` for ``learning_rate``."""
        return "--" + self.key.replace("_", "-")

    def parse(self, value: Any, where: str) -> Any:
        """Turn a word of the command line or a YAML value into the typed value, or raise UserError.

        `where` names the source in the message, such as ``--depth`` or ``run.yaml: network.depth``.
        """
        if value is None or (self.optional and isinstance(value, str) and value.lower() == "none"):
            if not self.optional:
                raise UserError(f"{where}: a value is needed ({self._expected()}).")
            return None
        if self.length is None:
            return self._parse_element(value, where)
        elements = list(value) if isinstance(value, list | tuple) else [value]
        if self.length not in (-1, len(elements)):
            raise UserError(f"{where}: takes {self.length} values, not {len(elements)}.")
        return tuple(self._parse_element(element, where) for element in elements)

    def check(self, value: Any, where: str) -> None:
        """Raise UserError where `value` lies outside the option's bounds or choices."""
        if value is None:
            return
        for element in value if self.length is not None else (value,):
            if self.choices and element not in self.choices:
                raise UserError(
                    f"{where}: '{element}' is not one of {', '.join(self.choices)}{suggest(element, self.choices)}."
                )
            self._check_bounds(element, where)

    def _check_bounds(self, value: Any, where: str) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {value} is no number to compute with.")
        minimum, above, maximum = self.bounds["minimum"], self.bounds["above"], self.bounds["maximum"]
        if minimum is not None and value < minimum:
            raise UserError(f"{where}: {value:g} is too small; it must be at least {minimum:g}.")
        if above is not None and not value > above:
            raise UserError(f"{where}: {value:g} is too small; it must be above {above:g}.")
        if maximum is not None and value > maximum:
            raise UserError(f"{where}: {value:g} is too large; it may be at most {maximum:g}.")

    def _parse_element(self, value: Any, where: str) -> Any:
        if self.base is bool:
            return parse_bool(value, where)
        if self.base is str:
            # YAML reads `none`, `no` and bare numbers as what they look like; a str option wants the word.
            return "none" if value is None else str(value)
        if isinstance(value, bool):
            raise UserError(f"{where}: '{value}' is not {self._expected()}.")
        try:
            number = float(value)
            if not math.isfinite(number) or (self.base is int and number != int(number)):
                raise ValueError
            return self.base(number)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{where}: '{value}' is not {self._expected()}.") from None

    def _expected(self) -> str:
        return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[self.base]


def parse_bool(value: Any, where: str) -> bool:
    """Read true/false, yes/no, on/off or 1/0, in any case."""
    word = str(value).lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise UserError(f"{where}: '{value}' is not true or false.")


def options_of(section: type) -> tuple[Option, ...]:
    """List the options of a section class, in the order they are written."""
    hints = get_type_hints(section)
    return tuple(_describe(field, hints[field.name]) for field in dataclasses.fields(section))


def check_section(section: Any) -> None:
    """Check every value of a section instance against its option; call it from ``__post_init__``."""
    for item in options_of(type(section)):
        item.check(getattr(section, item.key), item.flag)


def suggest(word: str, known: Iterable[str]) -> str:
    """Say " (did you mean '…'?)" for the known word nearest to `word`, or nothing where none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _describe(field: "dataclasses.Field[Any]", hint: Any) -> Option:
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        optional, hint = len(members) < len(get_args(hint)), members[0]
    length = None
    if get_origin(hint) is tuple:
        elements = get_args(hint)
        length = -1 if elements[-1] is Ellipsis else len(elements)
        hint = elements[0]
    choices = tuple(get_args(hint)) if get_origin(hint) is Literal else None
    return Option(
        key=field.name,
        help=field.metadata["help"],
        default=field.default,
        short=field.metadata["short"],
        bounds=field.metadata["bounds"],
        base=str if choices else hint,
        length=length,
        choices=choices,
        optional=optional,
    )
