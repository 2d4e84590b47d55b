#!/usr/bin/env bash
# Two hosts on one machine: scripts/two_hosts.sh [--delay MS] COMMAND...
#
# COMMAND runs as an MPI job of two ranks, one on each of two emulated hosts: namespaces (network, host name, shared
# memory, mounts), joined by a link whose packets take MS milliseconds (1) each way. So whatever assumes one host
# breaks: shared memory, loopback addresses, equal host names. Needs root and iproute2, and MPICH's mpirun in PATH.
#
#   sudo PATH="$PWD/.venv/bin:$PATH" scripts/two_hosts.sh python bin/exec.py train -d --file events.h5 -i 10 -mb 2
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
    printf 'two_hosts: %s\n' "$*" >&2
    exit 1
}

delay=1
if [[ ${1:-} == --delay ]]; then
    delay=$2
    shift 2
fi
[[ $# -gt 0 ]] || die "name a command, such as: python bin/exec.py train -d ..."
for tool in ip unshare nsenter mpirun python3; do
    command -v "$tool" >/dev/null || die "$tool is missing; install iproute2, util-linux, Python and MPICH"
done
unshare --net --uts true 2>/dev/null || die "this machine forbids namespaces; run it as root, or on another one"

work=$(mktemp -d "${TMPDIR:-/tmp}/two-hosts.XXXXXX")
keepers=()
own=$(readlink /proc/self/ns/net)
cleanup() {
    # First what still runs on the hosts: once the link is gone, mpirun cannot end it any more.
    for keeper in "${keepers[@]}"; do
        host=$(readlink "/proc/$keeper/ns/net") || continue
        [[ $host != "$own" ]] || continue # a keeper that has not left this machine's own network yet
        for process in /proc/[0-9]*; do
            [[ $(readlink "$process/ns/net" 2>/dev/null) != "$host" ]] || kill -9 "${process#/proc/}" 2>/dev/null || true
        done
    done
    rm -rf "$work"
}
trap cleanup EXIT

# A host is a sleeping process that holds its namespaces open. /etc/hosts is its own, too: names must be found; and
# /dev/shm and /sys, where MPI libraries look for memory to share and for network interfaces.
start_host() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --net --uts --ipc --mount --propagation private bash -c '
        set -e
        hostname "$1"
        mount --bind "$2/hosts" /etc/hosts
        mount -t tmpfs shm /dev/shm
        mount -t sysfs sys /sys
        : >"$2/$1.up"
        exec sleep infinity' host "$1" "$work" &
    keepers+=($!)
    until [[ -e $work/$1.up ]]; do
        kill -0 $! 2>/dev/null || die "host $1 cannot be set up"
        sleep 0.05
    done
}

printf '127.0.0.1 localhost\n10.77.0.1 emulated-a\n10.77.0.2 emulated-b\n' >"$work/hosts"
start_host emulated-a
start_host emulated-b
coproc cable { exec unshare --net python3 "$here/delayed_link.py" link-a link-b "$delay" "${keepers[@]}"; }
# shellcheck disable=SC2154 # set by coproc
keepers+=("$cable_PID")
read -r -t 10 _ <&"${cable[0]}" || die "the link between the hosts cannot be made; is there a /dev/net/tun?"
for number in 0 1; do
    letter=$([[ $number == 0 ]] && echo a || echo b)
    inside=(nsenter --target "${keepers[$number]}" --net)
    "${inside[@]}" ip link set lo up
    "${inside[@]}" ip address add "10.77.0.$((number + 1))/24" dev "link-$letter"
    "${inside[@]}" ip link set "link-$letter" up
    printf '%s %s\n' "emulated-$letter" "${keepers[$number]}" >>"$work/keepers"
done

# What mpirun starts instead of ssh: the same command line within the namespaces of that host.
cat >"$work/enter" <<EOF_ENTER
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
keeper=\$(awk -v host="\$1" '\$1 == host { print \$2 }' "$work/keepers")
shift
exec nsenter --target "\$keeper" --net --uts --ipc --mount --wd="\$PWD" bash -c "\$*"
EOF_ENTER
chmod +x "$work/enter"

nsenter --target "${keepers[0]}" --net --uts --ipc --mount --wd="$PWD" \
    mpirun -launcher ssh -launcher-exec "$work/enter" -hosts emulated-a,emulated-b -n 2 -ppn 1 "$@"
