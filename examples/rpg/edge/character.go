package edge

import (
	"context"

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
	return one(ctx, s, rpgv1.CharacterCreate(character))
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
	return one(ctx, s, rpgv1.CharacterUpdate(in.GetCharacter(), changed...))
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
