#!/bin/sh
# Ensure that RabbitMQ, PostgreSQL, tinyproxy, and Prometheus are there, and Chromium where apt can install it; the
# tests start private servers with them.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/lib/rabbitmq/bin:/opt/homebrew/bin"
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done

again() { # for slow mirrors, and for another apt-get that holds the lock
    for pause in 5 15 45; do
        if "$@" -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300; then return 0; fi
        echo "failed: $*; retrying in $pause s" >&2
        sleep "$pause"
    done
    "$@"
}

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

missing=""
command -v rabbitmq-server >/dev/null || missing="rabbitmq-server"
command -v initdb >/dev/null || missing="$missing postgresql"
command -v tinyproxy >/dev/null || missing="$missing tinyproxy"
prometheus="build/prometheus" # unpacked only: its package would start a service
if command -v promtool >/dev/null || [ -x "$prometheus/usr/bin/promtool" ]; then prometheus=""; fi
with_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
if with_apt && ! command -v chromium >/dev/null; then missing="$missing chromium"; fi # elsewhere its tests are skipped
if [ -z "$missing$prometheus" ]; then exit 0; fi

if with_apt; then
    echo "installing $missing ${prometheus:+prometheus} with apt-get"
    again apt-get update -qq
    mkdir -p /etc/postgresql-common
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then # otherwise the package creates and starts a cluster
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # a list of packages
        again install $missing
    fi
    if [ -n "$prometheus" ]; then
        mkdir -p "$prometheus"
        (cd "$prometheus" && again apt-get download -qq prometheus 2>/dev/null && dpkg -x prometheus_*.deb . && rm prometheus_*.deb)
    fi
    exit 0
fi
missing="$missing ${prometheus:+prometheus}"
echo "the tests need $missing: install (Debian: apt-get install $missing, macOS: brew install rabbitmq postgresql tinyproxy prometheus)" >&2
exit 69
