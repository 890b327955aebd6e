# To be sourced: `need PACKAGE...` installs packages as root on Debian and Ubuntu; elsewhere it says what to install, and fails.
need() {
    [ $# -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $*" >&2
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        echo "error: missing $*; on Debian and Ubuntu: sudo apt install $*" >&2
        return 1
    fi
}
