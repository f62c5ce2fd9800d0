"""What tests ask of Ansible's own Python, in the words of each version of ansible-core that the collection supports.

From 2.19 on, Ansible tells templates that it may trust from other text, and has a helper that hands a module its
arguments. Before that everything is trusted, and a module reads its arguments from a variable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible import template
from ansible.module_utils import basic
from ansible.parsing.dataloader import DataLoader

_TELLS_TRUST = hasattr(template, "trust_as_template")
#: In the environment of a playbook: what a failed task says is not folded. From 2.19 on it is a line of its own.
SENTENCE_ON_ONE_LINE = {} if _TELLS_TRUST else {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}


def load_variables(loader: DataLoader, path: str) -> Any:
    """A file of variables, with templates that are evaluated."""
    return loader.load_from_file(path, **({"trusted_as_template": True} if _TELLS_TRUST else {}))


def trusted(text: str) -> str:
    """A template that is evaluated."""
    return template.trust_as_template(text) if _TELLS_TRUST else text


def templar(loader: DataLoader, filters: Mapping[str, Callable[..., Any]]) -> template.Templar:
    """What evaluates templates, with filters that are handed to it, because no collection is installed."""
    made = template.Templar(loader)
    # From 2.19 on, asking for the environment itself is deprecated.
    environment = made._engine.environment if _TELLS_TRUST else made.environment
    for name, function in filters.items():
        environment.filters[name] = function
    return made


@contextmanager
def module_arguments(arguments: Mapping[str, Any]) -> Iterator[None]:
    """The next module that is made has been given these arguments."""
    if _TELLS_TRUST:
        from ansible.module_utils.testing import patch_module_args

        with patch_module_args(dict(arguments)):
            yield
        return
    before = basic._ANSIBLE_ARGS
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments)}).encode()
    try:
        yield
    finally:
        basic._ANSIBLE_ARGS = before
