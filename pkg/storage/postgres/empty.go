package postgres

import (
	"context"
	"fmt"
	"strings"
)

// Empty deletes the rows of every table of the mappings, and all watermarks, in one
// transaction. It is for a platform that is thrown away: its topics begin anew, and
// an old watermark would hide what they have.
func (t *Target) Empty(ctx context.Context) error {
	names := []string{watermarkTable}
	for _, m := range t.cfg.Mappings {
		names = append(names, quote(m.Table))
		for _, c := range m.Children {
			names = append(names, quote(c.Table))
		}
	}
	// One statement is one transaction, and minds foreign keys between them. A table
	// of others that refers to one of them is a reason to refuse.
	if _, err := t.pool.Exec(ctx, "TRUNCATE "+strings.Join(names, ", ")); err != nil {
		return fmt.Errorf("postgres: empty %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}
