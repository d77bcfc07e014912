# Sourced by the scripts beside it: a private virtual environment in the checkout.
#
#   prepare_venv NAME REQUIREMENT
#
# leaves $VENV/bin/python with REQUIREMENT (a pip argument such as "-e .[dev]")
# installed, and does nothing when that was done before from the same setup.cfg,
# in the same place.  It needs a Python 3.11 or later and nothing else.
# shellcheck shell=sh

VENV=$ROOT/.venv

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

recent_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if recent_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or later; none found (set PYTHON to its path)"
}

# Debian ships `venv` without what puts pip into the new environment, unless
# python3-venv is installed; virtualenv, or a pip outside, can do that part.
make_venv() {
    rm -rf "$VENV"
    "$1" -m venv "$VENV" >/dev/null 2>&1 && return
    rm -rf "$VENV"
    "$1" -m virtualenv -q "$VENV" >/dev/null 2>&1 && return
    rm -rf "$VENV"
    "$1" -m venv --without-pip "$VENV" >/dev/null 2>&1 &&
        "$1" -m pip --python "$VENV/bin/python" install -qq pip >/dev/null 2>&1 && return
    rm -rf "$VENV"
    die "$("$1" --version) can make no virtual environment with pip:" \
        "install its venv module (on Debian: apt-get install python3-venv)"
}

# What an installation depends on: a copied or moved checkout counts as new,
# since a virtual environment holds absolute paths.
fingerprint() {
    echo "$ROOT"
    cat "$ROOT/setup.cfg" "$ROOT/pyproject.toml"
}

prepare_venv() {
    stamp=$VENV/installed-$1
    if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ] &&
        [ "$(cat "$stamp")" = "$(fingerprint)" ] && recent_enough "$VENV/bin/python"; then
        return
    fi
    if [ "$(cat "$VENV/made-in" 2>/dev/null)" != "$ROOT" ] ||
        ! recent_enough "$VENV/bin/python"; then
        python=$(find_python) || exit 1
        say "making $VENV with $("$python" --version)"
        make_venv "$python"
        echo "$ROOT" >"$VENV/made-in"
    fi
    say "installing what setup.cfg asks for"
    # shellcheck disable=SC2086 # the requirement may be two words
    (cd "$ROOT" && "$VENV/bin/python" -m pip install -qq --disable-pip-version-check $2) ||
        die "pip could not install what setup.cfg asks for (see above)"
    fingerprint >"$stamp"
}

# Let Python find the compiled core (scripts/compile) in front of the sources, if
# it was made from these, by this Python.
use_compiled() {
    [ -d "$ROOT/.compiled" ] || return 0
    if "$VENV/bin/python" "$ROOT/scripts/compile_tree.py" --check "$ROOT/.compiled"; then
        export ZKPY_CORE="$ROOT/.compiled" PYTHONSAFEPATH=1
        export PYTHONPATH="$ZKPY_CORE${PYTHONPATH:+:$PYTHONPATH}"
    else
        say "running the sources: .compiled is of others; scripts/compile makes it anew"
    fi
}
