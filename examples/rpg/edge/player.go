package edge

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// CreatePlayer implements rpgv1.RpgServiceServer.
func (s *service) CreatePlayer(ctx context.Context, in *rpgv1.CreatePlayerRequest) (*rpgv1.Player, error) {
	player := in.GetPlayer()
	if player == nil {
		player = &rpgv1.Player{}
	}
	if player.GetId() == "" {
		player.Id = txn.NewKey()
	}
	return one(ctx, s, rpgv1.PlayerCreate(player))
}

// ReadPlayer implements rpgv1.RpgServiceServer.
func (s *service) ReadPlayer(ctx context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.PlayerView, error) {
	if err := need("id", in.GetId()); err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.PlayerShow(in.GetId(), &emptypb.Empty{}))
}

// UpdatePlayer implements rpgv1.RpgServiceServer.
func (s *service) UpdatePlayer(ctx context.Context, in *rpgv1.UpdatePlayerRequest) (*rpgv1.Player, error) {
	if err := need("player.id", in.GetPlayer().GetId()); err != nil {
		return nil, err
	}
	changed, err := paths(in.GetPlayer(), in.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.PlayerUpdate(in.GetPlayer(), changed...))
}

// DeletePlayer implements rpgv1.RpgServiceServer.
func (s *service) DeletePlayer(ctx context.Context, in *rpgv1.DeletePlayerRequest) (*rpgv1.Player, error) {
	if err := need("id", in.GetId()); err != nil {
		return nil, err
	}
	return one(ctx, s, rpgv1.PlayerDelete(in.GetId()))
}
