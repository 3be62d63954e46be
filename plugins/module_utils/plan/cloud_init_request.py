# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option cloud_init into a WantedSeed, or every reason why it cannot be meant. No message repeats what it holds."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import (
    META_DATA,
    NETWORK_CONFIG,
    RECORD,
    USER_DATA,
    WantedSeed,
)

_OPTIONS = {"user_data": USER_DATA, "meta_data": META_DATA, "network_config": NETWORK_CONFIG}
# By what cloud-init tells what user data is; it drops anything else and says so in a log of the guest only.
_KNOWN_STARTS = ("#", "content-type:", "mime-version:")
_NOT_ASCII = re.compile("[^\x20-\x7e]")


def seed_problems(given: Any) -> Iterator[str]:
    """given: the option, None when it is not given."""
    if given is None:
        return
    texts = {option: given.get(option) for option in _OPTIONS}
    said = any(text is not None for text in texts.values())
    if drops_seed(given) and said:
        yield "cloud_init.state is absent and there is content; leave one out"
    elif not drops_seed(given) and not said:
        yield "cloud_init says nothing; give user_data, meta_data or network_config"
    for option, text in texts.items():
        if text is None:
            continue
        if not isinstance(text, (str, Mapping)):
            yield "cloud_init.%s is a %s; give a text or a dictionary" % (option, type(text).__name__)
        elif isinstance(text, str) and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            yield "cloud_init.%s is no text that can be written as UTF-8; correct it" % option
    user_data = texts["user_data"]
    if isinstance(user_data, str) and user_data and not user_data.lower().startswith(_KNOWN_STARTS):
        yield "cloud_init.user_data begins with no header, so cloud-init would pass it over; begin with #cloud-config or #!"


def drops_seed(given: Optional[Mapping[str, Any]]) -> bool:
    return given is not None and given.get("state") == "absent"


def metadata_problems(metadata: Mapping[str, Any]) -> Iterator[str]:
    if RECORD in metadata:
        yield "metadata has the key %r, which the option cloud_init keeps for itself; choose another" % RECORD


def wanted_seed(given: Optional[Mapping[str, Any]], name: str) -> Optional[WantedSeed]:
    """None when there is nothing to write. name: of the domain, for what NoCloud needs and the task does not say: without meta-data a seed is none."""
    if given is None or drops_seed(given):
        return None
    texts = {file: _text(given.get(option)) for option, file in _OPTIONS.items() if given.get(option) is not None}
    if isinstance(given.get("user_data"), Mapping):
        texts[USER_DATA] = "#cloud-config\n" + texts[USER_DATA]
    # Both have to be there for NoCloud, empty or not.
    texts.setdefault(USER_DATA, "")
    meta = given.get("meta_data")
    if not isinstance(meta, str):
        defaults: Dict[str, Any] = {"instance-id": name, "local-hostname": name}
        texts[META_DATA] = _text(dict(defaults, **(meta or {})))
    return WantedSeed(texts, given.get("pool"))


def _text(given: Any) -> str:
    """A dictionary as JSON, which is YAML too when no character needs another spelling."""
    if isinstance(given, str):
        return given
    text = json.dumps(given, indent=2, ensure_ascii=False)
    return (
        "".join(_escaped(letter) if _NOT_ASCII.match(letter) and letter != "\n" else letter for letter in text) + "\n"
    )


def _escaped(letter: str) -> str:
    return "\\u%04x" % ord(letter) if ord(letter) < 0x10000 else "\\U%08x" % ord(letter)
