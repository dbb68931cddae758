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
	var b *txn.Builder
	switch in.GetMode() {
	case rpgv1.TradeMode_TRADE_MODE_ISOLATED:
		b = txn.New()
	case rpgv1.TradeMode_TRADE_MODE_SAGA:
		b = txn.Saga()
	default:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "mode %v is not known", in.GetMode()).With(txn.DetailField, "mode")
	}
	// What is given back is what was taken, items as they were.
	debit := func(side *rpgv1.TradeSide) txn.TypedStep[*rpgv1.Funds] {
		return rpgv1.CharacterDebitFunds(side.GetCharacterId(), gives(side)).CompensatedByResult("CreditFunds")
	}
	lhsGives := txn.Add(b, debit(lhs))
	rhsGives := txn.Add(b, debit(rhs))
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
