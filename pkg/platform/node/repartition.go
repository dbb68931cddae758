package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// repartitionTimeout bounds the Kafka transaction that is the switch.
const repartitionTimeout = 20 * time.Second

// Repartitioned tells of a change of numbers of partitions that was made.
type Repartitioned struct {
	Version *rkcyv1.PlatformVersion
	// Moved is what was taken along, by Concern.
	Moved map[string]concern.Moved
	// Pause is how long no transaction of the platform went on: from the
	// announcement until processors had every partition again. 0 if none ran.
	Pause time.Duration
}

// Repartition runs an update that changes numbers of partitions, while the
// platform works. It gets all process partitions for itself and writes what the
// new ones begin with, the new version and the end of the old ones in one Kafka
// transaction: before its commit nothing has happened, after it everything has.
// progress is told what happens. An error with CodeAborted or CodeFailedPrecondition
// says that nothing was changed, and processors go on as before.
func Repartition(ctx context.Context, log stream.Config, cfg platform.Config, u *platform.Update, author string, progress func(string)) (*Repartitioned, error) {
	r := &repartition{log: log.WithDefaults(), cfg: cfg.WithDefaults(), update: u, author: author, progress: progress}
	r.old, r.now = platform.NewNames(u.Current.GetConfig()), platform.NewNames(u.Wanted)
	return r.run(ctx)
}

type repartition struct {
	log      stream.Config
	cfg      platform.Config
	update   *platform.Update
	author   string
	progress func(string)
	old, now platform.Names

	admin     *stream.Admin
	publisher *stream.Transactor
	group     *stream.Group
	owned     map[stream.TopicPartition]bool
	all       []stream.TopicPartition // every process partition
	others    int                     // members of the group before
	began     time.Time
}

// Assigned implements stream.Listener. Nothing is read through the group.
func (r *repartition) Assigned(tps []stream.TopicPartition) {
	for _, tp := range tps {
		r.owned[tp] = true
	}
}

// Revoked implements stream.Listener.
func (r *repartition) Revoked([]stream.TopicPartition, bool) { clear(r.owned) }

func (r *repartition) run(ctx context.Context) (_ *Repartitioned, err error) {
	if r.admin, err = stream.NewAdmin(r.log); err != nil {
		return nil, err
	}
	defer r.admin.Close()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { r.publisher.Close() }()
	op := &rkcyv1.Operation{
		Id: uuid.NewString(), TimeMs: time.Now().UnixMilli(), Author: r.author, Action: platform.ActionRepartition,
		Subject: strings.Join(platform.RepartitionTexts(r.update.Repartitions()), "; "),
	}
	r.began = time.Now()
	if err := platform.Announce(ctx, r.log, r.old, op); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.RepartitionAnnounced)
	// Whatever comes of it, processors are told.
	outcome := "nothing was changed"
	defer func() {
		tell, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		op = proto.CloneOf(op)
		op.Outcome = outcome
		if tellErr := platform.Announce(tell, r.log, r.old, op); tellErr != nil {
			r.progress(fmt.Sprintf("the outcome could not be written to the log, so processors that did not see the new version wait for %v: %v", platform.RepartitionLease, tellErr))
		}
	}()
	work, cancel := context.WithTimeout(ctx, platform.RepartitionLease-5*time.Second)
	defer cancel()
	done, err := r.move(work)
	if r.group != nil {
		err = errors.Join(err, r.group.Close())
	}
	if done == nil {
		return nil, err
	}
	outcome = fmt.Sprintf("version %d", done.Version.GetVersion())
	failpoint.Hit(failpoint.RepartitionCommitted)
	return done, r.resumed(ctx, done)
}

// prepare makes the topics, and makes sure that nobody else publishes.
func (r *repartition) prepare(ctx context.Context) error {
	var specs []stream.TopicSpec
	settings := map[string]map[string]string{}
	for _, a := range r.update.Actions {
		switch a.Kind {
		case platform.ActionCreateTopic:
			specs = append(specs, a.Topic)
		case platform.ActionAlterTopic:
			settings[a.Topic.Name] = a.Topic.Config
		case platform.ActionPublish:
		}
	}
	if _, err := r.admin.EnsureTopics(ctx, specs); err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	if len(settings) > 0 {
		if err := r.admin.AlterTopics(ctx, settings); err != nil {
			return txn.Errorf(txn.CodeUnavailable, "%w", err)
		}
	}
	info, err := r.admin.DescribeGroups(ctx, []string{r.old.ProcessGroup()})
	if err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	r.others = len(info[r.old.ProcessGroup()].Members)
	slow := r.log
	slow.TransactionTimeout = repartitionTimeout
	if r.publisher, err = platform.NewPublisher(ctx, slow, r.old); err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	current, err := platform.Current(ctx, r.log, r.old)
	if err == nil && current.GetVersion() != r.update.Current.GetVersion() {
		err = txn.Errorf(txn.CodeAborted, "%s published version %d meanwhile; look at the difference again", current.GetAuthor(), current.GetVersion())
	}
	if err != nil {
		r.publisher.Close()
	}
	return err
}

