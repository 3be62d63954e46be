# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services that look after hardware which a guest does not have. Data: one line each, with the reason."""

from __future__ import annotations

from typing import Dict, List, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import LINK, RUN, Change, FixupWish, ImageFacts

# Name without ".service" -> what it is for. Watchdogs are among them: a guest has none unless it is given one, and a
# daemon that finds none fails at every boot.
HARDWARE: Dict[str, str] = {
    "smartd": "health of disks",
    "smartmontools": "health of disks",
    "hddtemp": "temperature of disks",
    "hdparm": "settings of disks",
    "mcelog": "machine checks",
    "rasdaemon": "machine checks",
    "edac": "errors of memory",
    "mbmon": "temperatures",
    "lm-sensors": "temperatures",
    "lm_sensors": "temperatures",
    "sensord": "temperatures",
    "fancontrol": "fans",
    "thermald": "temperatures",
    "ipmi": "board management",
    "ipmievd": "board management",
    "ipmidetectd": "board management",
    "openipmi": "board management",
    "bmc-watchdog": "board management",
    "freeipmi-ipmidetectd": "board management",
    "freeipmi-bmc-watchdog": "board management",
    "watchdog": "a watchdog device",
    "wd_keepalive": "a watchdog device",
    "cpufrequtils": "speed of the processor",
    "loadcpufreq": "speed of the processor",
    "cpupower": "speed of the processor",
    "laptop-mode": "batteries",
    "upower": "batteries",
    "bluetooth": "radio",
    "wpa_supplicant": "radio",
    "ModemManager": "modems",
    "nvidia-persistenced": "graphics cards",
    "fwupd": "firmware of devices",
    "fwupd-refresh.timer": "firmware of devices",
    "hpasmd": "HPE's management",
    "hp-health": "HPE's management",
    "hp-snmp-agents": "HPE's management",
    "hpsmhd": "HPE's management",
    "amsd": "HPE's management",
    "ams": "HPE's management",
    "smad": "HPE's management",
    "cpqIde": "HPE's management",
    "cpqScsi": "HPE's management",
    "cpqFca": "HPE's management",
    "mr_cpqScsi": "HPE's management",
    "dataeng": "Dell's management",
    "dsm_sa_datamgrd": "Dell's management",
    "dsm_sa_eventmgrd": "Dell's management",
    "dsm_sa_snmpd": "Dell's management",
    "dsm_om_connsvc": "Dell's management",
    "dsm_om_shrsvc": "Dell's management",
    "instsvcdrv": "Dell's management",
    "dcismeng": "Dell's management",
    "ibmasm": "IBM's management",
    "lsi_mrdsnmpd": "RAID controllers",
    "lsiprovider": "RAID controllers",
    "mrmonitor": "RAID controllers",
    "vivaldiframeworkd": "RAID controllers",
    "stor_agent": "RAID controllers",
    "arcmsr": "RAID controllers",
    "tw_cli": "RAID controllers",
    "fcauth": "fibre channel",
    "opensm": "InfiniBand",
    "open-vm-tools": "another hypervisor's guest",
    "vmtoolsd": "another hypervisor's guest",
    "hyperv-daemons.hv-kvp-daemon": "another hypervisor's guest",
}
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
UNITS = "/etc/systemd/system/"


def service_changes(wish: FixupWish, facts: ImageFacts) -> List[Change]:
    """Those that start at boot are off. What the user wants kept is kept; what the user names is off in any case."""
    found: List[Change] = []
    kept = {_bare(name) for name in wish.keep_services}
    for name in sorted(facts.enabled):
        bare = _bare(name)
        reason = "as asked" if bare in {_bare(each) for each in wish.services_off} else HARDWARE.get(bare)
        if reason is None or bare in kept:
            continue
        found += _off(name, "%s is off (%s)" % (name, reason), facts)
    return found


def _bare(name: str) -> str:
    return name[: -len(".service")] if name.endswith(".service") else name


def _off(name: str, words: str, facts: ImageFacts) -> Sequence[Change]:
    if not facts.paths.intersection(SYSTEMD):
        if "/sbin/chkconfig" in facts.paths:
            return [Change(RUN, words, argv=("/sbin/chkconfig", name, "off"))]
        if "/usr/sbin/update-rc.d" in facts.paths:
            return [Change(RUN, words, argv=("/usr/sbin/update-rc.d", name, "disable"))]
        return []
    unit = UNITS + name
    # An administrator's own unit stands where the mask would be: then it is only not started by itself.
    if unit in facts.paths:
        return [Change(RUN, words, argv=("/bin/systemctl", "disable", name))]
    return [Change(LINK, words, unit, source="/dev/null")]
