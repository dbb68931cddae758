package concern

// WithoutHolds returns a configuration of processors that isolate nothing.
func WithoutHolds(cfg Config) Config {
	cfg.holdsOff = true
	return cfg
}
