# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions: make, change and remove them."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import gone_is_fine, side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import METADATA_NS

_PREFIX = "kvmops"

# Flags of undefine, and the libvirt that first knew each. An older daemon refuses what it does not know.
_UNDEFINE = (
    ("VIR_DOMAIN_UNDEFINE_MANAGED_SAVE", 0),
    ("VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA", 0),
    ("VIR_DOMAIN_UNDEFINE_NVRAM", 1002009),
    ("VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA", 5006000),
    ("VIR_DOMAIN_UNDEFINE_TPM", 8009000),
)


def define(hv: Hypervisor, name: str, xml: str) -> Any:
    """Define, or define again.

    Not checked against libvirt's schema: that of 9.0 refuses NFS disks, which libvirt itself takes.
    """
    with said("define domain %s" % name, hv.side):
        return hv.conn.defineXMLFlags(xml, 0)


def undefine(hv: Hypervisor, dom: Any) -> None:
    """Remove the definition with its managed save, snapshot records, NVRAM and TPM state."""
    flags = flag(*[name for name, since in _UNDEFINE if hv.libvirt_version >= since])
    with said("remove the definition of domain %s" % dom.name(), hv.side), gone_is_fine():
        try:
            dom.undefineFlags(flags)
        except libvirt_api.libvirt.libvirtError as error:
            # A driver without NVRAM, TPM and checkpoints refuses their flags, and has none of them.
            if not is_error(error, ["VIR_ERR_INVALID_ARG"]):
                raise
            dom.undefineFlags(flag(*[name for name, since in _UNDEFINE if since == 0]))


def set_autostart(dom: Any, value: bool) -> None:
    with said("set autostart of domain %s" % dom.name(), side_of(dom)):
        dom.setAutostart(1 if value else 0)


def set_live_metadata(dom: Any, element: str) -> None:
    """Show the running domain the metadata that its definition has."""
    with said("set metadata of domain %s" % dom.name(), side_of(dom)):
        dom.setMetadata(
            flag("VIR_DOMAIN_METADATA_ELEMENT"), element, _PREFIX, METADATA_NS, flag("VIR_DOMAIN_AFFECT_LIVE")
        )


def rename(dom: Any, name: str) -> None:
    """Of a domain that is off and has no snapshots."""
    with said("rename domain %s to %s" % (dom.name(), name), side_of(dom)):
        dom.rename(name, 0)
