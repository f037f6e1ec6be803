#!/bin/sh
# Sees to the system packages that the relay, the demo and the tests need. Says nothing and does nothing when all are there.
#
#   ./setup.sh --for run     Unbound and the DNS root keys
#   ./setup.sh --for demo    also the tools that sign zones, openssl (default)
#   ./setup.sh --for test    also Postfix, Exim, swaks, Python and dkimpy, which the tests talk to
#   ./setup.sh --for bench   those of the demo, Postfix, Exim and a C compiler with OpenSSL's headers
#
# As root on Debian or Ubuntu it installs what is missing and starts no service. Otherwise it names what is missing
# and the command that installs it. Exit status: 0 all there, 2 wrong usage, 3 something is missing.
set -eu

self=$0
fail() {
  status=$1
  shift
  echo "setup.sh: $*" >&2
  exit "$status"
}

purpose=demo
while [ $# -gt 0 ]; do
  case $1 in
    --for)
      [ $# -ge 2 ] || fail 2 "--for wants run, demo, test or bench"
      purpose=$2
      shift 2
      ;;
    --for=*)
      purpose=${1#--for=}
      shift
      ;;
    -h | --help)
      sed -n '2,10s/^# \{0,1\}//p' "$self"
      exit 0
      ;;
    *) fail 2 "unknown argument \"$1\"; usage: ./setup.sh [--for run|demo|test|bench]" ;;
  esac
done
case $purpose in
  run | demo | test | bench) ;;
  *) fail 2 "--for wants run, demo, test or bench, not \"$purpose\"" ;;
esac

# Mail servers and resolvers live in /usr/sbin, which an ordinary user does not have on the PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
exim_folder=/var/cache/dane-relay/exim

has() { command -v "$1" >/dev/null 2>&1; }
has_user() { id "$1" >/dev/null 2>&1; }

missing=
need() { missing="$missing $1"; }

has unbound || need unbound
[ -s /usr/share/dns/root.key ] || need dns-root-data
if [ "$purpose" != run ]; then
  has ldns-signzone && has ldns-keygen || need ldnsutils
  has openssl || need openssl
fi

exim_missing=no
if [ "$purpose" = test ] || [ "$purpose" = bench ]; then
  has postfix || need postfix
  { has exim4 || [ -x "$exim_folder/usr/sbin/exim4" ]; } && has_user Debian-exim || exim_missing=yes
fi
if [ "$purpose" = bench ]; then
  has gcc || need gcc
  [ -s /usr/include/stdlib.h ] || need libc6-dev
  [ -s /usr/include/openssl/ssl.h ] || need libssl-dev
fi
if [ "$purpose" = test ]; then
  has swaks || need swaks
  has perl && perl -MNet::SSLeay -e 1 2>/dev/null || need libnet-ssleay-perl
  has python3 || need python3
  [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import dkim, nacl' 2>/dev/null || need python3-dkim
fi
[ -z "$missing" ] && [ "$exim_missing" = no ] && exit 0

wanted=$missing
[ "$exim_missing" = no ] || wanted="$wanted exim4-daemon-light"
wanted=${wanted# }

if ! has apt-get; then
  fail 3 "missing: $wanted (names of Debian packages); install them with the package manager of this system and run this again"
fi
if [ "$(id -u)" -ne 0 ]; then
  fail 3 "missing: $wanted; run \"sudo ./setup.sh --for $purpose\" once, which installs them"
fi

# Nothing that is installed here may start: a test machine does not want a resolver and a mail server listening.
policy=/usr/sbin/policy-rc.d
ours=no
clean_up() { [ "$ours" = no ] || rm -f "$policy"; }
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$policy" ]; then
  ours=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
echo "setup.sh: installing $wanted" >&2
quietly() {
  if ! output=$("$@" 2>&1); then
    printf '%s\n' "$output" | tail -n 20 >&2
    fail 3 "\"$*\" failed; missing: $wanted"
  fi
}
quietly apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update -qq

case " $missing " in
  *" postfix "*)
    # Asked otherwise; "No configuration" leaves /etc/postfix alone. Tests bring their own folder.
    if has debconf-set-selections; then
      echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
    ;;
esac

# Debian allows one mail server, so Exim is unpacked beside Postfix; its libraries conflict with nothing.
if [ "$exim_missing" = yes ]; then
  libraries=$(apt-cache depends exim4-daemon-light | sed -n 's/^ *Depends: \(lib[^ <]*\)$/\1/p' | sort -u | tr '\n' ' ')
  missing="$missing $libraries"
fi

# --no-remove: rather stop than take away a mail server that this machine uses.
# shellcheck disable=SC2086 # a list of package names
quietly apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install -y -qq --no-install-recommends --no-remove $missing

if [ "$exim_missing" = yes ]; then
  download=$(mktemp -d)
  # apt drops to its own user for downloads, who must be able to write there.
  chmod 755 "$download"
  if has_user _apt; then chown _apt "$download"; fi
  quietly sh -c "cd '$download' && apt-get -o Acquire::Retries=3 download exim4-daemon-light exim4-base"
  rm -rf "$exim_folder.new"
  mkdir -p "$exim_folder.new"
  for package in "$download"/*.deb; do quietly dpkg -x "$package" "$exim_folder.new"; done
  rm -rf "$download" "$exim_folder"
  mv "$exim_folder.new" "$exim_folder"
  # The user that Exim is built to run as; the package would have made it.
  if ! has_user Debian-exim; then
    quietly groupadd --system Debian-exim
    quietly useradd --system --gid Debian-exim --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
  fi
fi
echo "setup.sh: done" >&2
