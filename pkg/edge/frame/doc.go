// Package frame reads and writes the envelopes, batches and frames of
// rkcy.edge.v1, as protobuf or as JSON.
//
//	request, err := frame.JSON.Batch([]byte(`{"mode": "ORDERED", "items": [
//		{"method": "rpg.v1.RpgService/ReadPlayer", "body": {"id": "p1"}}]}`))
//
// JSON is that of protobuf, with one difference: a body is not base64, it is
// the message itself, kept as it was written until its type is known. So no
// number in it loses digits on the way.
//
// Nothing is passed over: a field that does not exist, one that is given twice,
// and anything behind the first value are faults.
//
// The package imports the protocol only and knows no method.
package frame
