// Package column turns the fields of a protobuf message into the values of a
// row and back. It is what generated storage mappings are made of, and what a
// mapping written by hand may use for the plain part of its work.
//
//	codec := column.NewCodec(func() proto.Message { return new(rpgv1.Player) }, 1, 2, 3, 4)
//	row, err := codec.Encode(player)  // []any{"p1", "brock01", true, ""}
//	again, err := codec.Decode(row)   // equal to player
//
// The type of a column follows from its field:
//
//	string                              text
//	bool                                boolean
//	int32 sint32 sfixed32               integer
//	int64 sint64 sfixed64               bigint
//	uint32 fixed32                      bigint
//	uint64 fixed64                      text, in decimal: no integer type holds them all
//	float, double                       real, double precision
//	bytes                               bytea
//	enum                                integer, the number: it survives renaming
//	message, repeated, map              jsonb, see below
//
// A field that knows whether it is set (optional, a member of a oneof, a
// message) may be NULL, which means not set. Any other column is NOT NULL and
// holds the zero value ("", 0, false, [], {}); NULL is read as the zero value.
//
// jsonb holds the protobuf JSON form, with field names as in the .proto file
// and enums as numbers. Not every message has such a form that PostgreSQL takes
// (NUL characters, an Any of an unknown type, a Timestamp out of range, very
// deep nesting). Whatever a client manages to submit must be stored, or its
// partition would stand still, so such a value becomes {"@wire": "<base64>"}.
//
// Fields that the program does not know (written by a newer one) are not kept:
// a row has the columns that its mapping knows. Renaming a field, also one
// inside a jsonb column, needs a migration of the data; removing one does not.
//
// The package imports protobuf only. It must not know Kafka, PostgreSQL or
// transactions.
package column
