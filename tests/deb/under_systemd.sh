#!/bin/sh
# Runs inside a container that a real systemd has booted: the unit as it is installed. Every line that begins
# with "ok" or "not ok" is a finding; the last line is "end". The machine is switched off afterwards.
exec >/under-test/log 2>&1

ok() { if eval "$2"; then echo "ok: $1"; else echo "not ok: $1 ($2)"; systemctl status --no-pager -l watchpost | head -n 30; fi; }
show() { systemctl show -p "$1" --value watchpost; }
# Looks until it is so, for at most so many seconds.
within() {
    left=$(($1 * 5))
    while ! eval "$2"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}

mkdir -p /run/systemd/system/watchpost.service.d
printf '[Service]\nWatchdogSec=4s\n' >/run/systemd/system/watchpost.service.d/watchdog.conf
systemctl daemon-reload

ok "it starts and says that it is ready" 'systemctl start watchpost && [ "$(show ActiveState)" = active ]'
ok "its status tells cameras and frames" 'within 20 "show StatusText | grep -q \"1 of 1 cameras up, [1-9]\""'
echo "status: $(show StatusText)"
pid=$(show MainPID)
ok "it runs as the user watchpost" '[ "$(stat -c %U /proc/$pid)" = watchpost ]'
ok "it has no capabilities and may get none" 'grep -q "^CapBnd:.0*$" /proc/$pid/status && grep -q "^NoNewPrivs:.1" /proc/$pid/status'
ok "system calls are filtered" 'grep -q "^Seccomp:.2" /proc/$pid/status'
ok "records come from the socket" 'within 20 "timeout 3 socat -u UNIX-CONNECT:/run/watchpost/detections.sock - | head -c 300 | grep -q watchpost/1"'
ok "debug answers" 'watchpost debug | grep -q streaming'
ok "the socket is the group's" '[ "$(stat -c "%a %G" /run/watchpost/detections.sock)" = "660 watchpost" ]'
ok "GStreamer keeps its list of plugins in the cache" '[ -s /var/cache/watchpost/gstreamer-registry.bin ] || [ -s /var/cache/private/watchpost/gstreamer-registry.bin ]'

sleep 10
ok "the watchdog is fed: no restart in ten seconds of 4 s each" '[ "$(show NRestarts)" = 0 ]'

printf '\n[camera.second]\nurl = "test://scene?fps=5"\n' >/etc/watchpost/conf.d/second.toml
ok "systemctl reload adds a camera" 'systemctl reload watchpost && within 10 "watchpost debug | grep -q \"^second *streaming\""'
ok "and touches no other" 'watchpost debug | grep -q "^scene *streaming *1 " && [ "$(show MainPID)" = $pid ]'
rm /etc/watchpost/conf.d/second.toml

kill -STOP "$pid"
ok "a daemon that hangs is killed by the watchdog and started again" 'within 30 "[ \"\$(show NRestarts)\" = 1 ] && [ \"\$(show ActiveState)\" = active ]"'
kill -KILL "$(show MainPID)"
ok "a daemon that was killed is started again" 'within 30 "[ \"\$(show NRestarts)\" = 2 ] && [ \"\$(show ActiveState)\" = active ]"'
ok "and serves again" 'within 20 "watchpost debug | grep -q streaming"'

began=$(date +%s%N)
systemctl stop watchpost
took=$((($(date +%s%N) - began) / 1000000))
ok "it stops in order within two seconds: $took ms" '[ $took -lt 2000 ] && [ "$(show Result)" = success ]'
ok "nothing is left in /run" '[ ! -e /run/watchpost ]'

echo 'nonsense = 1' >>/etc/watchpost/config.toml
systemctl start watchpost
ok "a wrong configuration ends with 78" 'within 10 "[ \"\$(show ExecMainStatus)\" = 78 ]"'
sleep 4
ok "and is not tried again" '[ "$(show ActiveState)" = failed ] && [ "$(show NRestarts)" = 0 ]'
sed -i '$d' /etc/watchpost/config.toml
systemctl reset-failed watchpost

journalctl -u watchpost --no-pager -p warning -o cat | head -n 20 | sed 's/^/journal: /'
echo end
systemctl --no-block poweroff
