// Package handler holds what generated code needs to make a concern.Definition
// of a handler. People who write handlers do not call it.
//
//	if v, ok := handler.Optional[interface {
//		ValidateCreate(concern.Context, *Account) error
//	}](h); ok {
//		d.ValidateCreate = …
//	}
//
// It imports nothing of the platform.
package handler
