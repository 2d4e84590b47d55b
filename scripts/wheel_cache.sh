# shellcheck shell=bash
# Sourced by the build scripts of packages that are published as source alone: a wheel is built once, kept in the
# user's cache, and installed from there.
#
# A script sets `package`, `version` and `sha256` (of the source archive), defines `build_wheel` (called in a new
# directory; leaves one wheel in ./dist) and `check_wheel` (fails when the installed package does not work), and ends
# with `install_cached PYTHON [EXTRA...]`. EXTRA is whatever else a wheel depends on. A wheel that does not work is
# neither kept nor left installed.

: "${package:?is set by the script}" "${version:?}" "${sha256:?}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cosmictagger"

say() { printf '[%4ds] %s %s: %s\n' "$SECONDS" "$package" "$version" "$*"; }
die() {
    printf '%s %s: %s\n' "$package" "$version" "$*" >&2
    exit 1
}

# run_logged TEXT COMMAND...: one line of progress; the command's own output is shown only if it fails.
run_logged() {
    local what=$1 status kept
    shift
    say "$what"
    printf '\n$ %s\n' "$*" >>"$work/log"
    # Not "$@" || ...: within a condition, a function would run on past its first error.
    set +e
    (
        set -e
        "$@"
    ) >>"$work/log" 2>&1 </dev/null
    status=$?
    set -e
    [[ $status -eq 0 ]] && return
    kept="$cache/logs/$package-$version-$(date +%Y%m%d-%H%M%S).log"
    mkdir -p "$cache/logs"
    cp "$work/log" "$kept"
    tail -n 15 "$kept" | cut -c -300 >&2
    die "'$what' failed after $SECONDS s; the whole log is in $kept"
}

# find_python PYTHON: set `python` to its absolute path.
find_python() {
    python=$(command -v "$1") || die "there is no Python at $1; name one: $0 PYTHON"
    [[ $python == /* ]] || python=$PWD/$python
}

# A wheel fits one version of the package, Python, system and recipe (the script that builds it).
cache_key() {
    "$python" - "$package-$version" "$0" "$@" <<'EOF_PYTHON'
import hashlib, pathlib, platform, sys, sysconfig

name, script, *extra = sys.argv[1:]
recipe = hashlib.sha256(pathlib.Path(script).read_bytes())
try:
    release = platform.freedesktop_os_release()
    system = release["ID"] + release.get("VERSION_ID", "")
except OSError:
    system = platform.system().lower() + platform.release()
tag = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
print("-".join([name, tag, system, platform.machine(), *extra, recipe.hexdigest()[:12]]).replace("/", "_"))
EOF_PYTHON
}

cached_wheel() { find "$slot" -maxdepth 1 -name '*.whl' -print -quit 2>/dev/null; }

# fetch_source: unpack the checked source archive into ./$package-$version. pip prepares the package's metadata even
# when it only downloads, so the build requirements must be in the environment that runs it.
fetch_source() {
    printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >source.txt
    "$tools/python" -m pip download --quiet --no-deps --no-build-isolation --no-binary "$package" -r source.txt
    tar -xzf "$package-$version.tar.gz"
}

install_wheel() {
    # First the wheel itself, whatever is installed under this version now; then what it requires, if that is missing.
    "$python" -m pip install --quiet --no-deps --force-reinstall "$1"
    "$python" -m pip install --quiet "$1"
}

check_or_remove() {
    check_wheel || {
        "$python" -m pip uninstall --yes "$package"
        return 1
    }
}

# Another run may be doing the same: a wheel appears under its name at once and whole.
keep_wheel() {
    mkdir -p "$slot"
    cp "$1" "$slot/.incoming.$$"
    mv -f "$slot/.incoming.$$" "$slot/${1##*/}"
}

# install_cached PYTHON [EXTRA...]
install_cached() {
    find_python "$1"
    shift
    "$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip; run: $python -m ensurepip"
    slot="$cache/wheels/$(cache_key "$@")"
    work=$(mktemp -d "${TMPDIR:-/tmp}/build-$package.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    local wheel
    wheel=$(cached_wheel || true)
    if [[ -z $wheel ]]; then
        cd "$work"
        "$python" -m venv tools || die "$python cannot make a virtual environment; install its venv module"
        tools="$work/tools/bin"
        build_wheel
        wheel=$(find "$work/dist" -name '*.whl')
    fi
    run_logged "installing ${wheel##*/}" install_wheel "$wheel"
    run_logged "checking that it works" check_or_remove
    [[ $wheel == "$slot"/* ]] || keep_wheel "$wheel"
    say "installed; the wheel is kept in $slot"
}
