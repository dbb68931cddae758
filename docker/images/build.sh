#!/usr/bin/env bash
# Builds the images: build.sh [kafka|rpg ...], all of them without an argument.
# VERSION is their tag, "dev" by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

all=(kafka rpg)
version=${VERSION:-dev}

for name in "$@"; do
	case $name in
	kafka | rpg) ;;
	-h | --help)
		echo "usage: build.sh [kafka|rpg ...]; VERSION is the tag, now $version"
		exit 0
		;;
	*)
		echo "build.sh: unknown image \"$name\"; there are ${all[*]}" >&2
		exit 2
		;;
	esac
done
if ! command -v docker >/dev/null; then
	echo "build.sh: docker is not installed" >&2
	exit 1
fi
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
	# BuildKit: cache mounts, and an ignore file beside the Dockerfile.
	DOCKER_BUILDKIT=1 docker build --file "docker/images/$name/Dockerfile" --tag "rocketcycle/$name:$version" .
done
