"""Parts of pages that are made from the code when the site is built, so that they say what the code says.

``{entry} RayConnectionError``
    what a class of :mod:`airflow_ray.exceptions` stands for, and the texts that come with it.
``{connection-fields}``, ``{configuration}``, ``{templated-fields}``, ``{commands}``
    tables of fields, options and arguments.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from docutils import nodes
from error_texts import all_texts
from sphinx.util.docutils import SphinxDirective

from airflow_ray import exceptions
from airflow_ray.cli import get_cli_commands
from airflow_ray.provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sphinx.application import Sphinx

FEW = 6
OPERATORS = [
    "airflow_ray.operators.python.RayPythonOperator",
    "airflow_ray.operators.tune.RayTuneOperator",
    "airflow_ray.operators.job.RaySubmitJobOperator",
    "airflow_ray.operators.release.RayReleaseOperator",
    "airflow_ray.operators.kuberay.CreateRayClusterOperator",
    "airflow_ray.operators.kuberay.DeleteRayClusterOperator",
    "airflow_ray.sensors.object.RayObjectSensor",
]


class _FromCode(SphinxDirective):
    """Shows Markdown that a function of the code returns."""

    def markdown(self) -> str:
        """Return what is shown."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.markdown())


class ExceptionEntry(_FromCode):
    """What an exception class stands for."""

    required_arguments = 1

    def markdown(self) -> str:
        """Return what is shown."""
        cls = getattr(exceptions, self.arguments[0])
        kinds = [self.kind(each) for each in cls.__bases__]
        what = (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "`")
        return f"{what} It is {' and '.join(kinds)}."

    def kind(self, base: type) -> str:
        """Return what a class derives from, as a link where it has an entry here."""
        name = base.__name__
        if base.__module__ != exceptions.__name__:
            return f"a `{name}` of {'Python' if base.__module__ == 'builtins' else 'Airflow'}"
        return f"{'an' if name[0] == 'A' else 'a'} [{name}](#{name.lower()})"

    def run(self) -> list[nodes.Node]:
        """Return the sentence of the class and its texts."""
        texts = all_texts().get(self.arguments[0], [])
        if not texts:
            return super().run()
        # Some classes have many: they are open to those who search the page, and folded for those who read it.
        lines = self.parse_text_to_nodes("\n".join(f"- ``` {text} ```" for text in texts))
        title = "Its text" if len(texts) == 1 else f"Its {len(texts)} texts"
        fold = f"<details{' open' if len(texts) <= FEW else ''}><summary>{title}</summary>"
        return [*super().run(), nodes.raw("", fold, format="html"), *lines, nodes.raw("", "</details>", format="html")]


class ConnectionFields(_FromCode):
    """The fields of a connection of type ``ray``, as its form has them."""

    def markdown(self) -> str:
        """Return what is shown."""
        (connection,) = get_provider_info()["connection-types"]
        examples = connection["ui-field-behaviour"]["placeholders"]
        rows = []
        for name, field in connection["conn-fields"].items():
            schema = field["schema"]
            kinds = " or ".join(kind for kind in schema["type"] if kind != "null")
            default = f", {code(schema['default'])} unless set" if "default" in schema else ""
            example = f" For example {code(examples[name])}." if name in examples else ""
            rows.append((code(name), field["label"], f"{kinds}{default}", field["description"] + example))
        return table(("field of the extra", "in the form", "kind", "meaning"), rows)


class Configuration(_FromCode):
    """The options of Airflow's configuration."""

    def markdown(self) -> str:
        """Return what is shown."""
        rows = []
        for section, content in get_provider_info()["config"].items():
            for name, option in content["options"].items():
                default = code(option["default"]) if option["default"] else "empty"
                example = f" For example {code(option['example'])}." if option["example"] else ""
                rows.append((code(f"[{section}] {name}"), option["type"], default, option["description"] + example))
        return table(("option", "kind", "default", "meaning"), rows)


class TemplatedFields(_FromCode):
    """The arguments of operators and the sensor in which Airflow renders templates."""

    def markdown(self) -> str:
        """Return what is shown."""
        rows = []
        for path in OPERATORS:
            module, _, name = path.rpartition(".")
            cls = getattr(importlib.import_module(module), name)
            rows.append((code(name), ", ".join(code(field) for field in dict.fromkeys(cls.template_fields))))
        return table(("class", "templated"), rows)


class Commands(_FromCode):
    """The commands of ``airflow ray``, as their parser has them."""

    def markdown(self) -> str:
        """Return what is shown."""
        parts = []
        for names, command in leaves(get_cli_commands()):
            parser = argparse.ArgumentParser(prog=" ".join(("airflow", *names)), add_help=False)
            for arg in command.args:
                arg.add_to_parser(parser)
            usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
            rows = [
                (code(", ".join(action.option_strings) or action.metavar), (action.help or "").partition("\n")[0])
                for action in parser._actions
            ]
            parts += [f"## {' '.join(names[1:])}", "", command.description or command.help, ""]
            parts += ["```text", usage, "```", "", table(("argument", "meaning"), rows), ""]
        return "\n".join(parts)


def leaves(commands: Iterable[Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the commands that do something, each with the names that lead to it."""
    for command in commands:
        names = (*above, command.name)
        if hasattr(command, "subcommands"):
            yield from leaves(command.subcommands, names)
        else:
            yield names, command


def code(value: Any) -> str:
    """Return a value as code, in double backticks since it may have single ones."""
    return f"`{str(value).replace('|', chr(92) + '|')}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Give Sphinx the directives."""
    app.add_directive("entry", ExceptionEntry)
    app.add_directive("connection-fields", ConnectionFields)
    app.add_directive("configuration", Configuration)
    app.add_directive("templated-fields", TemplatedFields)
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
