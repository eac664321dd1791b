#!/usr/bin/env bash
# What Python's packages cannot bring along.
#   prepare.sh venv      make .venv with a Python from 3.11 to 3.13
#   prepare.sh display   see to Xvfb and the libraries that Qt and OpenGL load (Debian, Ubuntu)
set -euo pipefail
cd "$(dirname "$0")/.."

display_packages=(
    xvfb xauth libegl1 libgl1 libglx-mesa0 libgl1-mesa-dri libdbus-1-3 libfontconfig1
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1
)

fail() {
    echo "$*" >&2
    exit 1
}

# Install Debian packages, as root or with a sudo that asks nothing; false where that is not allowed.
apt_install() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    # An update may fail in part (one dead mirror); the installation then tells whether it matters.
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "No Python from 3.11 to 3.13 was found; install one, or name it: make PYTHON=/path/to/python."
}

make_venv() {
    local python package
    python=$(find_python)
    # Debian keeps ensurepip, without which a venv has no pip, in a package of its own.
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info.minor)')
        apt_install "$package" || fail "$python cannot make virtual environments; install $package."
    fi
    "$python" -m venv --clear .venv
}

prepare_display() {
    command -v dpkg-query >/dev/null || return 0 # not Debian: what is there will have to do
    local missing=() package
    for package in "${display_packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "Installing with apt: ${missing[*]}"
    apt_install "${missing[@]}" || fail "Please install these packages, then try again: ${missing[*]}"
}

case "${1:-}" in
    venv) make_venv ;;
    display) prepare_display ;;
    *) fail "Usage: $0 venv|display" ;;
esac
