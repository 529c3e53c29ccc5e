#!/usr/bin/env bash
# Makes cmd/keyferry/default.pgo, by which the compiler optimizes the gateway: a CPU profile
# of one event loop under every kind of small command at pipelines of 1, 16 and 100, and
# while slots move. Needs redis-server and curl; takes a minute. Usage: bench/pgo.sh BINARY
set -euo pipefail
bin=$(realpath "${1:?usage: bench/pgo.sh BINARY}")
out=$(realpath "$(dirname "$0")/../cmd/keyferry")/default.pgo
dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
for port in 27101 27102; do
	redis-server --port $port --bind 127.0.0.1 --save "" --dir "$dir" >/dev/null &
	pids+=($!)
done
"$bin" serve --listen 127.0.0.1:27110 --admin 127.0.0.1:27111 --http 127.0.0.1:27112 --data-dir "$dir/data" \
	--set loops.count=1 --set http.token=profile >"$dir/log" 2>&1 &
pids+=($!)
proxy() { redis-cli -p 27111 PROXY "$@" >/dev/null; }
for _ in $(seq 50); do proxy INFO 2>/dev/null && break; sleep 0.1; done
proxy GROUP ADD g1 127.0.0.1:27101
proxy GROUP ADD g2 127.0.0.1:27102
proxy SLOT ASSIGN 0-8191 g1
proxy SLOT ASSIGN 8192-16383 g2
load() { "$bin" bench load --addr 127.0.0.1:27110 "$@" >/dev/null; }
load --op set --pipeline 100 --seconds 3
curl -sf -H "Authorization: Bearer profile" "http://127.0.0.1:27112/debug/pprof/profile?seconds=38" -o "$out.new" &
profile=$!
for op in mixed get set mget; do
	for pipeline in 1 16 100; do load --op $op --pipeline $pipeline --seconds 2.5; done
done
(for to in g2 g1; do proxy MIGRATE 0-8191 TO $to; sleep 3; done) &
load --op mixed --pipeline 16 --seconds 7
wait $profile
mv "$out.new" "$out"
echo "$out"
