package postgres

import (
	"errors"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
)

// A writer that is frozen in the middle of a transaction keeps the next one from
// taking over for a few seconds only, and writes nothing when it wakes up.
func TestFrozenWriterLetsGo(t *testing.T) {
	defer failpoint.Reset()
	k := storagetest.NewKind()
	cfg := Config{DSN: devpostgres.Test(t).NewDatabase(t), Mappings: storagetest.Mappings(k)}
	frozen, next := readyAt(t, cfg), open(t, cfg)
	there, wake := make(chan struct{}), make(chan struct{})
	failpoint.Set(failpoint.DatabaseBeforeCommit, 1, func() { close(there); <-wake })
	ended := make(chan error, 1)
	go func() {
		ended <- frozen.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", map[string]any{"user": "zombie"}), 1)))
	}()
	<-there
	if err := next.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", map[string]any{"user": "heir"}), 1))); err != nil {
		t.Errorf("the next writer: %v", err)
	}
	close(wake)
	if err := <-ended; err == nil || errors.Is(err, storage.ErrPermanent) {
		t.Errorf("the frozen writer's commit gave %v, want an error that is tried again", err)
	}
	err := frozen.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", map[string]any{"user": "zombie"}), 1)))
	if !errors.Is(err, storage.ErrStale) {
		t.Errorf("it tried again: %v, want %v", err, storage.ErrStale)
	}
	found, err := next.Load(t.Context(), storagetest.First, []string{"a"})
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	want := storagetest.Put(k.Thing("a", map[string]any{"user": "heir"}), 1).GetAfter().GetValue()
	if string(found["a"].GetValue()) != string(want) {
		t.Errorf("the row is %q, want %q", found["a"].GetValue(), want)
	}
}
