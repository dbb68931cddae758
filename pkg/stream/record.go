package stream

import "time"

// TopicPartition names a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of the log.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	// Value is nil for a tombstone.
	Value   []byte
	Headers []Header
	Time    time.Time
}
