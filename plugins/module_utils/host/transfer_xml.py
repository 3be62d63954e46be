# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain's XML for another host: libvirt's migratable form, with the names that things have there."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.destination_xml import Redirect, redirected


def shape(dom: Any, inactive: bool) -> str:
    """The form that is sent, as it is here and without passwords: what the other host's libvirt will have to know."""
    names = ["VIR_DOMAIN_XML_MIGRATABLE"] + (["VIR_DOMAIN_XML_INACTIVE"] if inactive else [])
    with said("read the configuration of domain %s" % dom.name(), side_of(dom)):
        return str(dom.XMLDesc(flag(*names)))


def definition(dom: Any, redirect: Redirect, inactive: bool) -> str:
    """With its passwords: only to be handed to libvirt, never into a diff, a log or a result.

    Migratable: without what this release writes down by itself and an older one does not know.
    """
    names = ["VIR_DOMAIN_XML_MIGRATABLE", "VIR_DOMAIN_XML_SECURE"] + (["VIR_DOMAIN_XML_INACTIVE"] if inactive else [])
    with said("read the configuration of domain %s" % dom.name(), side_of(dom)):
        return redirected(dom.XMLDesc(flag(*names)), redirect)
