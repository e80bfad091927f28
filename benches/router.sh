#!/bin/sh
# Measures the CPU time of one proxied request, of the router and of nginx with the same headers: 64 keep-alive connections,
# one worker each, on loopback. Prints µs per request of both, and the ratio. Needs nginx and wrk.
#
# usage: benches/router.sh [seconds a run] [runs]
set -eu

seconds=${1:-5}
runs=${2:-3}
cd "$(dirname "$0")/.."
for tool in nginx wrk cargo; do
    command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 1; }
done
cargo build --quiet --release --example router_bench
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

dir=$(mktemp -d)
pids=
# shellcheck disable=SC2317,SC2329 # by the trap
clean() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 1' INT TERM

instance=127.0.0.1:18080
proxy=127.0.0.1:18081
router=127.0.0.1:18082

# $1: name, $2: servers. Prints the configuration of an nginx with one process, and its files in the folder.
nginx_conf() {
    cat <<CONF
daemon off;
master_process off;
pid $dir/$1.pid;
error_log $dir/$1.log crit;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path $dir/$1.body;
    proxy_temp_path $dir/$1.proxy;
    fastcgi_temp_path $dir/$1.fastcgi;
    uwsgi_temp_path $dir/$1.uwsgi;
    scgi_temp_path $dir/$1.scgi;
$2
}
CONF
}

nginx_conf instance "server { listen $instance; location / { return 200 'hello, world'; } }" >"$dir/instance.conf"
# shellcheck disable=SC2016 # nginx's variables, not the shell's
headers='
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Port $server_port;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Request-Id $request_id;'
nginx_conf proxy "    upstream app { least_conn; server $instance; keepalive 64; keepalive_requests 100000000; }
    server { listen $proxy; location / {
        proxy_pass http://app;
        proxy_http_version 1.1;
        proxy_set_header Connection '';$headers
    } }" >"$dir/proxy.conf"

start() {
    "$@" >"$dir/out.log" 2>&1 &
    pid=$!
    pids="$pids $pid"
}

# Waits until the address $1 responds; at most five attempts of a second.
ready() {
    tries=0
    until wrk -t1 -c1 -d1 "http://$1/" 2>/dev/null | grep -q '^Requests/sec: *[1-9]'; do
        tries=$((tries + 1))
        [ "$tries" -lt 5 ] || { cat "$dir"/*.log >&2; exit 1; }
    done
}

# User and system time of process $1, in clock ticks.
ticks() {
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# µs of CPU time per request of process $1 at address $2; fails if a response is not a 2xx.
measure() {
    before=$(ticks "$1")
    wrk -t1 -c64 -d"$seconds" "http://$2/" >"$dir/wrk"
    after=$(ticks "$1")
    if grep -Eq 'Non-2xx|Socket errors' "$dir/wrk"; then cat "$dir/wrk" >&2; exit 1; fi
    requests=$(awk '/requests in/ { print $1 }' "$dir/wrk")
    awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$requests" 'BEGIN { printf "%.2f", t * 1e6 / hz / n }'
}

start nginx -p "$dir" -c "$dir/instance.conf"
start nginx -p "$dir" -c "$dir/proxy.conf"
nginx_pid=$pid
mkdir "$dir/data"
start "$target/release/examples/router_bench" "$dir/data" "$router" "$instance"
router_pid=$pid
ready "$proxy"
ready "$router"

# Alternately, so that other load on the machine affects both.
: >"$dir/results"
run=0
while [ "$run" -lt "$runs" ]; do
    run=$((run + 1))
    of_nginx=$(measure "$nginx_pid" "$proxy")
    of_router=$(measure "$router_pid" "$router")
    echo "$of_nginx $of_router" | tee -a "$dir/results" |
        awk '{ printf "nginx %.2f µs/request, router %.2f µs/request, ratio %.2f\n", $1, $2, $2 / $1 }'
done
awk '{ n += $1; r += $2 } END { printf "mean: nginx %.2f, router %.2f, ratio %.2f\n", n / NR, r / NR, r / n }' "$dir/results"
