#!/bin/sh
# Prepares the log folder and starts the bot, under New Relic's agent when there is a licence key.
# Arguments replace the command. exec throughout: the bot gets the container's signals and gives its exit code.
set -eu

[ "$#" -gt 0 ] || set -- python -m tbh.actors.main

: "${BOT_LOG_DIR:=/app/logs}"
: "${BOT_LOG_FILE:=$BOT_LOG_DIR/tradebothub.log}"
export BOT_LOG_DIR BOT_LOG_FILE

# 78 is the runtime's exit code for configuration. Opening the file for appending is the only honest test of a
# folder's permissions: a root user, a read-only mount and a full quota all answer `test -w` wrongly.
refuse() {
    echo "docker-entrypoint: $1: mount a writable volume there, or set BOT_LOG_DIR and BOT_LOG_FILE" >&2
    exit 78
}
mkdir -p "$BOT_LOG_DIR" 2>/dev/null || refuse "can't create the log folder $BOT_LOG_DIR"
(: >>"$BOT_LOG_FILE") 2>/dev/null || refuse "can't write the log file $BOT_LOG_FILE"

if [ -z "${NEW_RELIC_LICENSE_KEY:-}" ]; then
    exec "$@"
fi

if ! command -v newrelic-admin >/dev/null 2>&1; then
    echo "docker-entrypoint: NEW_RELIC_LICENSE_KEY is set but newrelic-admin is not on PATH:" \
        "install newrelic, or unset the key" >&2
    exit 78
fi
if [ -z "${NEW_RELIC_CONFIG_FILE:-}" ] && [ -f newrelic.ini ]; then
    NEW_RELIC_CONFIG_FILE=newrelic.ini
    export NEW_RELIC_CONFIG_FILE
fi
exec newrelic-admin run-program "$@"
