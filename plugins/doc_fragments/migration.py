# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The larger options of a move: how it is steered, and how what clients feel is measured."""

    DOCUMENTATION = r"""
options:
  policy:
    description:
      - What matters most when a live move is steered. C(docs/policies.md) shows each as a table.
      - V(balanced) allows a stop of two seconds at most, and slows a guest down that would need a longer one.
      - V(minimal_downtime) stops it for 150 ms at most. It is slowed down, or the move is given up.
      - V(must_finish) allows a stop of 30 seconds at most.
      - V(least_impact) takes half of the link, never slows the guest down, and rather gives up.
    type: str
    choices: [balanced, minimal_downtime, must_finish, least_impact]
    default: balanced
    version_added: 0.1.0
  schedule:
    description:
      - Replaces parts of what O(policy) means. The result's RV(schedule) is the whole of it, also in check mode.
    type: dict
    version_added: 0.1.0
    suboptions:
      downtime_start_ms:
        description: What QEMU is allowed for the switch-over at first.
        type: int
      downtime_top_ms:
        description: The most that it is allowed step by step.
        type: int
      downtime_steps:
        description: Steps from the one to the other, evenly by ratio. Each round that does not halve what remains earns one.
        type: int
      pause_most_ms:
        description: No stop that is expected to last longer is begun, whatever else happens.
        type: int
      connections:
        description: For memory, in parallel. V(0) means one, or two where encryption or compression needs them.
        type: int
      compression:
        description:
          - V(auto), V(none), V(zstd), V(zlib) or V(xbzrle).
          - V(auto) means V(zstd) where both hosts have libvirt 9.4 and the link is known to be slower than compressing.
        type: str
      auto_converge:
        description:
          - V(never), V(if_needed) or V(always). QEMU then slows the guest down bit by bit while it writes too much.
          - V(if_needed) decides from what the guest writes, the link, and the stop that is allowed.
        type: str
      throttle_start_percent:
        description: The first slowdown by auto-converge.
        type: int
      throttle_step_percent:
        description: Each further one.
        type: int
      bandwidth_share_percent:
        description: How much of the link is taken. Without O(link_mib_s) it is set once the rate was measured.
        type: int
      stall_window:
        description: The move has stalled when so many times what remains was sent, and it did not become less.
        type: float
      patience:
        description: Stalls to wait until an action becomes possible. A quarter of it when the guest is not slowed down.
        type: int
      at_stall:
        description:
          - What is done at a stall, one after the other. V(abort) is the last in any case.
          - V(extend) allows the stop that is needed, within O(schedule.pause_most_ms). V(pause) pauses the guest under the
            same condition. V(postcopy) is left out unless O(allow_postcopy=true).
        type: list
        elements: str
  probe:
    description:
      - Asks the guest at a steady beat before, during and after a live move, as a client would, and says what a client felt. The source host asks.
        See RV(metrics.downtime_seen_ms) and RV(metrics.impact); C(docs/metrics.md) says what each number means.
      - A guest that does not answer before the move is a concern in the result, with no numbers. The move goes on.
    type: dict
    version_added: 0.1.0
    suboptions:
      type:
        description:
          - V(tcp) connects; with O(probe.send) or O(probe.expect) it also waits for an answer.
          - V(icmp) sends an echo request, V(http) a GET. V(agent) pings the guest agent through libvirt.
        type: str
        required: true
        choices: [tcp, icmp, http, agent]
      address:
        description: Whom to ask, for V(tcp) and V(icmp).
        type: str
        aliases: [host]
      port:
        description: The port, for V(tcp).
        type: int
      url:
        description: What to get, for V(http). Plain HTTP only.
        type: str
      send:
        description: For V(tcp), what to send when the connection is there.
        type: str
      expect:
        description: For V(tcp), a text that the answer has to hold. For V(http), the status wanted; not set means any below 400.
        type: str
      interval_ms:
        description:
          - The time between two requests, 5 to 10000 milliseconds. A pause is measured to within one interval.
          - Not set means 20 for V(tcp) and V(icmp), 50 for V(http), 100 for V(agent).
        type: int
      timeout_ms:
        description: A request without an answer after this many milliseconds is lost. Not set means 1000.
        type: int
      from:
        description:
          - Which host asks. The destination is reached over ssh for it, and its own copy of the prober runs there; roll out the
            role P(kvmops.fleet.host_base#role) first.
          - Not for V(agent), and not with O(probe.send).
        type: str
        choices: [source, destination]
        default: source
      before_s:
        description: How many seconds are measured before the move begins, 0.5 to 600.
        type: float
        default: 2
      after_s:
        description: How many seconds are measured after it has ended, 0.5 to 600.
        type: float
        default: 2
"""
