package stream

// PartitionFor returns the partition of a key: murmur2, made positive, modulo,
// as the Java client and every other Kafka client that asks for murmur2 has
// it. partitions must be positive.
func PartitionFor(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions //nolint:gosec // 31 bits
}

// murmur2 is Austin Appleby's hash with the seed that Kafka uses.
func murmur2(data []byte) uint32 {
	const m, seed = 0x5bd1e995, 0x9747b28c
	n := len(data)
	h := uint32(seed) ^ uint32(n) //nolint:gosec // as in the reference
	i := 0
	for ; n-i >= 4; i += 4 {
		k := uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16 | uint32(data[i+3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h *= m
		h ^= k
	}
	switch n - i {
	case 3:
		h ^= uint32(data[i+2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[i+1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[i])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
