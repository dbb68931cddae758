package logic

import (
	"strings"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// MaxNameBytes is the longest username and full name, in bytes.
const MaxNameBytes = 100

// Player has the rules for players.
type Player struct{}

// ValidateCreate refuses a player without a username.
func (Player) ValidateCreate(_ concern.Context, in *rpgv1.Player) error {
	return checkName("username", in.GetUsername())
}

// ValidateUpdate refuses to take the username away.
func (Player) ValidateUpdate(_ concern.Context, _, after *rpgv1.Player) error {
	return checkName("username", after.GetUsername())
}

func checkName(field, name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return txn.Errorf(txn.CodeInvalidArgument, "%s is missing", field).With(txn.DetailField, field)
	case len(name) > MaxNameBytes:
		return txn.Errorf(txn.CodeInvalidArgument, "%s has %d bytes; at most %d are allowed", field, len(name), MaxNameBytes).
			With(txn.DetailField, field)
	}
	return nil
}
