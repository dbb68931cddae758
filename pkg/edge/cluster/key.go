package cluster

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// NewKey returns a new key, as a line of a key file.
func NewKey() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails, as documented
	return base64.StdEncoding.EncodeToString(key[:])
}

// ParseKeys reads a key file: one key a line, in base64; # begins a comment. The
// first key encrypts. To change it, add the new one at the end everywhere, move it
// to the front everywhere, then remove the old one.
func ParseKeys(file []byte) ([][]byte, error) {
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = memberlist.ValidateKey(key)
		}
		if err != nil {
			// Without the line itself: it may be a key.
			return nil, txn.Errorf(txn.CodeInvalidArgument, "key file: line %d is not a key of 16, 24 or 32 bytes in base64", n)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "key file: %w", err)
	}
	if len(keys) == 0 {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "key file: there is no key in it")
	}
	return keys, nil
}

// SetKeys replaces the keys, the first being the one that encrypts. It needs a
// cluster that was opened with keys.
func (c *Cluster) SetKeys(keys [][]byte) error {
	if c.keys == nil || len(keys) == 0 {
		return txn.Errorf(txn.CodeFailedPrecondition, "cluster: a node changes its keys, it cannot begin or end to have some")
	}
	for _, key := range keys {
		if err := c.keys.AddKey(key); err != nil {
			return txn.Errorf(txn.CodeInvalidArgument, "cluster: %w", err)
		}
	}
	if err := c.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	for _, old := range c.keys.GetKeys() {
		if !containsKey(keys, old) {
			if err := c.keys.RemoveKey(old); err != nil {
				return fmt.Errorf("cluster: %w", err)
			}
		}
	}
	return nil
}

func containsKey(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}
