package edge

import (
	"context"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Trade implements rpgv1.RpgServiceServer: what each side gives is taken from
// it and added to the other, all of it or nothing.
func (s *service) Trade(ctx context.Context, in *rpgv1.TradeRequest) (*rpgv1.TradeResponse, error) {
	lhs, rhs := in.GetLhs(), in.GetRhs()
	if err := need("lhs.character_id", lhs.GetCharacterId()); err != nil {
		return nil, err
	}
	if err := need("rhs.character_id", rhs.GetCharacterId()); err != nil {
		return nil, err
	}
	if lhs.GetCharacterId() == rhs.GetCharacterId() {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "a character cannot trade with itself").With(txn.DetailField, "rhs.character_id")
	}
	b := txn.New()
	lhsGives := txn.Add(b, rpgv1.CharacterDebitFunds(lhs.GetCharacterId(), gives(lhs)))
	rhsGives := txn.Add(b, rpgv1.CharacterDebitFunds(rhs.GetCharacterId(), gives(rhs)))
	lhsGets := txn.Add(b, rpgv1.CharacterCreditFunds(lhs.GetCharacterId(), &rpgv1.Funds{Currency: rhs.GetCurrency()}))
	rhsGets := txn.Add(b, rpgv1.CharacterCreditFunds(rhs.GetCharacterId(), &rpgv1.Funds{Currency: lhs.GetCurrency()}))
	// Items move as they are, not as the request describes them. That ties the
	// steps together and costs a visit more, so money alone goes without.
	if len(lhs.GetItems()) > 0 {
		txn.Bind(b, lhsGives, "items", rhsGets, "items")
	}
	if len(rhs.GetItems()) > 0 {
		txn.Bind(b, rhsGives, "items", lhsGets, "items")
	}
	result, err := s.runner.Run(ctx, b)
	if err != nil {
		return nil, err
	}
	out := &rpgv1.TradeResponse{}
	if out.Lhs, err = lhsGets.Result(result); err != nil {
		return nil, err
	}
	if out.Rhs, err = rhsGets.Result(result); err != nil {
		return nil, err
	}
	return out, nil
}

func gives(side *rpgv1.TradeSide) *rpgv1.Funds {
	return &rpgv1.Funds{Currency: side.GetCurrency(), Items: side.GetItems()}
}
