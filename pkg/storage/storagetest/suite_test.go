package storagetest_test

import (
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
)

func TestMemory(t *testing.T) {
	storagetest.Run(t, func(_ *testing.T, mappings []storage.Mapping) storagetest.Target {
		return storagetest.NewMemory(mappings...)
	})
}