// own makes this the only member of the processors' group. From then on no
// other's work can be committed.
func (r *repartition) own(ctx context.Context) (err error) {
	r.owned = map[stream.TopicPartition]bool{}
	var topics []string
	for _, c := range r.update.Current.GetConfig().GetConcerns() {
		topic := r.old.ProcessTopic(c.GetName())
		topics = append(topics, topic)
		for i := range c.GetPartitions() {
			r.all = append(r.all, stream.TopicPartition{Topic: topic, Partition: i})
		}
	}
	r.group, err = stream.NewGroup(r.log, stream.GroupConfig{Group: r.old.ProcessGroup(), Topics: topics}, r)
	if err != nil {
		return err
	}
	for !r.ownsAll() {
		if _, err := r.group.Poll(ctx, 1, 20*time.Millisecond); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return txn.Errorf(txn.CodeFailedPrecondition,
				"not all processors stopped in time: %d of %d partitions are still theirs. Nothing was changed; look for processes of an older version with the command \"status\"",
				len(r.all)-len(r.owned), len(r.all))
		}
	}
	return nil
}

func (r *repartition) ownsAll() bool {
	for _, tp := range r.all {
		if !r.owned[tp] {
			return false
		}
	}
	return true
}

// move does it, up to the commit. It returns nil if nothing was changed.
func (r *repartition) move(ctx context.Context) (*Repartitioned, error) {
	if err := r.own(ctx); err != nil {
		return nil, err
	}
	r.progress(fmt.Sprintf("processors stopped after %v", r.since()))
	failpoint.Hit(failpoint.RepartitionOwned)
	// This waits for what a former owner left open, so that the ends that are
	// read below are behind all that can ever count.
	committed, err := r.group.Committed(ctx, r.all)
	if err != nil {
		return nil, txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	offsets := map[stream.TopicPartition]int64{}
	for tp, at := range committed {
		offsets[tp] = max(at, 0)
	}
	version := &rkcyv1.PlatformVersion{
		Version: r.update.Current.GetVersion() + 1, Config: proto.CloneOf(r.update.Wanted), TimeMs: time.Now().UnixMilli(), Author: r.author,
		Reason: r.update.Reason,
	}
	done := &Repartitioned{Version: version, Moved: map[string]concern.Moved{}}
	var records []stream.Record
	for _, m := range r.update.Repartitions() {
		out, moved, err := r.moveConcern(ctx, m, version.GetConfig(), offsets)
		if err != nil {
			return nil, err
		}
		records = append(records, out...)
		done.Moved[m.Concern] = moved
		r.progress(fmt.Sprintf("%s: %d state records, %d changes that the primary target does not have yet, %d records that wait for a processor; after %v",
			m.Concern, moved.State, moved.Changes, moved.Process, r.since()))
	}
	last, err := platform.VersionRecord(r.old, version)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.RepartitionRead)
	_, err = r.publisher.CommitOnce(ctx, append(records, last), r.group, offsets)
	if err == nil {
		return done, nil
	}
	return r.ended(ctx, done, err)
}

// ended finds out what became of a switch whose commit brought an error.
func (r *repartition) ended(ctx context.Context, done *Repartitioned, failure error) (*Repartitioned, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), repartitionTimeout)
	defer cancel()
	// Another producer of the same id ends what was open.
	again, err := platform.NewPublisher(ctx, r.log, r.old)
	if err != nil {
		return nil, txn.Errorf(txn.CodeUnavailable, "the outcome of the switch is not known, run the command again: %w", errors.Join(failure, err))
	}
	again.Close()
	current, err := platform.Current(ctx, r.log, r.old)
	switch {
	case err != nil:
		return nil, txn.Errorf(txn.CodeUnavailable, "the outcome of the switch is not known, run the command again: %w", errors.Join(failure, err))
	case proto.Equal(current, done.Version):
		return done, nil
	default:
		return nil, txn.Errorf(txn.CodeAborted, "nothing was changed, try again: %w", failure)
	}
}

