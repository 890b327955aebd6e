#!/usr/bin/env bash
# Installs what the tests of the cluster need, on Debian or Ubuntu as root: Slurm, munge, and bindfs as a network file system that is late.
set -euo pipefail
packages=(slurmctld slurmd slurm-client munge bindfs python3)
lacks=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || lacks+=("$package")
done
[ ${#lacks[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "error: the tests of the cluster need root and the packages ${lacks[*]}: run as root, or install them" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${lacks[@]}" >/dev/null 2>&1 || {
    apt-get -o DPkg::Lock::Timeout=300 update >/dev/null
    apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${lacks[@]}" >/dev/null
}
