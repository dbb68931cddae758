// Package changewire decodes storage records without copying what is in them. A
// takeover reads a million of them, and a storage worker every one there is.
package changewire

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Unmarshal returns the change that proto.Unmarshal makes of raw, or its error.
// The bytes of the instance and of the transaction's id are shared with raw,
// which must not be written to afterwards.
func Unmarshal(raw []byte) (*rkcyv1.Change, error) {
	if c := plain(raw); c != nil {
		return c, nil
	}
	c := &rkcyv1.Change{}
	if err := proto.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("not a change: %w", err)
	}
	return c, nil
}

// plain decodes a change as processors write it. It gives up, with nil, on
// everything that needs a second look: unknown fields, fields that come twice,
// related instances, damage.
func plain(raw []byte) *rkcyv1.Change {
	c := &rkcyv1.Change{}
	for last := protowire.Number(0); len(raw) > 0; {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 || number <= last {
			return nil
		}
		last, raw = number, raw[n:]
		switch {
		case number <= 3 && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(raw)
			if n < 0 {
				return nil
			}
			raw = raw[n:]
			switch number {
			case 1:
				if !utf8.Valid(v) {
					return nil
				}
				c.Key = string(v)
			case 2:
				if c.After = instance(v); c.After == nil {
					return nil
				}
			case 3:
				c.TxnId = v[:len(v):len(v)]
			}
		case number >= 4 && number <= 6 && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(raw)
			if n < 0 || number < 6 && v > math.MaxUint32 {
				return nil
			}
			raw = raw[n:]
			switch number {
			case 4:
				c.Attempt = uint32(v) //nolint:gosec // checked
			case 5:
				c.Visit = uint32(v) //nolint:gosec // checked
			case 6:
				c.EffectiveTimeMs = int64(v) //nolint:gosec // the same bits
			}
		default:
			return nil
		}
	}
	return c
}

func instance(raw []byte) *rkcyv1.Instance {
	in := &rkcyv1.Instance{}
	for last := protowire.Number(0); len(raw) > 0; {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 || number <= last {
			return nil
		}
		last, raw = number, raw[n:]
		switch {
		case number == 1 && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(raw)
			if n < 0 {
				return nil
			}
			in.Value, raw = v[:len(v):len(v)], raw[n:]
		case number == 2 && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(raw)
			if n < 0 {
				return nil
			}
			in.Version, raw = v, raw[n:]
		default:
			return nil
		}
	}
	return in
}
