#!/usr/bin/env bash
# Runs every test, with the race detector: all of them on the embedded broker,
# then those that use a broker once more on an Apache Kafka. PostgreSQL is real
# in both. A server that cannot be had is a failure. Of packages that pass there
# is one line each.
#
#   internal/integration/test.sh             both
#   internal/integration/test.sh embedded    the first part
#   internal/integration/test.sh kafka       the second
set -euo pipefail
cd "$(dirname "$0")/../.."
GO=${GO:-go}
part=${1:-all}
case $part in all | embedded | kafka) ;; *)
	echo "usage: $0 [embedded|kafka]" >&2
	exit 2
	;;
esac
if [ "$part" != embedded ] && ! command -v java >/dev/null; then
	echo "test.sh: Apache Kafka needs a JDK 17 or newer; install one (.ci/setup does), or run: $0 embedded" >&2
	exit 1
fi

failed=0
section() {
	local title=$1
	shift
	printf '== %s (%ss)\n' "$title" "$SECONDS"
	"$@" || failed=1
}

if [ "$part" != kafka ]; then
	section "vet" $GO vet ./...
	# Two packages at a time: tests that wait for servers and sessions overlap.
	section "embedded broker" env -u RKCY_TEST_KAFKA $GO test -race -count=1 -p 2 -timeout 20m ./...
fi
if [ "$part" != embedded ]; then
	# One package at a time, since they share one broker. What brings its own
	# broker has been tested above.
	section "Apache Kafka" $GO run ./internal/devbroker/cmd kafka run -- \
		$GO test -race -count=1 -p 1 -timeout 20m -skip '^TestEmbedded' \
		./pkg/stream/... ./pkg/concern/... ./pkg/storage/... ./internal/isolation/... ./internal/features/... ./internal/integration/... ./pkg/platform/node ./examples/rpg/sim
	# The selection of the fault suite that CI runs, on a broker of its own;
	# without the race detector, which makes two cores too slow for it.
	section "faults" env -u RKCY_TEST_KAFKA RKCY_CHAOS=some $GO test -count=1 -timeout 20m ./internal/chaos -run 'TestChaos$' -duration 6s
fi
if [ $failed != 0 ]; then
	printf 'FAIL (%ss)\n' "$SECONDS"
	exit 1
fi
printf 'ok (%ss)\n' "$SECONDS"
