package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// AlterTopics changes settings of topics, and leaves the others as they are.
func (a *Admin) AlterTopics(ctx context.Context, settings map[string]map[string]string) error {
	ask := make([]kafka.ConfigResource, 0, len(settings))
	for _, topic := range slices.Sorted(maps.Keys(settings)) {
		ask = append(ask, kafka.ConfigResource{
			Type: kafka.ResourceTopic, Name: topic,
			Config: kafka.StringMapToIncrementalConfigEntries(settings[topic], setEach(settings[topic])),
		})
	}
	if len(ask) == 0 {
		return nil
	}
	results, err := a.a.IncrementalAlterConfigs(ctx, ask, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return fmt.Errorf("stream: change topics at %s: %w", a.cfg.Bootstrap, err)
	}
	var faults []error
	for _, r := range results {
		if r.Error.Code() != kafka.ErrNoError {
			faults = append(faults, fmt.Errorf("stream: change topic %s: %w", r.Name, r.Error))
		}
	}
	return errors.Join(faults...)
}

func setEach(settings map[string]string) map[string]kafka.AlterConfigOpType {
	ops := make(map[string]kafka.AlterConfigOpType, len(settings))
	for name := range settings {
		ops[name] = kafka.AlterConfigOpTypeSet
	}
	return ops
}

// DeleteTopics deletes topics, and waits until they are gone. One that does not
// exist is no error.
func (a *Admin) DeleteTopics(ctx context.Context, topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	results, err := a.a.DeleteTopics(ctx, topics, kafka.SetAdminOperationTimeout(timeout(ctx)), kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return fmt.Errorf("stream: delete topics at %s: %w", a.cfg.Bootstrap, err)
	}
	var faults []error
	for _, r := range results {
		if c := r.Error.Code(); c != kafka.ErrNoError && c != kafka.ErrUnknownTopicOrPart && c != kafka.ErrUnknownTopic {
			faults = append(faults, fmt.Errorf("stream: delete topic %s: %w", r.Topic, r.Error))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	for {
		have, err := a.Topics(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(topics, func(t string) bool { _, exists := have[t]; return exists }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stream: deleted topics are still there: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Groups returns the names of the consumer groups that begin with a prefix.
func (a *Admin) Groups(ctx context.Context, prefix string) ([]string, error) {
	result, err := a.a.ListConsumerGroups(ctx, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return nil, fmt.Errorf("stream: groups at %s: %w", a.cfg.Bootstrap, err)
	}
	if err := errors.Join(result.Errors...); err != nil {
		return nil, fmt.Errorf("stream: groups at %s: %w", a.cfg.Bootstrap, err)
	}
	var out []string
	for _, g := range result.Valid {
		if strings.HasPrefix(g.GroupID, prefix) {
			out = append(out, g.GroupID)
		}
	}
	slices.Sort(out)
	return out, nil
}

// DeleteGroups deletes consumer groups with their offsets. One that has members
// cannot be deleted; one that does not exist is no error.
func (a *Admin) DeleteGroups(ctx context.Context, groups []string) error {
	if len(groups) == 0 {
		return nil
	}
	result, err := a.a.DeleteConsumerGroups(ctx, groups, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return fmt.Errorf("stream: delete groups at %s: %w", a.cfg.Bootstrap, err)
	}
	var faults []error
	for _, r := range result.ConsumerGroupResults {
		if c := r.Error.Code(); c != kafka.ErrNoError && c != kafka.ErrGroupIDNotFound {
			faults = append(faults, fmt.Errorf("stream: delete group %s: %w", r.Group, r.Error))
		}
	}
	return errors.Join(faults...)
}
