package logic

import (
	"fmt"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// MostCharacters is the highest limit of characters that a player can be given:
// the player carries what it knows of each.
const MostCharacters = 1000

// ValidateLimits refuses limits that nobody could play with, or that the
// platform could not.
func ValidateLimits(in *rpgv1.Limits) error {
	if n := in.GetMaxCharactersPerPlayer(); n < 1 || n > MostCharacters {
		return fmt.Errorf("max_characters_per_player is %d; allowed are 1 to %d", n, MostCharacters)
	}
	return nil
}
