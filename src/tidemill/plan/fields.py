"""Templates in a task's fields: texts anywhere in lists and dictionaries, and files of templates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

    from tidemill.plan.template import Sandbox

#: What a text has that is a template: others are left alone without loading Jinja (0.1 s).
_MARKS = ("{{", "{%", "{#")


@dataclass(frozen=True, slots=True)
class Literal:
    """A value of a field that is handed over as it is: whatever is in it is no template."""

    value: Any


def render_field(
    value: Any,
    variables: Mapping[str, Any],
    *,
    sandbox: Callable[[], Sandbox],
    where: str,
    endings: tuple[str, ...] = (),
    read: Callable[[str], str] | None = None,
    done: Collection[int] = (),
) -> Any:
    """A field with its templates rendered; what is no text stays what it is.

    Args:
        value: a text, or lists, tuples, sets and dictionaries (their values) of texts.
        variables: what templates may use; only those that a template names are looked up.
        sandbox: gives the environment.
        where: what the field belongs to, for messages.
        endings: a text with one of these endings names a file that holds the template.
        read: the content of such a file.
        done: identities of values that are left alone: results of other tasks are data, never templates.

    Raises:
        UserError: a template is wrong, or uses what is not there.
        Refused: the sandbox refuses it.
    """

    def render(one: Any) -> Any:
        if id(one) in done:
            return one
        if isinstance(one, Literal):
            return one.value
        if isinstance(one, str):
            label, text = where, one
            if endings and read is not None and one.endswith(endings):
                label, text = one, read(one)
            return _rendered(text, variables, sandbox, label)
        if isinstance(one, tuple) and hasattr(one, "_fields"):
            return type(one)(*(render(part) for part in one))
        if isinstance(one, list | tuple | set):
            return type(one)(render(part) for part in one)
        if type(one) is dict:
            return {key: render(part) for key, part in one.items()}
        return one

    return render(value)


def _rendered(text: str, variables: Mapping[str, Any], sandbox: Callable[[], Sandbox], label: str) -> Any:
    if not any(mark in text for mark in _MARKS):
        return text
    from tidemill.plan.template import template_errors

    environment = sandbox()
    # A name that does not stand in the text cannot be used by it: values that are costly to find are not looked up.
    wanted = {name: variables[name] for name in variables if name in text}
    with template_errors(label, variables):
        return _compiled(environment, text, label).render(wanted)


@lru_cache(maxsize=512)
def _compiled(environment: Sandbox, text: str, label: str) -> Template:
    """A compiled template: that takes a millisecond, and a worker performs the same tasks again and again."""
    return environment.compiled(text, label)


def native_sandbox(read: Callable[[str], str]) -> Sandbox:
    """An environment in which a template that is one expression gives its value instead of a text; see `Sandbox`."""
    from jinja2.nativetypes import NativeCodeGenerator, NativeTemplate, native_concat

    from tidemill.plan.template import Sandbox

    class NativeSandbox(Sandbox):
        code_generator_class = NativeCodeGenerator
        concat = staticmethod(native_concat)  # type: ignore[assignment]  # Jinja's own native environment does it
        template_class = NativeTemplate

    return NativeSandbox(read=read)
