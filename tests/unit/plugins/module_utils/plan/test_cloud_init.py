# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a seed holds, and how little a domain remembers of it."""

from __future__ import annotations

import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import differing, record_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init_request import seed_problems, wanted_seed


def test_a_dictionary_is_what_cloud_init_reads() -> None:
    data = {"runcmd": [["echo", "a: b #c"]], "yes": True, "odd": "\u2028 \x7f \u0085 \U0001f600 é\ttab"}
    text = wanted_seed({"user_data": data}, "web1").texts["user-data"]
    assert text.startswith("#cloud-config\n") and text.isascii()
    assert yaml.safe_load(text) == data


def test_texts_are_taken_as_they_are() -> None:
    given = {"user_data": "#!/bin/sh", "meta_data": "instance-id: x", "network_config": ""}
    assert wanted_seed(given, "web1").texts == {
        "user-data": "#!/bin/sh",
        "meta-data": "instance-id: x",
        "network-config": "",
    }


def test_no_seed_is_without_what_nocloud_needs() -> None:
    texts = wanted_seed({"meta_data": {"local-hostname": "other"}}, "web1").texts
    assert texts["user-data"] == ""
    assert yaml.safe_load(texts["meta-data"]) == {"instance-id": "web1", "local-hostname": "other"}


def test_the_record_tells_sameness_and_nothing_else() -> None:
    texts = wanted_seed({"user_data": "#cloud-config\npassword: geheim"}, "web1").texts
    record = record_of(texts, "s1")
    assert "geheim" not in record and record != record_of(texts, "s2")
    assert differing(texts, record) == () == differing(texts, record_of(texts, "s2"))
    assert differing(dict(texts, **{"network-config": ""}), record) == ("network-config",)
    assert differing(texts, None) == ("user-data", "meta-data")
    assert differing(texts, "nonsense") == ("user-data", "meta-data")


def test_no_message_repeats_the_content() -> None:
    for wrong in ({"user_data": "password: geheim"}, {"user_data": ["geheim"]}, {"meta_data": "geheim\ud800"}):
        problems = list(seed_problems(wrong))
        assert problems and "geheim" not in repr(problems)
