package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// startGold and startFaction are what a character has at the start, so much
// that no trade is refused.
const (
	startGold    = 1_000_000_000
	startFaction = 1_000_000_000
)

// characterID returns the id of character i, as long as a generated one.
func characterID(i int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", i) }

// playerID returns the id of the player of character i, where players are not
// created.
func playerID(i int) string { return fmt.Sprintf("00000000-0000-7000-9000-%012d", i/perPlayer) }

// game is what both the service in this process and the gRPC client can do.
type game interface {
	trade(context.Context, *rpgv1.TradeRequest) (*rpgv1.TradeResponse, error)
	fund(context.Context, *rpgv1.FundCharacterRequest) (*rpgv1.Character, error)
	read(context.Context, *rpgv1.ReadCharacterRequest) (*rpgv1.Character, error)
}

func (c *client) trade(ctx context.Context, in *rpgv1.TradeRequest) (*rpgv1.TradeResponse, error) {
	return c.game.Trade(ctx, in)
}

func (c *client) fund(ctx context.Context, in *rpgv1.FundCharacterRequest) (*rpgv1.Character, error) {
	return c.game.FundCharacter(ctx, in)
}

func (c *client) read(ctx context.Context, in *rpgv1.ReadCharacterRequest) (*rpgv1.Character, error) {
	return c.game.ReadCharacter(ctx, in)
}

// remote is the game through gRPC.
type remote struct {
	conn *grpc.ClientConn
	rpc  rpgv1.RpgServiceClient
}

func dial(addr string) (*remote, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &remote{conn: conn, rpc: rpgv1.NewRpgServiceClient(conn)}, nil
}

func (r *remote) trade(ctx context.Context, in *rpgv1.TradeRequest) (*rpgv1.TradeResponse, error) {
	return r.rpc.Trade(ctx, in)
}

func (r *remote) fund(ctx context.Context, in *rpgv1.FundCharacterRequest) (*rpgv1.Character, error) {
	return r.rpc.FundCharacter(ctx, in)
}

func (r *remote) read(ctx context.Context, in *rpgv1.ReadCharacterRequest) (*rpgv1.Character, error) {
	return r.rpc.ReadCharacter(ctx, in)
}

// amounts draws what a trade moves.
func amounts(rnd *rand.Rand) (gold, faction int64) { return 1 + rnd.Int64N(5), 1 + rnd.Int64N(3) }

func tradeOp(g game, characters int) operation {
	return tradeOpIn(g, characters, rpgv1.TradeMode_TRADE_MODE_ISOLATED)
}

func tradeOpIn(g game, characters int, mode rpgv1.TradeMode) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		a, b := pair(rnd, characters)
		gold, faction := amounts(rnd)
		_, err := g.trade(ctx, &rpgv1.TradeRequest{
			Lhs:  &rpgv1.TradeSide{CharacterId: characterID(a), Currency: &rpgv1.Currency{Gold: gold}},
			Rhs:  &rpgv1.TradeSide{CharacterId: characterID(b), Currency: &rpgv1.Currency{Faction_0: faction}},
			Mode: mode,
		})
		return err
	}
}

func fundOp(g game, characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		_, err := g.fund(ctx, &rpgv1.FundCharacterRequest{
			Id: characterID(rnd.IntN(characters)), Currency: &rpgv1.Currency{Faction_2: 1},
		})
		return err
	}
}

func readOp(g game, characters int) operation {
	return func(ctx context.Context, _ int, rnd *rand.Rand) error {
		c, err := g.read(ctx, &rpgv1.ReadCharacterRequest{Id: characterID(rnd.IntN(characters))})
		if err == nil && c.GetCurrency() == nil {
			err = fmt.Errorf("character %q was read without its money", c.GetId())
		}
		return err
	}
}

// perPlayer is how many characters a player has, its limit where none is set.
const perPlayer = 10

// createCharacters makes the characters of the workloads, and their players.
func createCharacters(ctx context.Context, c *client, n int) error {
	players := make([]string, (n+perPlayer-1)/perPlayer)
	err := all(ctx, len(players), 64, func(ctx context.Context, i int) error {
		p, err := c.game.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Username: fmt.Sprintf("bench%d", i)}})
		players[i] = p.GetId()
		return err
	})
	if err != nil {
		return fmt.Errorf("create player: %w", err)
	}
	return all(ctx, n, 64, func(ctx context.Context, i int) error {
		_, err := c.game.CreateCharacter(ctx, &rpgv1.CreateCharacterRequest{Character: newCharacter(i, players[i%len(players)])})
		return err
	})
}

func newCharacter(i int, player string) *rpgv1.Character {
	return &rpgv1.Character{
		Id: characterID(i), PlayerId: player, Fullname: fmt.Sprintf("Character %d", i), Active: true,
		Currency: &rpgv1.Currency{Gold: startGold, Faction_0: startFaction},
	}
}

// checkSums reads every character: trades conserve gold and faction_0, funds
// add faction_2. A benchmark of a system that loses money has no result.
func checkSums(ctx context.Context, c *client, n int) error {
	got := make([]*rpgv1.Character, n)
	err := all(ctx, n, 64, func(ctx context.Context, i int) (err error) {
		got[i], err = c.read(ctx, &rpgv1.ReadCharacterRequest{Id: characterID(i)})
		return err
	})
	if err != nil {
		return fmt.Errorf("check of sums: %w", err)
	}
	var gold, faction int64
	for _, one := range got {
		gold += one.GetCurrency().GetGold()
		faction += one.GetCurrency().GetFaction_0()
	}
	if gold != int64(n)*startGold || faction != int64(n)*startFaction {
		return fmt.Errorf("money was not conserved: %d gold too many, %d faction_0 too many",
			gold-int64(n)*startGold, faction-int64(n)*startFaction)
	}
	return nil
}
