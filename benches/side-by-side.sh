#!/bin/bash
# Measures Posthorn, and a peer beside it, with the same load tool in one run.
#
#   MAILBENCH=path/to/mailbench POSTHORN=target/release/posthorn benches/side-by-side.sh OUT.jsonl
#   PEER=path/to/dovecot.sh     also runs the peer (needs root: it installs Dovecot and Postfix)
#   ROUNDS=3 MESSAGES=5000 IDLE="1000 5000"
#
# One JSON line per measurement, with "label". Loopback only; everything is started here and
# stopped at the end.
set -euo pipefail
OUT=${1:?file for the JSON lines}
MAILBENCH=${MAILBENCH:?the load tool}
POSTHORN=${POSTHORN:-target/release/posthorn}
ROUNDS=${ROUNDS:-1} MESSAGES=${MESSAGES:-5000} IDLE=${IDLE:-1000 5000}
BASE=${BASE:-12000}
work=$(mktemp -d)
chmod 755 "$work" # the peer's users must get in
pid=
cleanup() {
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
    if [ -n "${PEER:-}" ]; then ROOT=$work/peer bash "$PEER" stop >/dev/null 2>&1 || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
ulimit -n 65536 2>/dev/null || true

start_posthorn() {
    "$POSTHORN" demo --dir "$work/data$1" --port-base "$BASE" --insecure-login \
        --domain bench.test --accounts 200 --password secret >"$work/log" 2>&1 &
    pid=$!
    for _ in $(seq 300); do
        curl -fsS "http://127.0.0.1:$((BASE + 80))/readyz" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "posthorn did not get ready:" >&2
    cat "$work/log" >&2
    exit 1
}
stop_posthorn() { kill "$pid"; wait "$pid" || true; pid=; }

bench() { # label, then flags
    local label=$1
    shift
    echo "$label ..." >&2
    "$MAILBENCH" --label "$label" --users 200 --password secret --insecure "$@" >>"$OUT"
}
posthorn() {
    local label=$1
    shift
    local imap=(--imap "127.0.0.1:$((BASE + 143))")
    case $label in idle-tls*) imap=(--imap "127.0.0.1:$((BASE + 993))" --imap-tls implicit) ;; esac
    bench "posthorn $label" --smtp "127.0.0.1:$((BASE + 525))" "${imap[@]}" --server-pid "$pid" "$@"
}
start_peer() {
    bash "$PEER" start >&2
    peer_pids=$(cat "$work"/peer/dovecot/run/master.pid),$(tr -d ' \n' <"$work/peer/postfix/spool/pid/master.pid")
}
peer() {
    local label=$1
    shift
    bench "peer $label" --smtp 127.0.0.1:3025 --imap 127.0.0.1:3143 --server-pid "$peer_pids" "$@"
}
rest() { # PSS of a server at rest, KiB
    awk -v l="$1" '/^Pss:/ {s += $2} END {printf "{\"label\":\"%s\",\"pss_kib\":%d}\n", l, s}' \
        "/proc/$pid/smaps_rollup" >>"$OUT"
}

: >"$OUT"
for ((round = 1; round <= ROUNDS; round++)); do
    start_posthorn "$round"
    sleep 2
    rest "posthorn rest-200"
    for c in 1 16 64; do posthorn "deliver-$c" deliver-visible -c "$c" -m "$MESSAGES" -s 4096; done
    posthorn fetch imap-fetch -n 10000 --mailbox "Bench$round"
    posthorn append-1 append -c 1 -m 2000 --literal-plus
    posthorn append-8 append -c 8 -m 2000 --literal-plus
    posthorn login login -c 16 -n 2000
    stop_posthorn
    for k in $IDLE; do
        [ "$k" -gt 1000 ] && d=100 rate=10 || d=300 rate=30
        start_posthorn "idle$round$k"
        posthorn "idle-plain-$k" idle -k "$k" -d "$d" --rate "$rate" --settle-secs 10
        stop_posthorn
        start_posthorn "idletls$round$k"
        posthorn "idle-tls-$k" idle -k "$k" -d "$d" --rate "$rate" --settle-secs 10
        stop_posthorn
    done
    if [ -n "${PEER:-}" ]; then
        mkdir -p "$work/peer"
        export ROOT=$work/peer FORMAT=mdbox USERS=200
        start_peer
        for c in 1 16 64; do peer "deliver-$c" deliver-visible -c "$c" -m "$MESSAGES" -s 4096; done
        peer fetch imap-fetch -n 10000 --mailbox "Bench$round"
        peer append-1 append -c 1 -m 2000 --literal-plus
        peer append-8 append -c 8 -m 2000 --literal-plus
        peer login login -c 16 -n 2000
        # Anew, as Posthorn is: what the other runs left would count as memory that is given back.
        bash "$PEER" stop >&2
        start_peer
        peer idle-plain-1000 idle -k 1000 -d 300 --rate 30 --settle-secs 25
        bash "$PEER" stop >&2
        bash "$PEER" clean >&2 || true
    fi
done
echo "written to $OUT" >&2
