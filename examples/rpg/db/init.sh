#!/bin/sh
# Makes the tables of the game in every storage target of the platform file, or
# brings them up to date. Arguments are passed on, e.g.
#
#   examples/rpg/db/init.sh --postgres postgres://rpg:rpg@127.0.0.1:5432/rpg
#
# RPG names the program; without it, build/bin/rpg is built and used.
set -eu
if [ -z "${RPG:-}" ]; then
	root=$(CDPATH='' cd -- "$(dirname -- "$0")/../../.." && pwd)
	make -s -C "$root" build
	RPG=$root/build/bin/rpg
fi
exec "$RPG" db migrate "$@"
