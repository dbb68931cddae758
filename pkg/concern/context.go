package concern

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// WithRelated returns a Context in which the instance has one more child, for
// tests of handlers. child has what the relation copies.
func (c Context) WithRelated(concern, key string, child proto.Message) Context {
	value, err := proto.Marshal(child)
	if err != nil {
		panic(fmt.Sprintf("concern: a child that cannot be serialized: %v", err))
	}
	c.related = append(slices.Clone(c.related), &rkcyv1.RelatedInstance{Concern: concern, Key: key, Value: value})
	slices.SortStableFunc(c.related, func(a, b *rkcyv1.RelatedInstance) int {
		return cmp.Or(strings.Compare(a.GetConcern(), b.GetConcern()), strings.Compare(a.GetKey(), b.GetKey()))
	})
	return c
}

// WithConfig returns a Context in which config Concerns have the given
// instances, for tests of handlers.
func (c Context) WithConfig(set *ConfigSet) Context {
	c.config = set
	return c
}
