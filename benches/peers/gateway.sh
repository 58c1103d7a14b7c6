#!/bin/sh
# Runs the gateway as one of several proxies under a harness that compares them: one worker, three origins, the full
# request log or none. It stays in the foreground.
#
#   gateway.sh BINARY PORT UPSTREAM_PORTS LOG TIMEOUT_S CONNECT_TIMEOUT_S safe|idem|all DIR
#
# UPSTREAM_PORTS are joined by commas. LOG is `-` for no log; else that file is created, so that a harness that counts the
# lines of an access log finds one: the requests themselves are in DIR/data. `tunnel` as UPSTREAM_PORTS makes a forward proxy.
set -eu
binary=$1 port=$2 upstreams=$3 log=${4%-} timeout=$5 connect_timeout=$6 retry=$7 dir=$8
case $retry in idem) replay=idempotent ;; all) replay=always ;; *) replay=unsent ;; esac
mkdir -p "$dir/data"
{
    printf 'listen = "127.0.0.1:%s"\ndata_dir = "%s/data"\nworkers = 1\n' "$port" "$dir"
    if [ -n "$log" ]; then : > "$log"; else printf '[log]\nenabled = false\n'; fi
    if [ "$upstreams" = tunnel ]; then
        printf '[[node]]\ntag = "direct"\nurl = "direct"\n'
    else
        number=0
        for upstream in $(printf %s "$upstreams" | tr , ' '); do
            number=$((number + 1))
            printf '[[node]]\ntag = "o%s"\nkind = "origin"\nurl = "http://127.0.0.1:%s"\n' "$number" "$upstream"
        done
        printf '[[platform]]\nname = "bench"\ntag_filters = ["^o"]\nmax_retries = 2\nreplay = "%s"\n' "$replay"
        printf 'connect_timeout = "%sms"\nresponse_timeout = "%sms"\n' \
            "$(awk "BEGIN { print int($connect_timeout * 1000) }")" "$(awk "BEGIN { print int($timeout * 1000) }")"
        printf '[[route]]\npath = "/"\nplatform = "bench"\n'
    fi
} > "$dir/gateway.toml"
exec "$binary" gateway --config "$dir/gateway.toml" --log-level warn
