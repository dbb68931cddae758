package edge

import (
	"context"
	"slices"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// CreateCharacter implements rpgv1.RpgServiceServer.
func (s *service) CreateCharacter(ctx context.Context, in *rpgv1.CreateCharacterRequest) (*rpgv1.Character, error) {
	character := in.GetCharacter()
	if character == nil {
		character = &rpgv1.Character{}
	}
	if character.GetId() == "" {
		character.Id = txn.NewKey()
	}
	if err := need("player_id", character.GetPlayerId()); err != nil {
		return nil, err
	}
	b := txn.New()
	player := addCharacter(b, character)
	created := txn.Add(b, rpgv1.CharacterCreate(character))
	// The player is visited first, since data flows from there, and held until
	// the end: it cannot be deleted meanwhile, and its characters are counted
	// one after the other.
	txn.Bind(b, player, "id", created, "player_id")
	return s.withPlayer(ctx, b, character, created)
}

// addCharacter adds the step that asks the character's player.
func addCharacter(b *txn.Builder, c *rpgv1.Character) *txn.Handle[*rpgv1.Player] {
	return txn.Add(b, rpgv1.PlayerAddCharacter(c.GetPlayerId(), &rpgv1.CharacterRef{Id: c.GetId()}))
}

// withPlayer runs a transaction that visits the character's player, too.
func (s *service) withPlayer(
	ctx context.Context, b *txn.Builder, c *rpgv1.Character, step *txn.Handle[*rpgv1.Character],
) (*rpgv1.Character, error) {
	result, err := s.runner.Run(ctx, b)
	if err != nil {
		e := txn.AsError(err)
		if e.Code == txn.CodeNotFound && e.Details[txn.DetailConcern] == rpgv1.PlayerConcern {
			return nil, txn.Errorf(txn.CodeFailedPrecondition, "player %q does not exist", c.GetPlayerId()).With(txn.DetailField, "player_id")
		}
		return nil, err
	}
	return step.Result(result)
}

// ReadCharacter implements rpgv1.RpgServiceServer.
func (s *service) ReadCharacter(ctx context.Context, in *rpgv1.ReadCharacterRequest) (*rpgv1.Character, error) {
	if err := need("id", in.GetId()); err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.CharacterRead(in.GetId()))
}

// UpdateCharacter implements rpgv1.RpgServiceServer.
func (s *service) UpdateCharacter(ctx context.Context, in *rpgv1.UpdateCharacterRequest) (*rpgv1.Character, error) {
	if err := need("character.id", in.GetCharacter().GetId()); err != nil {
		return nil, err
	}
	changed, err := paths(in.GetCharacter(), in.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(changed, "player_id") {
		return one(ctx, s, rpgv1.CharacterUpdate(in.GetCharacter(), changed...))
	}
	if err := need("player_id", in.GetCharacter().GetPlayerId()); err != nil {
		return nil, err
	}
	b := txn.New()
	player := addCharacter(b, in.GetCharacter())
	updated := txn.Add(b, rpgv1.CharacterUpdate(in.GetCharacter(), changed...))
	// Never so, but looking makes the player the one that is visited first.
	txn.SkipWhen(b, updated, player, "id", txn.NotSet, nil)
	return s.withPlayer(ctx, b, in.GetCharacter(), updated)
}

// DeleteCharacter implements rpgv1.RpgServiceServer.
func (s *service) DeleteCharacter(ctx context.Context, in *rpgv1.DeleteCharacterRequest) (*rpgv1.Character, error) {
	if err := need("id", in.GetId()); err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.CharacterDelete(in.GetId()))
}

// FundCharacter implements rpgv1.RpgServiceServer.
func (s *service) FundCharacter(ctx context.Context, in *rpgv1.FundCharacterRequest) (*rpgv1.Character, error) {
	if err := need("id", in.GetId()); err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.CharacterFund(in.GetId(), &rpgv1.Funds{Currency: in.GetCurrency(), Items: in.GetItems()}))
}
