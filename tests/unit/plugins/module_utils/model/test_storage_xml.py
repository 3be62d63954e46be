# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns a new volume: on a share where root is nobody, libvirt has to make it as the owner of the directory."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model import storage_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import NewVolume

POOL = (
    "<pool type='%s'><name>images</name><target><path>/srv/nfs/images</path>"
    "<permissions><mode>0755</mode><owner>%s</owner><group>64055</group></permissions></target></pool>"
)


@pytest.mark.parametrize(
    ("pool", "owner"),
    [
        (POOL % ("netfs", "64055"), (64055, 64055)),
        (POOL % ("netfs", "0"), None),
        (POOL % ("netfs", "-1"), None),
        (POOL % ("dir", "64055"), None),
        ("<pool type='netfs'><name>off</name><target><path>/srv</path></target></pool>", None),
    ],
)
def test_owner_of_a_pool(pool: str, owner: object) -> None:
    assert storage_xml.pool_owner(pool) == owner


def test_a_volume_says_its_owner_only_where_there_is_one() -> None:
    owned = storage_xml.volume_xml(NewVolume("images", "a.qcow2", "qcow2", 1024, owner=(64055, 64056)))
    assert "<mode>0600</mode>" in owned and "<owner>64055</owner>" in owned and "<group>64056</group>" in owned
    plain = storage_xml.volume_xml(NewVolume("default", "a.qcow2", "qcow2", 1024))
    assert "<mode>0600</mode>" in plain and "owner" not in plain and "group" not in plain
