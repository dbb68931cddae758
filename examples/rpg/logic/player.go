package logic

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// MaxNameBytes is the longest username and full name, in bytes.
const MaxNameBytes = 100

// DefaultMaxCharacters is how many characters a player may have where no Limits
// say otherwise, DefaultLimits the id of those for players that name none.
const (
	DefaultMaxCharacters = 10
	DefaultLimits        = "default"
)

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

// ValidateDelete refuses to delete a player that has characters.
func (Player) ValidateDelete(ctx concern.Context, before *rpgv1.Player) error {
	characters, err := rpgv1.PlayerCharacters(ctx)
	if err != nil {
		return err
	}
	if n := len(characters); n > 0 {
		return txn.Errorf(txn.CodeFailedPrecondition, "player %q has characters, %d in number; delete them first, or give them to another player",
			before.GetId(), n)
	}
	return nil
}

// Show implements rpgv1.PlayerHandler.
func (Player) Show(ctx concern.Context, p *rpgv1.Player, _ *emptypb.Empty) (*rpgv1.PlayerView, error) {
	characters, err := rpgv1.PlayerCharacters(ctx)
	if err != nil {
		return nil, err
	}
	view := &rpgv1.PlayerView{Id: p.GetId(), Username: p.GetUsername(), Active: p.GetActive(), LimitsId: p.GetLimitsId()}
	for _, c := range characters {
		view.Characters = append(view.Characters, &rpgv1.CharacterSummary{Id: c.GetId(), Fullname: c.GetFullname(), Active: c.GetActive()})
	}
	return view, nil
}

// AddCharacter implements rpgv1.PlayerHandler. A character that the player has
// already is no new one.
func (Player) AddCharacter(ctx concern.Context, p *rpgv1.Player, in *rpgv1.CharacterRef) (*rpgv1.Player, error) {
	characters, err := rpgv1.PlayerCharacters(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(characters, func(c *rpgv1.Character) bool { return c.GetId() == in.GetId() }) {
		return p, nil
	}
	if most := maxCharacters(ctx, p); len(characters) >= most {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "player %q has characters, %d in number; its limit max_characters_per_player is %d",
			p.GetId(), len(characters), most).With(txn.DetailField, "player_id")
	}
	return p, nil
}

// maxCharacters returns how many characters a player may have. Limits that were
// not published do not keep anybody from playing.
func maxCharacters(ctx concern.Context, p *rpgv1.Player) int {
	for _, id := range []string{p.GetLimitsId(), DefaultLimits} {
		if limits, ok := rpgv1.LimitsOf(ctx, id); ok && id != "" {
			return int(limits.GetMaxCharactersPerPlayer())
		}
	}
	return DefaultMaxCharacters
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
