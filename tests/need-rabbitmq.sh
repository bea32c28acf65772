#!/bin/sh
# Makes sure that the program rabbitmq-server is there; the tests start their own private nodes from it.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/lib/rabbitmq/bin"
if command -v rabbitmq-server >/dev/null; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing rabbitmq-server with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server >/dev/null
    exit 0
fi
echo "the tests need the program rabbitmq-server: install it (Debian: apt-get install rabbitmq-server, macOS: brew install rabbitmq)" >&2
exit 69
