package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// GroupMember is one member of a consumer group.
type GroupMember struct {
	// ID is what the brokers call the member, ClientID what it calls itself, Host
	// the address that it comes from.
	ID, ClientID, Host string
	// Partitions that it was given.
	Partitions []TopicPartition
}

// GroupInfo is what the brokers know of a consumer group. A group that does not
// exist has no members.
type GroupInfo struct {
	// State as Kafka calls it: Stable, Empty, Dead, PreparingRebalance, …
	State   string
	Members []GroupMember
}

// DescribeGroups returns who is in consumer groups, and what each has. It asks
// again until the coordinators answer or ctx ends.
func (a *Admin) DescribeGroups(ctx context.Context, groups []string) (map[string]GroupInfo, error) {
	out := map[string]GroupInfo{}
	for _, group := range groups {
		info, err := a.describeGroup(ctx, group)
		if err != nil {
			return nil, fmt.Errorf("stream: group %s at %s: %w", group, a.cfg.Bootstrap, err)
		}
		out[group] = info
	}
	return out, nil
}

func (a *Admin) describeGroup(ctx context.Context, group string) (GroupInfo, error) {
	for {
		result, err := a.a.DescribeConsumerGroups(ctx, []string{group}, kafka.SetAdminRequestTimeout(timeout(ctx)))
		if err == nil {
			for _, d := range result.ConsumerGroupDescriptions {
				if d.Error.Code() == kafka.ErrGroupIDNotFound {
					return GroupInfo{State: "Dead"}, nil
				}
				if d.Error.Code() != kafka.ErrNoError {
					err = d.Error
					continue
				}
				return groupInfo(d), nil
			}
		}
		e, ok := errors.AsType[kafka.Error](err)
		if !ok || !leaderMoves(e) && !coordinatorMoves(e) {
			return GroupInfo{}, err
		}
		select {
		case <-ctx.Done():
			return GroupInfo{}, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// coordinatorMoves tells of errors that pass once a group has its coordinator.
func coordinatorMoves(e kafka.Error) bool {
	switch e.Code() {
	case kafka.ErrNotCoordinator, kafka.ErrCoordinatorNotAvailable, kafka.ErrCoordinatorLoadInProgress:
		return true
	default:
		return false
	}
}

func groupInfo(d kafka.ConsumerGroupDescription) GroupInfo {
	info := GroupInfo{State: d.State.String()}
	for _, m := range d.Members {
		member := GroupMember{ID: m.ConsumerID, ClientID: m.ClientID, Host: m.Host}
		for _, tp := range m.Assignment.TopicPartitions {
			member.Partitions = append(member.Partitions, TopicPartition{*tp.Topic, tp.Partition})
		}
		slices.SortFunc(member.Partitions, func(a, b TopicPartition) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		info.Members = append(info.Members, member)
	}
	slices.SortFunc(info.Members, func(a, b GroupMember) int {
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.ID, b.ID))
	})
	return info
}

// StableOffsets returns the last stable offsets: what lies above belongs to Kafka
// transactions that are open, or behind one.
func (a *Admin) StableOffsets(ctx context.Context, tps []TopicPartition) (map[TopicPartition]int64, error) {
	return a.offsetsAt(ctx, tps, kafka.LatestOffsetSpec, kafka.IsolationLevelReadCommitted)
}

// TopicReplicas returns the smallest number of replicas of any partition of each
// topic, and how many of them are in sync.
func (a *Admin) TopicReplicas(ctx context.Context) (map[string]Replicas, error) {
	meta, err := a.metadata(ctx, true)
	if err != nil {
		return nil, err
	}
	out := map[string]Replicas{}
	for name, t := range meta.Topics {
		for i, p := range t.Partitions {
			r := Replicas{Total: len(p.Replicas), InSync: len(p.Isrs)}
			if have := out[name]; i > 0 {
				r = Replicas{Total: min(have.Total, r.Total), InSync: min(have.InSync, r.InSync)}
			}
			out[name] = r
		}
	}
	return out, nil
}

// Replicas of a partition.
type Replicas struct{ Total, InSync int }

// TopicConfigs returns the settings of topics that exist.
func (a *Admin) TopicConfigs(ctx context.Context, topics []string) (map[string]map[string]string, error) {
	if len(topics) == 0 {
		return map[string]map[string]string{}, nil
	}
	ask := make([]kafka.ConfigResource, len(topics))
	for i, t := range topics {
		ask[i] = kafka.ConfigResource{Type: kafka.ResourceTopic, Name: t}
	}
	results, err := a.a.DescribeConfigs(ctx, ask, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return nil, fmt.Errorf("stream: settings of topics at %s: %w", a.cfg.Bootstrap, err)
	}
	out := map[string]map[string]string{}
	for _, r := range results {
		if r.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("stream: settings of topic %s: %w", r.Name, r.Error)
		}
		out[r.Name] = map[string]string{}
		for name, e := range r.Config {
			out[r.Name][name] = e.Value
		}
	}
	return out, nil
}
