package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Removal is a platform that is to be thrown away.
type Removal struct {
	// Version is the published one.
	Version *rkcyv1.PlatformVersion
	// Topics and Groups are all that it has on the brokers.
	Topics, Groups []string

	log   stream.Config
	names Names
}

// PrepareRemoval looks whether a platform may be thrown away: it is marked as
// development in its published version, and no process of it runs. It changes
// nothing. Anything else is an Error with CodeFailedPrecondition.
func PrepareRemoval(ctx context.Context, log stream.Config, names Names) (*Removal, error) {
	version, err := Current(ctx, log, names)
	if err != nil {
		return nil, err
	}
	if !version.GetConfig().GetDevelopment() {
		return nil, txn.Errorf(txn.CodeFailedPrecondition,
			"platform %s in %s is not marked as one for development, so it is not thrown away; version %d would have to say development: true", names.platform, names.environment, version.GetVersion())
	}
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	r := &Removal{Version: version, log: log, names: names}
	topics, err := admin.Topics(ctx)
	if err != nil {
		return nil, away(err)
	}
	for topic := range topics {
		if p, e, _, _, _, ok := ParseTopic(topic); ok && p == names.platform && e == names.environment {
			r.Topics = append(r.Topics, topic)
		}
	}
	slices.Sort(r.Topics)
	groups, err := admin.Groups(ctx, names.prefix()+".")
	if err != nil {
		return nil, away(err)
	}
	r.Groups = groups
	infos, err := admin.DescribeGroups(ctx, groups)
	if err != nil {
		return nil, away(err)
	}
	running := map[string]bool{}
	for _, info := range infos {
		for _, m := range info.Members {
			client, _, _ := strings.Cut(m.ClientID, memberMark)
			running[client] = true
		}
	}
	if len(running) > 0 {
		var who []string
		for client := range running {
			who = append(who, client)
		}
		slices.Sort(who)
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "processes of platform %s run still: %s; stop them first", names.platform, strings.Join(who, ", "))
	}
	return r, nil
}

// Apply deletes topics and groups, the platform topic last, so that it can be
// repeated after a failure.
func (r *Removal) Apply(ctx context.Context) error {
	admin, err := stream.NewAdmin(r.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.DeleteGroups(ctx, r.Groups); err != nil {
		return away(err)
	}
	last := r.names.PlatformTopic()
	others := slices.DeleteFunc(slices.Clone(r.Topics), func(t string) bool { return t == last })
	if err := admin.DeleteTopics(ctx, others); err != nil {
		return away(err)
	}
	if err := admin.DeleteTopics(ctx, []string{last}); err != nil {
		return away(fmt.Errorf("platform topic: %w", err))
	}
	return nil
}
