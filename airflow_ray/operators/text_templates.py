"""Templates that stay texts in a DAG that renders to native objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jinja2 import Environment


def as_text_templates(value: Any, environment: Environment) -> Any:
    """Return ``value`` with templates that Airflow renders to texts, however nested.

    :param environment: renders them; it is not for native objects.
    """
    if isinstance(value, str):
        return _TextTemplate(value, environment)
    if isinstance(value, dict):
        return {key: as_text_templates(part, environment) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(as_text_templates(part, environment) for part in value)
    return value


def keep_texts(
    operator: Any, fields: Collection[str], template_fields: Iterable[str], seen_oids: Collection[int]
) -> None:
    """Let Airflow render the templates in some fields of an operator to texts, in a DAG with native objects too.

    :param fields: their names, of which those that are no ``template_fields`` stay as they are.
    :param seen_oids: the ids of values that are no templates: a mapped task got them.
    """
    dag = operator.get_dag()
    if dag is None:
        return
    environment = dag.get_template_env(force_sandboxed=True)
    for name in {*fields} & {*template_fields}:
        if id(value := getattr(operator, name)) not in seen_oids:
            setattr(operator, name, as_text_templates(value, environment))


class _TextTemplate:
    def __init__(self, text: str, environment: Environment) -> None:
        self._text = text
        self._environment = environment

    def resolve(self, context: Mapping[str, Any]) -> str:
        """Render it, as Airflow has its references to other tasks do it."""
        return self._environment.from_string(self._text).render(dict(context))
