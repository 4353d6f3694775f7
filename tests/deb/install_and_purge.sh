#!/bin/sh
# The Debian package in a clean Debian 12: installed, checked, run under a stand-in for systemd, upgraded,
# removed, purged; afterwards nothing of it is left. Where the machine allows it the unit is run by a real
# systemd as well.
#
#   sh tests/deb/install_and_purge.sh [PACKAGE.deb]
#
# Needs root, debootstrap, python3 and a Debian mirror; says NOT TESTED otherwise.
set -eu

cd "$(dirname "$0")/../.."
suite=bookworm
# Empty: where debootstrap gets Debian from by itself.
mirror=${WATCHPOST_DEBIAN_MIRROR:-}

not_tested() {
    echo "NOT TESTED: $1" >&2
    exit 0
}
fail() {
    echo "FAILED: $1" >&2
    exit 1
}
say() { echo "deb-test: $1"; }

[ "$(id -u)" -eq 0 ] || not_tested "installing a package needs root"
for tool in debootstrap python3 chroot; do
    command -v "$tool" >/dev/null 2>&1 || not_tested "$tool is not installed"
done
package=${1:-$(ls -t target/debian/watchpost_*.deb 2>/dev/null | head -n 1)}
[ -f "$package" ] || fail "there is no package; make deb builds one"

root=$(mktemp -d /tmp/watchpost-deb.XXXXXX)
# As the root of a system is, not as a private folder is.
chmod 755 "$root"
cleanup() {
    status=$?
    rm -rf "$root.before" "$root.after" "$root.log" "$root".findings.*
    for mounted in proc dev/pts dev sys; do
        if mountpoint -q "$root/$mounted"; then umount "$root/$mounted" || umount -l "$root/$mounted"; fi
    done
    # Nothing of this machine may still be mounted below it.
    if grep -q " $root/" /proc/mounts; then
        echo "left in place, something is still mounted: $root" >&2
    else
        rm -rf --one-file-system "$root"
    fi
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
apt() { inside apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Languages=none --no-install-recommends "$@" >"$root.log" 2>&1 || { cat "$root.log"; rm -f "$root.log"; fail "apt-get $*"; }; rm -f "$root.log"; }

say "debootstrap $suite"
debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || { tail -n 5 "$root.log"; rm -f "$root.log"; not_tested "debootstrap did not work"; }
rm -f "$root.log"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9; do
    name=${node%%:*}
    rest=${node#*:}
    mknod -m 666 "$root/dev/$name" c "${rest%%:*}" "${rest#*:}"
done
mkdir -p "$root/dev/shm"
# Services are started by us, not by packages.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

# What the package needs comes first, so that everything that appears afterwards is its own.
say "what it depends on: $(dpkg-deb -f "$package" Depends)"
apt update
depends=$(dpkg-deb -f "$package" Depends | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g')
# With an init and a bus, so that a real systemd can boot it.
# shellcheck disable=SC2086 # a list of words
apt install $depends systemd-sysv dbus socat

# Files, users and groups, without what dpkg, apt and the linker write about any package.
picture() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./sys -o -path ./tmp \) -prune -o -print |
        grep -v -e '^./var/lib/dpkg' -e '^./var/lib/apt' -e '^./var/log' -e '^./var/cache' -e '^./root/' \
            -e '^./etc/passwd-$' -e '^./etc/group-$' -e '^./etc/shadow-$' -e '^./etc/gshadow-$' -e '^./etc/.pwd.lock$' \
            -e '^./etc/ld.so.cache$' | sort
    cut -d: -f1 "$root/etc/passwd" | sed 's/^/user /'
    # The group render is the system's: udev makes it as well, and others may rely on it by now.
    cut -d: -f1 "$root/etc/group" | grep -vx render | sed 's/^/group /'
    ls "$root/var/cache" "$root/var/lib" | sed 's/^/var /')
}
before=$root.before
after=$root.after
picture >"$before"

