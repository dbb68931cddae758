package txn

import (
	"time"

	"github.com/google/uuid"
)

// ID identifies a transaction: a UUIDv7, so that ids sort by time.
type ID [16]byte

// NewID makes an id from the clock and random bits. Safe for concurrent use.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// NewKey makes a UUIDv7 as text, for use as the key of a new instance.
func NewKey() string { return NewID().String() }

// ParseID reads the text form of an id.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, Errorf(CodeInvalidArgument, "transaction id %q is not a UUID", s)
	}
	return ID(u), nil
}

// IDFromBytes reads an id as it travels in records.
func IDFromBytes(b []byte) (ID, error) {
	if len(b) != len(ID{}) {
		return ID{}, Errorf(CodeInvalidArgument, "a transaction id has 16 bytes, not %d", len(b))
	}
	return ID(b), nil
}

// Time returns when the id was made, with a resolution of ms.
func (id ID) Time() time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// String returns the usual text form of a UUID.
func (id ID) String() string { return uuid.UUID(id).String() }
