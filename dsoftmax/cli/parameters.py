"""Types of option values: sizes, names from a list, lists, and the solvers."""

from collections.abc import Sequence
from typing import Any

import click

from dsoftmax.errors import OptionError


class Bytes(click.ParamType):
    """A size such as 512MiB or 2GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from dsoftmax.system.units import parse_bytes

        return parse_bytes(value, "--memory" if param is None else param.opts[-1])


class Known(click.ParamType):
    """A name from a short list. The error for another name suggests the nearest."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known
        self.name = "|".join(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.known:
            return str(value)
        from dsoftmax.errors import unknown_option

        raise unknown_option(_spelling(param), value, self.known)


class Numbers(click.ParamType):
    """A number, or several separated by commas."""

    name = "NUMBER[,…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            raise OptionError(
                f"{_spelling(param)} is {value!r}; expected one number, or several separated by "
                "commas; pass for example 0.01,0.1,1."
            ) from None


class ListOption(click.Option):
    """An option of several values separated by commas. Given again, it adds its values."""

    def __init__(self, param_decls: Sequence[str], **attributes: Any) -> None:
        super().__init__(param_decls, **{**attributes, "multiple": True})

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return self.type(",".join(value), param=self, ctx=ctx) if value else ()

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        return super().process_value(ctx, value) or None


class SolverOption(click.Option):
    """An option whose help lists the solvers of their own table.

    The table is imported only when help is asked for.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from dsoftmax.solvers.table import AUTO, SOLVERS

        references = [name for name, one in SOLVERS.items() if one.reference]
        others = [name for name in SOLVERS if name not in references]
        self.help = f"Algorithm that minimises F. {AUTO} chooses one of {', '.join(others)}."
        if references:
            self.help += f" Slower references: {', '.join(references)}."
        return super().get_help_record(ctx)


def _spelling(param: click.Parameter | None) -> str:
    return "option" if param is None else param.opts[-1]