say "install"
cp "$package" "$root/tmp/watchpost.deb"
apt install /tmp/watchpost.deb
for path in usr/bin/watchpost usr/lib/systemd/system/watchpost.service usr/lib/sysusers.d/watchpost.conf \
    usr/lib/tmpfiles.d/watchpost.conf etc/watchpost/config.toml etc/watchpost/conf.d/gate.toml.example \
    usr/share/doc/watchpost/copyright usr/share/doc/watchpost/examples/config.toml \
    usr/share/doc/watchpost/examples/watchpost.service.d/gpu.conf usr/share/bash-completion/completions/watchpost; do
    # The unit may lie under the older of the two names of one folder.
    [ -e "$root/$path" ] || [ -e "$root/${path#usr/}" ] || fail "$path is not there"
done
# As at the next boot, where no systemd runs now.
inside systemd-tmpfiles --create watchpost.conf
[ "$(stat -c '%a %U' "$root/etc/watchpost/secrets")" = "700 root" ] || fail "/etc/watchpost/secrets is not root's alone"
inside getent passwd watchpost >/dev/null || fail "there is no user watchpost"
inside systemctl is-enabled watchpost 2>/dev/null | grep -qx disabled || fail "it is enabled although nothing is configured"
inside dpkg --verify watchpost || fail "what is installed is not what is in the package"

say "watchpost check on the configuration that comes with it"
inside watchpost check >"$root/tmp/check" 2>&1 || { cat "$root/tmp/check"; fail "watchpost check"; }
inside watchpost devices >"$root/tmp/devices" 2>&1 || { cat "$root/tmp/devices"; fail "watchpost devices"; }
grep -q avdec_h264 "$root/tmp/devices" || { cat "$root/tmp/devices"; fail "there is no H.264 decoder"; }

say "run it under a stand-in for systemd"
python3 tests/deb/notify_stand_in.py "$root"

# In a container whose changes are lost when it is switched off.
under_systemd() {
    findings=$(mktemp -d "$root.findings.XXXXXX")
    cp tests/deb/under_systemd.sh "$findings/"
    unit=$root/etc/systemd/system/under-test.service
    printf '[Unit]\nAfter=dbus.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /under-test/under_systemd.sh\n' >"$unit"
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -s ../under-test.service "$root/etc/systemd/system/multi-user.target.wants/under-test.service"
    timeout 300 systemd-nspawn --quiet --directory="$root" --volatile=overlay --register=no --keep-unit --boot \
        --private-network --machine=watchpost-deb-test --bind="$findings:/under-test" \
        systemd.unified_cgroup_hierarchy=1 >"$findings/console" 2>&1 </dev/null || true
    rm "$unit" "$root/etc/systemd/system/multi-user.target.wants/under-test.service"
    if [ ! -s "$findings/log" ]; then
        tail -n 3 "$findings/console" >&2
        echo "NOT TESTED: systemd does not boot in a container here" >&2
    else
        grep -E '^(ok|not ok|status|journal)' "$findings/log" | sed 's/^/  /'
        if grep -q '^not ok' "$findings/log" || ! grep -qx end "$findings/log"; then
            cat "$findings/log"
            rm -r "$findings"
            fail "the unit under a real systemd"
        fi
    fi
    rm -r "$findings"
}
if command -v systemd-nspawn >/dev/null 2>&1; then
    say "run the unit under a real systemd"
    under_systemd
else
    echo "NOT TESTED: the unit under a real systemd; install systemd-container" >&2
fi

say "an upgrade keeps what was changed"
echo '# changed by hand' >>"$root/etc/watchpost/config.toml"
inside dpkg --force-confold -i /tmp/watchpost.deb >/dev/null
grep -q 'changed by hand' "$root/etc/watchpost/config.toml" || fail "the upgrade took the changed configuration away"

say "remove, then purge"
mkdir -p "$root/var/lib/watchpost/models" "$root/var/cache/watchpost"
echo secret >"$root/etc/watchpost/secrets/gate"
apt remove watchpost
[ ! -e "$root/usr/bin/watchpost" ] || fail "the program is still there"
grep -q 'changed by hand' "$root/etc/watchpost/config.toml" || fail "removing took the configuration away"
apt purge watchpost
rm -f "$root/tmp/watchpost.deb" "$root/tmp/check" "$root/tmp/devices"
picture >"$after"
if ! diff "$before" "$after" >"$root/tmp/left"; then
    cat "$root/tmp/left"
    fail "purged, and something is left"
fi
say "nothing is left: all is well"