// moveConcern reads all that the old partitions of a Concern have. It completes
// config and offsets.
func (r *repartition) moveConcern(ctx context.Context, m platform.Repartition, config *rkcyv1.PlatformConfig, offsets map[stream.TopicPartition]int64) ([]stream.Record, concern.Moved, error) {
	from, to := r.topics(m.Concern, m.FromGeneration), r.topics(m.Concern, m.Generation)
	primary, _ := r.cfg.Primary()
	storage := make([]stream.TopicPartition, m.FromPartitions)
	for i := range storage {
		storage[i] = stream.TopicPartition{Topic: from.Storage, Partition: int32(i)} //nolint:gosec // below FromPartitions
	}
	applied, err := r.admin.GroupOffsets(ctx, r.old.StorageGroup(m.Concern, primary.Name), storage)
	if err != nil {
		return nil, concern.Moved{}, txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	mover := concern.NewMover(concern.Move{Concern: m.Concern, From: from, To: to, Partitions: m.Partitions, FromPartitions: m.FromPartitions})
	watermarks := make([]int64, m.FromPartitions)
	var mu sync.Mutex // of mover and offsets
	locked := func(fn func(stream.Record) error) func(stream.Record) error {
		return func(rec stream.Record) error {
			mu.Lock()
			defer mu.Unlock()
			return fn(rec)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range m.FromPartitions {
		watermarks[i] = max(applied[storage[i]], 0)
		at := func(topic string) stream.TopicPartition { return stream.TopicPartition{Topic: topic, Partition: i} }
		read := func(tp stream.TopicPartition, start int64, fn func(stream.Record) error) {
			g.Go(func() error {
				reader, err := stream.NewReader(r.log)
				if err != nil {
					return err
				}
				defer reader.Close()
				end, err := reader.ReadTo(gctx, tp, start, locked(fn))
				if err == nil && tp.Topic == from.Process {
					mu.Lock()
					defer mu.Unlock()
					offsets[tp] = max(end, start)
				}
				return err
			})
		}
		mu.Lock()
		begin := offsets[at(from.Process)]
		mu.Unlock()
		read(at(from.State), stream.OffsetBeginning, mover.State)
		read(at(from.Storage), max(watermarks[i]-movedBehind, 0), func(rec stream.Record) error { return mover.Change(rec, watermarks[i]) })
		read(at(from.Process), begin, mover.Process)
	}
	if err := g.Wait(); err != nil {
		return nil, concern.Moved{}, fmt.Errorf("read Concern %s: %w", m.Concern, err)
	}
	out, moved, err := mover.Records()
	if err != nil {
		return nil, moved, err
	}
	c, err := platform.ConcernOf(config, m.Concern)
	if err != nil {
		return nil, moved, err
	}
	retired := c.GetRetired()[len(c.GetRetired())-1]
	retired.StorageEnds, retired.TimeMs = mover.StorageEnds(watermarks), time.Now().UnixMilli()
	return out, moved, nil
}

// movedBehind is how far before the watermark is read, for the dedupe window.
const movedBehind = 1000

func (r *repartition) topics(name string, generation uint32) concern.Topics {
	return concern.Topics{
		Process: r.old.Of(name, platform.KindProcess, generation), State: r.old.Of(name, platform.KindState, generation),
		Storage: r.old.Of(name, platform.KindStorage, generation), Error: r.old.ErrorTopic(name),
	}
}

// resumed waits until processors have every partition again.
func (r *repartition) resumed(ctx context.Context, done *Repartitioned) error {
	if r.others == 0 {
		return nil
	}
	want := map[stream.TopicPartition]bool{}
	for _, c := range done.Version.GetConfig().GetConcerns() {
		for i := range c.GetPartitions() {
			want[stream.TopicPartition{Topic: r.now.ProcessTopic(c.GetName()), Partition: i}] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		info, err := r.admin.DescribeGroups(ctx, []string{r.old.ProcessGroup()})
		if err == nil {
			left := maps.Clone(want)
			for _, m := range info[r.old.ProcessGroup()].Members {
				for _, tp := range m.Partitions {
					delete(left, tp)
				}
			}
			if len(left) == 0 {
				done.Pause = time.Since(r.began)
				return nil
			}
			if ctx.Err() != nil {
				names := slices.SortedFunc(maps.Keys(left), func(a, b stream.TopicPartition) int { return int(a.Partition - b.Partition) })
				r.progress(fmt.Sprintf("no processor has taken %s[%d] and %d others yet", names[0].Topic, names[0].Partition, len(names)-1))
				return nil
			}
		}
		select {
		case <-ctx.Done():
			if err != nil {
				r.progress(fmt.Sprintf("whether processors have taken over could not be seen: %v", err))
				return nil
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r *repartition) since() time.Duration { return time.Since(r.began).Round(time.Millisecond) }
