# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How every module runs: observe -> plan -> apply -> report.

The only place that reads check_mode and that ends a module.
"""

from __future__ import annotations

import traceback
from typing import Any, ContextManager, Dict, Generic, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import (
    CannotConverge,
    KvmError,
    PreflightError,
    RequestError,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan

Found = TypeVar("Found")

# What Ansible itself shows instead of a secret.
HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

URI_OPTION: Dict[str, Any] = {"uri": {"type": "str", "default": "qemu:///system"}}


class Job(Generic[Found]):
    """One task's work, with its connections open. Subclasses live in run/, one per module."""

    def observe(self) -> Found:
        """Read both ends. Changes nothing. Raises PreflightError or HostError."""
        raise NotImplementedError

    def plan(self, found: Found) -> Plan:
        """Decide, by calling plan/. Pure."""
        raise NotImplementedError

    def apply(self, plan: Plan, found: Found) -> Any:
        """Take the steps. Called only when there are steps and check mode is off."""
        raise NotImplementedError

    def report(self, plan: Plan, found: Found, outcome: Any) -> Mapping[str, Any]:
        """Extra result keys. outcome is what apply returned, or None when it was not called.

        `warnings`, a list of texts, are shown as Ansible's warnings. `failed: True`, with `msg`, ends the module as failed with
        all of the result: some of what was wanted is done.
        """
        return {}


class Sentence(NamedTuple):
    """What a module hands to `tell`.

    options: the argument spec without `uri`.  constraints: mutually_exclusive, required_if, …
    secret: names of options, of the task or of each entry of `domains`, that are shown nowhere: not in the result, whose
    `invocation` names them only, and not in the host's log.
    open: params -> context manager that gives a Job; it refuses a bad request with RequestError before connecting.
    """

    options: Mapping[str, Any]
    open: Any
    secret: Tuple[str, ...] = ()
    constraints: Mapping[str, Any] = {}


def tell(sentence: Sentence) -> None:
    """Run a module from its parameters to its exit."""
    module = AnsibleModule(
        argument_spec=dict(URI_OPTION, **sentence.options), supports_check_mode=True, **sentence.constraints
    )
    _require_libraries(module)
    # Ansible would take every single word of a secret option, a number too, out of all that the result says.
    module.no_log_values.clear()
    shown = {"invocation": {"module_args": hidden(module.params, sentence.secret)}} if sentence.secret else {}
    try:
        result = dict(_run(module, sentence.open(module.params)), **shown)
    except KvmError as error:
        module.fail_json(**dict(failure(error), **shown))
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def hidden(params: Mapping[str, Any], secret: Sequence[str]) -> Dict[str, Any]:
    """The parameters without those options, which may stand in the entries of a list too."""

    def value_of(name: str, value: Any) -> Any:
        if name in secret and value is not None:
            return HIDDEN
        if isinstance(value, list):
            return [hidden(each, secret) if isinstance(each, Mapping) else each for each in value]
        return value

    return {name: value_of(name, value) for name, value in params.items()}


def _run(module: AnsibleModule, opened: ContextManager[Job]) -> Dict[str, Any]:
    with opened as job:
        found = job.observe()
        plan = job.plan(found)
        outcome: Optional[Any] = None
        if plan.changes and not module.check_mode:
            outcome = job.apply(plan, found)
        result = dict(changed=plan.changes, steps=list(plan.words))
        result.update(job.report(plan, found, outcome))
    for warning in [*plan.warnings, *result.pop("warnings", ())]:
        module.warn(warning)
    if module._diff:
        result["diff"] = {"before": dict(plan.before), "after": dict(plan.after)}
    return result


def failure(error: KvmError) -> Dict[str, Any]:
    """The result of a failed module: msg, and what a program can use of it."""
    result: Dict[str, Any] = dict(error.told, msg=str(error))
    if isinstance(error, PreflightError) or (isinstance(error, CannotConverge) and error.concerns):
        result["concerns"] = [concern.as_dict() for concern in error.concerns]
    if isinstance(error, RequestError):
        result["problems"] = list(error.problems)
    return result


def _require_libraries(module: AnsibleModule) -> None:
    if libvirt_api.libvirt is None:
        module.fail_json(
            msg=missing_required_lib("libvirt", reason="to reach the hypervisor (package python3-libvirt)"),
            exception=libvirt_api.LIBVIRT_IMPORT_ERROR,
        )
    if safe_xml.etree is None:
        module.fail_json(
            msg=missing_required_lib("lxml", reason="to read its XML (package python3-lxml)"),
            exception=traceback.format_exc(),
        )
