# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the options fixup, domain and boot_test of kvm_p2v_image to a VmWish, or all that is wrong with them."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Callable, Iterator, List, Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import FixupWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import NONE, POWEROFF, P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import AUTO, PORT, BootTest, VmWish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_request import wanted_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_request import COLD, GATHER, read_p2v_wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm import domain_params

_PACKAGES = (".deb", ".rpm")
_SERVICE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9@._:\\-]*$")


def read_wishes(params: Mapping[str, Any]) -> Tuple[P2vWish, VmWish]:
    """Of the copy and of the guest. Raises RequestError with every problem of both."""
    problems: List[str] = []
    wish = _or_problems(problems, lambda: read_p2v_wish(params))
    vm = _or_problems(problems, lambda: read_vm_wish(params))
    if problems:
        raise RequestError(problems)
    return wish, vm


def _or_problems(problems: List[str], read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RequestError as error:
        problems += error.problems
        return None


def read_vm_wish(params: Mapping[str, Any]) -> VmWish:
    """Raises RequestError."""
    options = params.get("fixup_options") or {}
    domain = params.get("domain")
    problems = list(_problems(params))
    if domain is not None:
        _or_problems(problems, lambda: wanted_domain(_as_if_known(params)))
    if problems:
        raise RequestError(problems)
    test = params.get("boot_test")
    return VmWish(
        name=params["name"],
        fixup=FixupWish(
            serial_console=bool(options.get("serial_console")),
            services_off=tuple(options.get("services_off") or ()),
            keep_services=tuple(options.get("keep_services") or ()),
            guest_agent=bool(options.get("guest_agent")),
            guest_agent_packages=tuple(options.get("guest_agent_packages") or ()),
            timeout_s=float(options.get("timeout_s") or FixupWish.timeout_s),
        )
        if params.get("fixup")
        else None,
        domain=domain,
        boot_test=BootTest(float(test["timeout_s"]), str(test["wait_for"]), test.get("port"))
        if test is not None
        else None,
        final=params["cutover"] == POWEROFF
        or bool(params.get("import_from") and (domain or {}).get("state") == "running"),
    )


def _as_if_known(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The domain's options, with something where the source is still to be asked."""
    domain = dict(params["domain"])
    domain["networks"] = [
        dict(nic, bridge=nic.get("bridge") or (None if nic.get("network") else "br0"))
        for nic in domain.get("networks") or ()
    ]
    return domain_params(domain, params["name"], (), {}, {})


def _problems(params: Mapping[str, Any]) -> Iterator[str]:
    domain, options, test = (params.get(option) for option in ("domain", "fixup_options", "boot_test"))
    if options is not None and not params.get("fixup"):
        yield "fixup_options is given and fixup is false; set fixup: true, or leave fixup_options out"
    for option in ("services_off", "keep_services"):
        for name in (options or {}).get(option) or ():
            if not _SERVICE.match(name):
                yield "fixup_options.%s has %r; give the name of a service, such as smartd.service" % (option, name)
    both = {*((options or {}).get("services_off") or ())} & {*((options or {}).get("keep_services") or ())}
    if both:
        yield "fixup_options has %s in services_off and in keep_services; choose one" % ", ".join(sorted(both))
    yield from _package_problems(options or {})
    for option, given in (("fixup_options", options), ("boot_test", test)):
        value = (given or {}).get("timeout_s")
        if value is not None and value <= 0:
            yield "%s.timeout_s is %s; give a number above 0" % (option, value)
    if test is not None and domain is None:
        yield "boot_test is given and domain is not; describe the domain that is to boot (domain: {} takes the source's)"
    port, awaited = (test or {}).get("port"), (test or {}).get("wait_for")
    if port is not None and not 0 < port < 65536:
        yield "boot_test.port is %s; give a number from 1 to 65535" % port
    if awaited == PORT and port is None:
        yield "boot_test.wait_for is port and boot_test.port is missing; give the port"
    if port is not None and awaited not in (PORT, AUTO):
        yield "boot_test has port and wait_for %s; choose one" % awaited
    if params["mode"] == GATHER and (domain is not None or params.get("fixup")):
        yield "mode is gather, which changes nothing; leave fixup and domain out"
    imported = params.get("import_from") is not None
    if domain is not None and domain.get("state") == "running" and params["cutover"] != POWEROFF and not imported:
        why = "takeover starts it"
        if params["cutover"] == NONE:
            why = "the rescue system keeps the cards" if params["mode"] == COLD else "the source serves on"
        yield (
            "domain.state is running and cutover is %s: %s, and both would have the same addresses. "
            "Choose cutover poweroff, or state present with boot_test" % (params["cutover"], why)
        )
    yield from _card_problems((domain or {}).get("networks") or (), imported)


def _package_problems(options: Mapping[str, Any]) -> Iterator[str]:
    packages = options.get("guest_agent_packages") or ()
    for path in packages:
        if not path.startswith("/") or not path.endswith(_PACKAGES):
            yield "fixup_options.guest_agent_packages has %r; give whole paths of .deb or .rpm files" % path
    if len({path[-4:] for path in packages}.intersection(_PACKAGES)) > 1:
        yield "fixup_options.guest_agent_packages has .deb and .rpm files; give those that the system installs"
    if len({posixpath.basename(path) for path in packages}) != len(packages):
        yield "fixup_options.guest_agent_packages names a file twice"
    if packages and not options.get("guest_agent"):
        yield "fixup_options has guest_agent_packages and guest_agent is false; set guest_agent: true"


def _card_problems(networks: Any, imported: bool) -> Iterator[str]:
    for index, nic in enumerate(networks):
        if nic.get("mac") and nic.get("interface") and not imported:
            yield "domain.networks[%d] has interface and mac; the interface's own is taken: leave one out" % index
    named = [nic["interface"] for nic in networks if nic.get("interface")]
    if len(set(named)) != len(named):
        yield "domain.networks names an interface twice; give each its own"
