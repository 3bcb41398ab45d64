#!/usr/bin/env bash
# What the build needs from the system, and nothing that is there already: says what is missing, installs it with apt
# where it may (root, or sudo that asks nothing), else names the packages. `lint` asks for clang's tools as well, `test`
# for what some tests are skipped without: launchers, a browser, shells.
#
#   native/install-system-packages.sh PYTHON [lint|test]     PYTHON: the interpreter that .venv is (to be) made from
set -euo pipefail

python=${1:?usage: $0 PYTHON [lint|test]}
purpose=${2:-build}
compiler=${CXX:-g++}
minimum_gxx=12
missing=()

have() { command -v "$1" >/dev/null; }
has_header() { echo "#include <$1>" | "$compiler" -E -x c++ - >/dev/null 2>&1; }
is_new_enough() { [ "$("$compiler" -dumpversion 2>/dev/null | cut -d. -f1)" -ge $minimum_gxx ] 2>/dev/null; }

is_new_enough || missing+=("$compiler")
have make || missing+=(make)
have cmake || missing+=(cmake)
have ninja || missing+=(ninja-build)
have pkg-config || missing+=(pkg-config)
have npm || missing+=(npm)
has_header simdjson.h || missing+=(libsimdjson-dev)
has_header isa-l/igzip_lib.h || missing+=(libisal-dev)
has_header zstd.h || missing+=(libzstd-dev)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sysconfig as s; raise SystemExit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
  missing+=(python3-dev)
if [ "$purpose" = lint ]; then
  have clang-format || missing+=(clang-format)
  have clang-tidy || missing+=(clang-tidy)
fi
optional=() # what only some tests need, which are skipped without it
if [ "$purpose" = test ]; then
  have mpirun || optional+=(openmpi-bin)
  have pdsh || optional+=(pdsh)
  have faketime || optional+=(faketime)
  have ssh || optional+=(openssh-client)
  [ -x /usr/sbin/sshd ] || have sshd || optional+=(openssh-server)
  have chromium || have google-chrome || optional+=(chromium)
  have man || optional+=(man-db)
  for program in fish mandoc tcsh zsh; do have $program || optional+=($program); done
fi
[ $((${#missing[@]} + ${#optional[@]})) -gt 0 ] || exit 0

echo "missing system packages: ${missing[*]} ${optional[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  have sudo && sudo -n true 2>/dev/null || as_root=(no)
fi
if ! have apt-get || [ "${as_root[*]}" = no ]; then
  echo "install them and run make again (the names are those of Debian and Ubuntu; g++ $minimum_gxx or newer):"
  echo "  sudo apt-get install ${missing[*]} ${optional[*]}"
  [ "${missing[*]}" = npm ] && echo "(npm is for the HTML reports only: going on without)" && exit 0
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
install() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
for package in "${optional[@]}"; do
  install "$package" || echo "$package cannot be installed: the tests that need it are skipped"
done
is_new_enough || {
  echo "$compiler is older than version $minimum_gxx: sudo apt-get install g++-$minimum_gxx, then CXX=g++-$minimum_gxx make"
  exit 1
}
