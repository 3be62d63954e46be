# shellcheck shell=sh
# One line per answer; plugins/module_utils/model/host_network_look.py reads them.
echo "links $(ip -json -details address show)"
# sudo takes it out of the environment; sshd's child has it.
ssh=$SSH_CONNECTION
process=$$
while test -z "$ssh" && test "${process:-0}" -gt 1; do
  ssh=$(tr '\0' '\n' < "/proc/$process/environ" 2> /dev/null | sed -n 's/^SSH_CONNECTION=//p')
  process=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status")
done
echo "ssh $ssh"
sed -n 's/^ID=/distribution /p' /etc/os-release
for device in /sys/class/net/*; do
  if test -e "$device/wireless" || test -e "$device/phy80211"; then echo "wireless ${device##*/}"; fi
done
for unit in systemd-networkd.service NetworkManager.service; do
  if systemctl --quiet is-active "$unit"; then echo "active $unit"; fi
done
for tool in netplan ifup udevadm; do
  if command -v "$tool" > /dev/null; then echo "tool $tool"; fi
done
if systemctl --quiet is-active NetworkManager.service && command -v nmcli > /dev/null; then
  nmcli --terse --fields DEVICE,STATE device | sed -n '/:unmanaged$/d; s/:[^:]*$//; s/^/nm /p'
fi
for note in /run/systemd/netif/links/* /run/systemd/netif/leases/*; do
  if test -f "$note"; then sed -n "s/^\(NETWORK_FILE\|ADMIN_STATE\|CLIENTID\)=/netif ${note##*/} &/p" "$note"; fi
done
find /etc/systemd/network /run/systemd/network /usr/lib/systemd/network /lib/systemd/network /etc/netplan \
  /etc/network/interfaces /etc/network/interfaces.d /etc/cloud/cloud.cfg.d/99-kvmops-network.cfg \
  /etc/sysctl.d/60-kvmops-bridge.conf /etc/udev/rules.d/99-kvmops-bridge.rules \
  -maxdepth 2 -type f 2> /dev/null | while read -r file; do
  case $file in *~ | *.dpkg-* | *.kvmops-new | *.link) continue ;; esac
  echo "file $file $(base64 --wrap=0 "$file")"
done
for value in /proc/sys/net/bridge/bridge-nf-call-*; do
  if test -f "$value"; then echo "bridge_filter $(cat "$value")"; fi
done
if test -e /var/lib/kvmops/host_network/pending; then echo pending; fi
