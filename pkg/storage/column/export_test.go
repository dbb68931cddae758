package column

// WithoutPlans returns the codec that asks protojson for all JSON.
func (c *Codec) WithoutPlans() *Codec {
	bare := *c
	bare.planned = make([]plannedField, len(c.fields))
	return &bare
}

// Planned returns the names of the fields whose JSON is made without protojson.
func (c *Codec) Planned() (names []string) {
	for _, f := range c.planned {
		if f.fd != nil {
			names = append(names, string(f.fd.Name()))
		}
	}
	return names
}
